"""Whole numbers: every option of a command, and every setting, that means one takes nothing else."""

from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest

from cnnpar.cli.inspect import inspect
from cnnpar.cli.kernels import kernels
from cnnpar.cli.lr_find import lr_find
from cnnpar.cli.test import evaluate
from cnnpar.cli.train import train
from cnnpar.config.resolve import resolve
from cnnpar.config.sections import Config
from cnnpar.errors import InputError
from cnnpar.nn.layers import LAYERS
from cnnpar.nn.tables import named_layers
from tests.helpers.commands import call

COMMANDS: dict[str, Callable[..., int]] = {
    "train": train,
    "test": evaluate,
    "inspect": inspect,
    "lr-find": lr_find,
    "kernels": kernels,
}
NEEDED = {"test": ["--from-path", "absent.json"], "inspect": ["absent.toml"]}
REQUIRED = {"channels": 2, "groups": 1}  # settings of layers without defaults


def is_whole(hint: Any) -> bool:
    """Tell whether values of a type are whole numbers, also among others, or in tuples."""
    origin = get_origin(hint)
    if origin is Annotated:
        return is_whole(get_args(hint)[0])
    if origin in (Union, UnionType, tuple):
        return any(map(is_whole, get_args(hint)))
    if origin is Literal:
        return all(type(choice) is int for choice in get_args(hint))
    return hint is int


def options() -> Iterator[tuple[str, str]]:
    for name, function in COMMANDS.items():
        for parameter, hint in get_type_hints(function, include_extras=True).items():
            kind = get_args(hint)[0] if get_origin(hint) is Annotated else hint
            fields = get_type_hints(kind, include_extras=True) if is_dataclass(kind) else {parameter: hint}
            for field, own in fields.items():
                if (is_whole(own) or field == "workers") and parameter != "return":
                    yield name, f"--{field.replace('_', '-')}"


def test_options_of_whole_numbers_are_found() -> None:
    found = set(options())
    assert ("train", "--epochs") in found
    assert ("train", "--augmenter-ratio") in found
    assert ("lr-find", "--steps") in found
    assert ("test", "--workers") in found
    assert ("inspect", "--classes") in found
    assert ("train", "--json") not in found


@pytest.mark.parametrize("value", ["2.9", "2.0", "1e3", "true", "0x10", "1_0", "", "٣"])
@pytest.mark.parametrize(("command", "option"), sorted(set(options())))
def test_an_option_takes_nothing_but_whole_numbers(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    option: str,
    value: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("cnnpar", command, *NEEDED.get(command, []), f"{option}={value}") == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    few = option in ("--channels", "--augmenter-ratio")
    assert err.startswith(f"cnnpar: error: {option} {value}: expected {'1 (' if few else 'a '}")
    assert not list(tmp_path.iterdir())


def settings() -> Iterator[tuple[str, str, str, Any]]:
    """Yield section, type, key, and the type of its values, of each setting of whole numbers."""
    for section, hint in get_type_hints(Config).items():
        for kind in get_args(hint) or (hint,):
            for key, own in get_type_hints(kind, include_extras=True).items():
                if key in kind.__struct_fields__ and is_whole(own):
                    yield section, str(kind.__struct_config__.tag or ""), key, own


SETTINGS = list(settings())


@pytest.mark.parametrize(
    ("section", "kind", "key", "hint"), SETTINGS, ids=[f"{section} {kind} {key}" for section, kind, key, _ in SETTINGS]
)
def test_a_setting_takes_nothing_but_whole_numbers(section: str, kind: str, key: str, hint: Any) -> None:
    several = get_origin(hint) is tuple
    table = {"type": kind} if kind else {}
    good = 1
    assert getattr(resolve({section: {**table, key: [8, 8] if several else good}}), section)
    for bad in (2.0, 2.5, 1e3, True, "1"):
        with pytest.raises(InputError, match=key) as caught:
            resolve({section: {**table, key: [8, bad] if several else bad}})
        assert "\n" not in str(caught.value)
        if not several and not isinstance(bad, str):
            with pytest.raises(InputError, match=rf"^--set {section}\.{key}={bad}: ".replace("True", "true")):
                resolve({section: table}, [f"{section}.{key}={str(bad).lower()}"])


def layers() -> Iterator[tuple[str, str]]:
    for name, cls in sorted(LAYERS.items()):
        if cls.__module__.startswith("cnnpar."):
            yield from ((name, key) for key, hint in get_type_hints(cls).items() if is_whole_setting(cls, key, hint))


def is_whole_setting(cls: type[msgspec.Struct], key: str, hint: Any) -> bool:
    return key in cls.__struct_fields__ and is_whole(hint)


@pytest.mark.parametrize(("kind", "key"), list(layers()))
def test_a_layers_setting_takes_nothing_but_whole_numbers(kind: str, key: str) -> None:
    needed = {name: value for name, value in REQUIRED.items() if name in LAYERS[kind].__struct_fields__}
    good = 0 if key == "output_padding" else 1
    named_layers([{"type": kind, **needed, key: good}], 2)
    for bad in (2.0, 2.5, 1e3, True, "1", [1, 1.0]):
        with pytest.raises(InputError, match=f"`{key}") as caught:
            named_layers([{"type": kind, **needed, key: bad}], 2)
        assert "\n" not in str(caught.value)
