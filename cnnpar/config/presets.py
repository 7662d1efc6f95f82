"""Presets: `[model] preset = "resnet20"` stands for the layers of cnnpar/config/presets/resnet20.toml.

`resolve` replaces the name by the layers, so a run, its config.toml and its checkpoints hold only layers.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnnpar.errors import InputError
from cnnpar.text import did_you_mean

_FOLDER = Path(__file__).with_name("presets")
PRESETS = tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def preset_layers(name: object) -> list[dict[str, Any]]:
    """Return the layers of a preset as TOML tables. Raises InputError, which lists all presets, for an unknown name."""
    if name not in PRESETS:
        raise InputError(f"no preset {name!r}{did_you_mean(name, PRESETS)}; there are {', '.join(PRESETS)}")
    import tomllib  # here, as no help needs it

    layers: list[dict[str, Any]] = tomllib.loads((_FOLDER / f"{name}.toml").read_text(encoding="utf-8"))["layers"]
    return layers


def preset_of(layers: Sequence[dict[str, Any]]) -> str | None:
    """Return the name of the preset that has these layers, if there is one."""
    return next((name for name in PRESETS if preset_layers(name) == [*layers]), None)
