"""From the tables of a configuration or checkpoint to layers that fit each other, or to an error that says what."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_type_hints

import msgspec

from cnnpar.errors import InputError
from cnnpar.nn.kernels import Shape
from cnnpar.nn.layers import LAYERS, Dense, Layer


def layers_from_tables(
    tables: Sequence[Mapping[str, Any]], input_shape: tuple[int, int, int], classes: int
) -> list[Layer]:
    """The layers with every setting and name filled in, for images (H, W, C) of so many classes.

    Raises InputError that names the layer and what is wrong: its type, a key, a name, or a shape that does not fit.
    """
    shape: Shape = input_shape
    layers: list[Layer] = []
    counts: dict[str, int] = {}
    for index, table in enumerate(tables):
        layer = _layer(table, index)
        counts[layer.kind] = counts.get(layer.kind, 0) + 1
        if not layer.name:
            layer = msgspec.structs.replace(layer, name=f"{layer.kind}{counts[layer.kind]}")
        if isinstance(layer, Dense) and layer.units is msgspec.UNSET:
            layer = msgspec.structs.replace(layer, units=classes)
        place = f"layer {index + 1} ({layer.name})"
        for other, earlier in enumerate(layers):
            if earlier.name == layer.name:
                raise InputError(f"{place}: layer {other + 1} has the same name; names must differ")
        try:
            shape = layer.output_shape(shape)
        except InputError as error:
            raise InputError(f"{place}: {error}") from None
        layers.append(layer)
    if shape != (classes,):
        last = f"layer {len(layers)} ({layers[-1].name})" if layers else "a network without layers"
        raise InputError(
            f"{last}: the network's output is {shape}, but {classes} classes need ({classes},); "
            "end with a layer of type `dense` without `units`"
        )
    return layers


def _layer(table: Mapping[str, Any], index: int) -> Layer:
    """The settings of one layer, checked. Raises InputError that says what is allowed."""
    place, kind = f"layer {index + 1}", table.get("type")
    cls = LAYERS.get(kind) if isinstance(kind, str) else None
    if cls is None:
        given = "no `type`" if kind is None else f"unknown type {kind!r}"
        raise InputError(f"{place}: {given}; types are {', '.join(sorted(LAYERS))}")
    unknown = [key for key in table if key not in (*cls.__struct_fields__, "type")]
    if unknown:
        raise InputError(
            f"{place} ({kind}): unknown key {unknown[0]!r}; keys are type, {', '.join(cls.__struct_fields__)}"
        )
    try:
        return msgspec.convert(dict(table), cls)
    except msgspec.ValidationError as error:
        raise InputError(f"{place} ({kind}): {_explain(error, cls)}") from None


def _explain(error: msgspec.ValidationError, cls: type[Layer]) -> str:
    """msgspec's message in our words, with the allowed values where there is a list of them."""
    message = str(error).replace("Object missing required field", "missing key")
    message, _, key = message.partition(" - at `$.")
    message = message[:1].lower() + message[1:]
    if not key:
        return message
    hint = get_type_hints(cls)[key.rstrip("`").partition("[")[0]]
    choices = [choice for option in (hint, *get_args(hint)) for choice in get_args(option) if isinstance(choice, str)]
    return f"{message} at `{key}" + (f"; allowed: {', '.join(choices)}" if "enum" in message else "")
