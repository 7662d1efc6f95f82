"""Settings that float32 does not hold are refused where they are given, by name and value, and by nothing else."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec
import numpy as np
import pytest

from cnnpar.config.float32 import LARGEST, SMALLEST, Factor, unfit
from cnnpar.config.resolve import resolve
from cnnpar.config.sections import Config
from cnnpar.errors import InputError
from cnnpar.nn.layers import LAYERS
from cnnpar.nn.network import Network
from cnnpar.storage.checkpoint import encode, read
from cnnpar.storage.packing import unpack
from tests.helpers.checkpoints import made_state, packed
from tests.helpers.tiny_runs import LAYERS as TINY

COMPUTED = ("augment", "loss", "train", "optimizer", "schedule")


def of_numbers(kind: type[msgspec.Struct]) -> Iterator[tuple[str, Any]]:
    """Yield the settings of a struct that are numbers of float64, with their types."""
    for key, hint in get_type_hints(kind, include_extras=True).items():
        bare = get_args(hint)[0] if get_origin(hint) is Annotated else hint
        if key in kind.__struct_fields__ and bare is float:
            yield key, hint


SETTINGS = [
    (section, kind, key, hint)
    for section in COMPUTED
    for kind in get_args(get_type_hints(Config)[section]) or (get_type_hints(Config)[section],)
    for key, hint in of_numbers(kind)
]
OF_LAYERS = [(name, key, hint) for name, cls in sorted(LAYERS.items()) for key, hint in of_numbers(cls)]
NETWORKS: dict[str, list[dict[str, Any]]] = {
    name: [{"type": "flatten"}, {"type": name}, {"type": "dense"}] for name in LAYERS
}
NETWORKS["batchnorm2d"] = [{"type": "batchnorm2d"}, {"type": "flatten"}, {"type": "dense"}]
NETWORKS["groupnorm"] = [{"type": "flatten"}, {"type": "groupnorm", "groups": 1}, {"type": "dense"}]


def test_the_bounds_are_those_of_float32() -> None:
    assert float(np.finfo(np.float32).tiny) == SMALLEST
    assert float(np.finfo(np.float32).max) == LARGEST
    below = next(number for number in np.nextafter(1, 0) - np.arange(1, 9) * 2.0**-26 if not unfit(number, True))
    assert np.float32(below) < 1
    assert unfit(1 - 2.0**-25, True)
    assert np.float32(1 - 2.0**-25) == 1
    assert not any(map(unfit, (0.0, SMALLEST, 1 - 1e-12, 1.0, LARGEST)))


@pytest.mark.parametrize(
    ("section", "kind", "key", "hint"), SETTINGS, ids=[f"{kind.__name__} {key}" for _, kind, key, _ in SETTINGS]
)
def test_a_setting_beyond_float32_is_refused(section: str, kind: type[msgspec.Struct], key: str, hint: Any) -> None:
    tag = kind.__struct_config__.tag
    table = {"type": tag} if tag else {}
    for bad in (1e-300, 1e300, *([0.99999999] if hint == Factor else [])):
        if (key, bad) == ("warmup_epochs", 1e300):
            continue  # refused as longer than the run
        words = rf"^--set {section}\.{key}={re.escape(str(bad))}: (expected a number|.* float32)"
        with pytest.raises(InputError, match=words) as caught:
            resolve({section: table}, [f"{section}.{key}={bad}"])
        assert "\n" not in str(caught.value)


def test_numbers_in_lists_are_looked_at_too() -> None:
    with pytest.raises(InputError, match=r"loss\.class_weights\[1\]: 1e\+300 is too large for float32"):
        resolve({"loss": {"class_weights": [1, 1e300]}})
    with pytest.raises(InputError, match=r"schedule\.points\[1\]\[1\]: 1e-300 is too small for float32"):
        resolve({"schedule": {"type": "piecewise", "points": [[0, 1], [0.5, 1e-300]]}})
    for factor in (1e-37, 1e37):
        steep = {"optimizer": {"learning_rate": factor}, "schedule": {"type": "piecewise", "points": [[0, factor]]}}
        with pytest.raises(InputError, match=r"schedule\.points: the highest learning rate, .* float32"):
            resolve(steep)


@pytest.mark.parametrize(("name", "key", "hint"), OF_LAYERS)
def test_a_layers_setting_beyond_float32_is_refused(name: str, key: str, hint: Any) -> None:
    for bad in (1e-300, *([0.99999999] if hint == Factor else [])):
        layers = [{**layer, **({key: bad} if layer["type"] == name else {})} for layer in NETWORKS[name]]
        config = resolve({"model": {"layers": layers}})
        with pytest.raises(InputError, match=rf"^{LAYERS[name].kind}1: `{key}` {bad} is "):
            Network.from_config(config, (8, 8, 1), 3)
        within = resolve({"model": {"layers": [*TINY[:4], {"type": "residual", "layers": layers[:1]}, *TINY[4:]]}})
        if layers[0]["type"] == name and name != "batchnorm2d":
            with pytest.raises(InputError, match=rf"^residual1\.{LAYERS[name].kind}1: `{key}`"):
                Network.from_config(within, (8, 8, 1), 3)


def test_unusual_settings_with_a_meaning_are_taken() -> None:
    resolve({"checkpoint": {"every_seconds": 1e300}})  # never
    resolve({"optimizer": {"type": "adam", "beta2": 0.99999999}, "train": {"ema_decay": 0.99999999}})
    resolve({"train": {"clip_norm": 1e30}, "loss": {"class_weights": [0, 1e-30]}, "optimizer": {"learning_rate": 1e9}})
    resolve({"optimizer": {"learning_rate": 0.99999999}})


def test_a_checkpoint_with_such_settings_stays_readable(tmp_path: Path) -> None:
    payload = packed(made_state())
    old = msgspec.structs.replace(payload.config.optimizer, learning_rate=1e-300)
    payload = msgspec.structs.replace(payload, config=msgspec.structs.replace(payload.config, optimizer=old))
    (tmp_path / "model.json").write_bytes(encode(payload))
    assert unpack(read(tmp_path / "model.json"), "")[1].step == made_state().step
