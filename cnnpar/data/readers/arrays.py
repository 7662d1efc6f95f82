"""Arrays as samples: the names of files' arrays, and which shapes are those of images."""

import math
from collections.abc import Callable, Iterable
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnpar.data.readers.files import Part
from cnnpar.errors import InputError
from cnnpar.text import dimensions, harmless, listed, shown

_ANY_PART = (("images", "labels"), ("x", "y"), ("data", "labels"), ("data", "target"))
_OWN: dict[Part, tuple[tuple[str, str], ...]] = {
    "train": (("x_train", "y_train"), ("train_images", "train_labels"), ("train_x", "train_y")),
    "validation": (
        *(("x_val", "y_val"), ("val_images", "val_labels"), ("val_x", "val_y"), ("x_valid", "y_valid")),
        *(("valid_images", "valid_labels"), ("x_validation", "y_validation")),
    ),
    "test": (("x_test", "y_test"), ("test_images", "test_labels"), ("test_x", "test_y")),
}
_CHANNELS = (1, 3, 4)  # of pictures: grey, colour, colour with transparency
_FEW = 5  # channels, where a number may be that of channels or the height
_LONGEST_NAME, _MOST_NAMED = 40, 4  # characters of an array's name; arrays that are named of those left


def pair_of(source: str, part: Part, names: Iterable[str]) -> tuple[str, str]:
    """Return the names of images and labels of a part among those of a file's arrays, in capitals or not.

    Raises InputError where there are none.
    """
    there = {name.lower(): name for name in names}
    pairs = (*_OWN[part], *_ANY_PART)
    for images, labels in pairs:
        if images in there and labels in there:
            return there[images], there[labels]
    held = harmless(listed([name[:_LONGEST_NAME] for name in there.values()])) or "nothing"
    raise InputError(f"{source}: holds {held}; expected {', or '.join(' and '.join(pair) for pair in pairs)}")


def other_parts(names: Iterable[str]) -> frozenset[Part]:
    """Return the parts besides the training's that a file has arrays of their own for, by their names."""
    there = {name.lower() for name in names}
    parts: tuple[Part, ...] = ("validation", "test")
    return frozenset(part for part in parts if any(there >= set(pair) for pair in _OWN[part]))


def taken(part: Part, names: Iterable[str]) -> str:
    """Say which of a file's arrays are images and labels of a part, and which are of no part. Raises as `pair_of`."""
    names = [*names]
    used = {part: pair_of("", part, names) for part in (part, *other_parts(names))}
    left = [name for name in names if name not in {name for pair in used.values() for name in pair}]
    images, labels, *others = (f"'{harmless(name[:_LONGEST_NAME])}'" for name in (*used[part], *left))
    return f"arrays {images} and {labels}" + (f", not {listed(others, _MOST_NAMED)}" if others else "")


def images_among(
    source: str, names: Iterable[str], shape_of: Callable[[str], tuple[int, ...]], wanted: tuple[int, int, int]
) -> str:
    """Return the name of the array that holds images to predict: a usual one, or of the only array of their shape.

    `shape_of`: gives the shape of one of a file's arrays. `wanted`: (H, W, C) of an image. Raises InputError where
    there is none.
    """
    there = {name.lower(): name for name in names}
    usual = [*dict.fromkeys(images for images, _ in (*_OWN["test"], *_ANY_PART))]
    found = [there[name] for name in usual if name in there]
    if not found:
        found = [name for name in there.values() if shape_of(name)[1:] in _shapes_of(wanted)]
    if not found or (len(found) > 1 and found[0].lower() not in usual):
        held = harmless(listed([name[:_LONGEST_NAME] for name in there.values()])) or "nothing"
        what = f"expected {', '.join(usual)}, or one array of {dimensions(wanted)} images"
        raise InputError(f"{source}: holds {held}; {what}")
    return found[0]


def as_whole(shape: tuple[int, ...], kind: str, wanted: tuple[int, int, int], source: str) -> tuple[int, int, int, int]:
    """Return the shape (N, H, W, C) of an array of images of a known shape; one image has none for N, grey ones for C.

    `kind`: the letter of numpy for its type. Raises InputError for others, which says both sizes.
    """
    if kind not in "buif":
        raise InputError(f"{source} holds no numbers; expected whole numbers or floats")
    if shape in _shapes_of(wanted):
        shape = (1, *shape)
    if not shape or shape[1:] not in _shapes_of(wanted):
        takes = f"(N, {', '.join(map(str, wanted))})"
        hint = (channels_hint(shape, wanted) if len(shape) == 4 or wanted[2] > 1 else "") or rows_hint(shape, wanted)
        raise InputError(f"{source} is of shape {shape}, and the model takes {takes}{hint}")
    if not shape[0]:
        raise InputError(f"{source} is of shape {shape}: no images")
    return shape[0], *wanted


def rows_hint(shape: tuple[int, ...], wanted: tuple[int, int, int]) -> str:
    """Say how rows (N, H * W * C) become images; "" for arrays of other shapes."""
    if len(shape) != 2 or shape[1] != math.prod(wanted):
        return ""
    sides = wanted[:2] if wanted[2] == 1 else wanted
    return f"; .reshape(-1, {', '.join(map(str, sides))}) makes images of such rows"


