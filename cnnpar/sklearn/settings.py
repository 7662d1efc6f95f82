"""Settings of a run from the parameters of an estimator."""

from collections.abc import Mapping
from typing import Any

from cnnpar.config.data import GIVEN
from cnnpar.config.plain import plain
from cnnpar.config.presets import preset_layers
from cnnpar.config.resolve import Option, resolve
from cnnpar.config.sections import DEFAULT_LAYERS, Config
from cnnpar.errors import InputError
from cnnpar.sklearn.images import Shape
from cnnpar.text import shown

_SMALLEST_POOLED = 4  # height and width of images that both pools of the default network fit
_PLACES = {  # parameter to (section, key)
    "layers": ("model", "layers"),
    "init_from": ("model", "init_from"),
    "epochs": ("train", "epochs"),
    "batch_size": ("train", "batch_size"),
    "random_state": ("train", "seed"),
    "optimizer": ("optimizer", "type"),
    "learning_rate": ("optimizer", "learning_rate"),
    "workers": ("engine", "workers"),
}
_MAY_BE_NONE = ("init_from", "learning_rate")
_PARAMETER_OF = {
    **{place: name for name, place in _PLACES.items()},
    ("model", "preset"): "layers",
    ("data", "shape"): "image_shape",
    **{("data", key): "X" for key in ("name", "train", "test")},
}


def settings(parameters: Mapping[str, Any], seed: int, shape: Shape) -> Config:
    """Return the settings of a run on images of a shape, nothing held out for validation unless `config` says so.

    `parameters`: as `get_params` gives them, but for `random_state`, in whose place there is `seed`. Raises InputError
    that names the parameter.
    """
    values = {**parameters, "layers": _layers(parameters["layers"], shape), "random_state": seed}
    tables = _further(parameters["config"])
    tables["data"] = {"validation": 0.0, **tables.get("data", {}), "name": GIVEN}
    tables["optimizer"] = {**tables.get("optimizer", {}), "type": values["optimizer"]}  # whose settings these are
    options = [
        Option(f"{name}={shown(values[name])}", *place, plain(values[name]))
        for name, place in _PLACES.items()
        if values[name] is not None or name not in _MAY_BE_NONE
    ]
    return resolve(tables, source="config", options=options).absolute()


def _layers(layers: Any, shape: Shape) -> Any:
    """Return the layers that the parameter means. Raises InputError for the name of no preset."""
    if isinstance(layers, str):
        try:
            return preset_layers(layers)
        except InputError as error:
            raise InputError(f"layers: {error}") from None
    if layers is not None:
        return layers
    pooled = min(shape[:2]) >= _SMALLEST_POOLED
    return [layer for layer in DEFAULT_LAYERS if pooled or layer["type"] != "maxpool2d"]


def _further(config: Any) -> dict[str, dict[str, Any]]:
    """Return the tables of `config`. Raises InputError where one of its settings is a parameter."""
    tables = plain(config or {})
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise InputError(
            f'config: {shown(config)} is no dictionary of dictionaries, such as {{"augment": {{"shift": 1}}}}'
        )
    for section, table in tables.items():
        for key in table:
            if name := _PARAMETER_OF.get((section, key)):
                raise InputError(f"config: {section}.{key} is the argument {name}; leave it out of config")
    return tables
