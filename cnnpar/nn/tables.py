"""Layers from the tables of a configuration or checkpoint: types, keys, names and shapes are checked."""

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_type_hints

import msgspec

from cnnpar.config.float32 import unfit_numbers
from cnnpar.errors import InputError
from cnnpar.fingerprint import is_users
from cnnpar.nn.layers import LAYERS, BatchNorm2D, Dense, Layer
from cnnpar.nn.residual import SHORTCUT, Residual
from cnnpar.nn.shapes import Shape
from cnnpar.text import did_you_mean, one_line, shown

# Limits beyond any network that is meant. Within them, sizes and names can be computed and printed in messages.
_MOST_LAYERS = 1000
_DEEPEST = 3  # levels of layers within layers
_LARGEST_SETTING = 2**53
_MOST_NUMBERS = 2**26  # of one sample between two layers: 256 MiB
_NAME = re.compile("[A-Za-z][A-Za-z0-9_-]{0,99}")


def layers_from_tables(
    tables: Sequence[Mapping[str, Any]], input_shape: tuple[int, int, int], classes: int
) -> list[Layer]:
    """Return layers with every setting and name filled in, from images (H, W, C) to logits (classes,).

    Raises InputError that names the layer and what is wrong: its type, a key, a name, or a shape that does not fit.
    """
    layers = named_layers(tables, classes)
    shape: Shape = input_shape
    for number, layer in enumerate(layers, 1):
        try:
            shape = layer.output_shape(shape)
        except InputError as error:
            raise InputError(f"layer {number} ({layer.name}): {error}") from None
    if shape != (classes,):
        last = f"layer {len(layers)} ({layers[-1].name})" if layers else "a network without layers"
        raise InputError(
            f"{last}: the network's output is {shape}, but {classes} classes need ({classes},); "
            "end with a layer of type `dense` without `units`"
        )
    return layers


def check_sizes(layers: Sequence[Layer], input_shape: tuple[int, int, int]) -> None:
    """Raise InputError where one sample, or the output of a layer for it, has more than 2^26 numbers."""
    shape: Shape = input_shape
    shapes = [("an image", shape)]
    for number, layer in enumerate(layers, 1):
        held, shape = layer.held_shape(shape), layer.output_shape(shape)
        shapes.append((f"the output of layer {number} ({layer.name})", shape))
        shapes.append((f"what layer {number} ({layer.name}) holds, with the zeros around it,", held))
    for place, shape in shapes:
        if math.prod(shape) > _MOST_NUMBERS:
            raise InputError(
                f"{place} is {shape}: more than {_MOST_NUMBERS:,} numbers; pad or upsample less, or pool before it"
            )


def check_statistics(layers: Sequence[Layer], shape: Shape, frozen: frozenset[str], within: str = "") -> None:
    """Raise InputError where a channel of a batch normalisation is a single number in a sample of `shape`.

    Layers whose parameters and buffers are all `frozen` (names) take no statistics, and may have such inputs. `within`:
    the beginning of the names.
    """
    for layer in layers:
        name = within + layer.name
        if isinstance(layer, BatchNorm2D) and math.prod(shape[:2]) == 1:
            own = (f"{name}.{part}" for part in (*layer.parameters(shape), *layer.buffers(shape)))
            if not frozen.issuperset(own):
                raise InputError(
                    f"{name}: its input is {shape}: in a microbatch of one sample each channel is a single number, "
                    "which has no variance; choose train.batch_size and train.microbatch so that no sample is alone"
                )
        if isinstance(layer, Residual):
            for branch, inner in layer.branches().items():
                check_statistics(inner, shape, frozen, f"{name}.{branch}." if branch else f"{name}.")
        shape = layer.output_shape(shape)


def check_numbers(layers: Sequence[Layer], within: str = "") -> None:
    """Raise InputError for a setting that float32 does not hold; users' layers may compute in float64."""
    for layer in layers:
        name = within + layer.name
        for key, why in () if is_users(type(layer)) else unfit_numbers(layer):
            raise InputError(f"{name}: `{key}` {why}")
        if isinstance(layer, Residual):
            for branch, inner in layer.branches().items():
                check_numbers(inner, f"{name}.{branch}." if branch else f"{name}.")