def _shapes_of(image: tuple[int, int, int]) -> tuple[tuple[int, ...], ...]:
    """Return the shapes that an array of an image may have: grey ones need no axis for the channel."""
    return (image, image[:2]) if image[2] == 1 else (image,)


def image_fault(shape: tuple[int, ...], kind: str) -> str:
    """Return what is expected instead of an array that holds no images; empty for one that does.

    `kind`: the letter of numpy for its type. Images are (N, H, W) or (N, H, W, C), none of them 0.
    """
    wanted = "expected uint8, uint16 or floats, (samples, height, width) or (samples, height, width, channels)"
    if kind not in "buif" or 0 in shape:
        return wanted
    if len(shape) == 2:
        for side, more in ((math.isqrt(shape[1]), ""), (math.isqrt(shape[1] // 3), ", 3")):
            if side**2 * (3 if more else 1) == shape[1]:
                return f"{wanted}; images.reshape(-1, {side}, {side}{more}) makes images of such rows"
    if len(shape) not in (3, 4):
        return wanted
    return channels_hint(shape).removeprefix("; ") if len(shape) == 4 else ""


def channels_hint(shape: tuple[int, ...], wanted: tuple[int, ...] = ()) -> str:
    """Return what is to be done about images (N, C, H, W) or (C, H, W), after "; "; empty for most others.

    `wanted`: the shape (H, W, C) that they should have, where it is known; grey and colour are told apart by it.
    """
    known = len(wanted) == 3
    if not (is_turned(shape[-3:], wanted) if known else channels_first(shape[-3:])):
        return colour_hint(shape, wanted) if known else ""
    axes = "0, 2, 3, 1" if len(shape) == 4 else "1, 2, 0"
    return f"; the channels come first, and images.transpose({axes}) puts them last"


def colour_hint(shape: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """Return that images of the size of those wanted are grey instead of colour, or colour, after "; "; or ""."""
    *size, channels = wanted
    there = {(*size, 1): 1, (1, *size): 1, (*size, 3): 3, (3, *size): 3}.get(shape[-3:], 0)
    if shape[-2:] == tuple(size) and there != 3:  # (N, H, W)
        there = 1
    names = {1: "grey", 3: "colour"}
    if there in names and channels in names and there != channels:
        return f"; these are {names[there]}, and {names[channels]} is wanted"
    return ""


def channels_doubt(shape: tuple[int, ...], given: tuple[int, ...]) -> str:
    """Return the question whether images (H, W, C) may be (C, H, W); empty for those that look like (H, W, C).

    `given`: what `data.shape` says, if anything.
    """
    if not _may_be_turned(shape):
        return ""
    what = f"images are {dimensions(shape[:2])} with {shape[2]} channels"
    if given:
        return f"{what}: is that meant? data.shape is [height, width, channels]"
    return f"{what}: do the channels come first? images.transpose(0, 2, 3, 1) puts them last"


def is_turned(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Tell whether an image is (C, H, W) of what should be (H, W, C)."""
    return shape != wanted and (*shape[1:], *shape[:1]) == wanted


def channels_first(shape: tuple[int, ...], *, tensor: bool = False) -> bool:
    """Tell whether an image of this shape can only be (C, H, W): 1, 3 or 4 channels, before a last axis above 4.

    `tensor`: it is one of torch, whose channels come first, so other small numbers are channels as well.
    """
    if tensor and _may_be_turned(shape):
        return True
    if len(shape) != 3 or shape[0] not in _CHANNELS or shape[2] <= max(_CHANNELS):
        return False
    return shape[1] == shape[2] or shape[1] > max(_CHANNELS)


def _may_be_turned(shape: tuple[int, ...]) -> bool:
    """Tell whether an image of this shape may well be (C, H, W), and square."""
    return len(shape) == 3 and shape[0] <= _FEW < shape[1] == shape[2]


def images_to_predict(images: Any, image_shape: tuple[int, ...]) -> NDArray[Any]:
    """Return images that a model of (H, W, C) is asked about as an array, of any shape; none at all as (0, H, W, C).

    Raises InputError for what is no array, such as paths, and images of unlike sizes.
    """
    members = images if isinstance(images, list | tuple) else (images,)
    for member in members:
        if isinstance(member, str | bytes | PurePath):
            raise InputError(f"images: {shown(member)} is no image; PIL.Image.open(path) gives the one of a file")
    if not members:
        return np.zeros((0, *image_shape), np.int64)  # which become pixels of any type
    shapes = sorted({np.shape(member) for member in members if hasattr(member, "__array__")})
    if len(shapes) > 1:
        raise InputError(f"images: they are of unlike sizes, such as {shapes[0]} and {shapes[1]}; bring them to one")
    try:
        return image_array(images)
    except ValueError as error:
        raise InputError(f"images: no array: {error}") from error


def image_array(value: Any) -> NDArray[Any]:
    """Return images, or labels, as an array; of a tensor of torch, which may be on another device, too."""
    if hasattr(value, "detach") and hasattr(value, "cpu"):
        value = value.detach().cpu()
    return np.asarray(value)
