"""Networks by name: `[model] preset = "resnet20"` stands for the layers of cnnpar/config/presets/resnet20.toml.

They are filled in when settings are resolved: a run, its config.toml and its checkpoints know only layers.
"""

import tomllib
from pathlib import Path
from typing import Any

from cnnpar.errors import InputError

_FOLDER = Path(__file__).with_name("presets")
PRESETS = tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def preset_layers(name: object) -> list[dict[str, Any]]:
    """The layers of a preset, as tables. Raises InputError that lists the known ones."""
    if name not in PRESETS:
        raise InputError(f"no preset {name!r}; there are {', '.join(PRESETS)}")
    layers: list[dict[str, Any]] = tomllib.loads((_FOLDER / f"{name}.toml").read_text(encoding="utf-8"))["layers"]
    return layers