def named_layers(tables: Sequence[Mapping[str, Any]], classes: int, within: str = "", depth: int = 0) -> list[Layer]:
    """Return layers with settings, names and units filled in; their shapes are not checked.

    `within` is the place for messages, and `depth` the level, of layers within a layer. Raises InputError.
    """
    layers: list[Layer] = []
    counts: dict[str, int] = {}
    places: dict[str, str] = {}  # of the layers so far, by name
    if len(tables) > _MOST_LAYERS:
        raise InputError(f"{within}the network has {len(tables):,} layers, and {_MOST_LAYERS:,} are the most")
    if depth > _DEEPEST:
        raise InputError(f"{within}layers within layers within layers: {_DEEPEST} levels are the most")
    given = [table.get("name") for table in tables if isinstance(table, Mapping)]
    for number, table in enumerate(tables, 1):
        place = f"{within}layer {number}"
        if not isinstance(table, Mapping):
            raise InputError(f"{place}: {shown(table)} is no table with a `type`")
        layer = _layer(table, place)
        counts[layer.kind] = counts.get(layer.kind, 0) + 1
        if not layer.name:
            free = (f"{layer.kind}{count}" for count in itertools.count(counts[layer.kind]))
            layer = msgspec.structs.replace(layer, name=next(n for n in free if n not in places and n not in given))
        if depth and layer.name == SHORTCUT:
            raise InputError(
                f"{place}: `{SHORTCUT}` is what the way around these layers is called; choose another name"
            )
        if layer.name in places:
            raise InputError(f"{place} ({layer.name}): {places[layer.name]} has the same name; names must differ")
        places[layer.name] = place
        if isinstance(layer, Dense) and layer.units is msgspec.UNSET:
            layer = msgspec.structs.replace(layer, units=classes)
        if isinstance(layer, Residual):
            block = f"{place} ({layer.name})"
            layer = msgspec.structs.replace(
                layer,
                layers=tuple(named_layers(layer.layers, classes, f"{block}, layers: ", depth + 1)),
                shortcut=tuple(named_layers(layer.shortcut, classes, f"{block}, shortcut: ", depth + 1)),
            )
        layers.append(layer)
    return layers


def check_tables(tables: Sequence[Mapping[str, Any]], source: str) -> None:
    """Raise InputError, which begins with the source, where a layer's type, key or name is wrong; shapes may be."""
    try:
        named_layers(tables, classes=1)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None


def _layer(table: Mapping[str, Any], place: str) -> Layer:
    """Return the layer of one table. Raises InputError that says what is wrong and what is allowed."""
    kind = table.get("type")
    cls = LAYERS.get(kind) if isinstance(kind, str) else None
    if cls is None:
        known = f"types are {', '.join(sorted(LAYERS))}"
        alike = did_you_mean(kind, LAYERS)
        if not isinstance(kind, str):
            raise InputError(f"{place}: {'no `type`' if kind is None else f'unknown type {shown(kind)}'}; {known}")
        raise InputError(
            f"{place}: unknown type {shown(kind)}{alike}; {known}; one of your own must be registered first: in "
            "Python, import the module that defines it before cnnpar.train or cnnpar.load (commands and files import "
            "nothing)"
        )
    unknown = [key for key in table if key not in (*cls.__struct_fields__, "type")]
    if unknown:
        alike = did_you_mean(unknown[0], cls.__struct_fields__)
        keys = ", ".join(("type", *cls.__struct_fields__))
        raise InputError(f"{place} ({kind}): unknown key {shown(unknown[0])}{alike}; keys are {keys}")
    try:
        layer = msgspec.convert(dict(table), cls)
    except msgspec.ValidationError as error:
        raise InputError(f"{place} ({kind}): {_explain(error, cls)}") from None
    if layer.name and not _NAME.fullmatch(layer.name):
        raise InputError(f"{place} ({kind}): `name` is a letter, then at most 99 letters, digits, `_` or `-`")
    for key, value in msgspec.structs.asdict(layer).items():
        if any(
            isinstance(part, int) and part > _LARGEST_SETTING
            for part in (value if isinstance(value, tuple) else (value,))
        ):
            raise InputError(f"{place} ({kind}): `{key}` is at most {_LARGEST_SETTING:,}")
    return layer


def _explain(error: msgspec.ValidationError, cls: type[Layer]) -> str:
    """Return msgspec's message in our words, with the allowed values where there is a list of them."""
    message = str(error).replace("Object missing required field", "missing key")
    message, _, key = message.partition(" - at `$.")
    message = one_line(message[:1].lower() + message[1:])
    if not key:
        return message
    hint = get_type_hints(cls).get(key.rstrip("`").partition("[")[0])
    choices = [choice for option in (hint, *get_args(hint)) for choice in get_args(option) if isinstance(choice, str)]
    if "enum" not in message:
        return f"{message} at `{key}"
    alike = did_you_mean(message.partition("'")[2].rstrip("'"), choices)
    return f"{message}{alike} at `{key}; allowed: {', '.join(choices)}"
