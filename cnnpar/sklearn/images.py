"""Rows of features and images: scikit-learn's tables (N, features) become images (N, H, W, C), and the other way."""

import math
from typing import Any

import numpy as np

Shape = tuple[int, int, int]  # (H, W, C)
_SMALLEST_SQUARE = 4  # side: rows of fewer features are no images


def rows_of(X: Any) -> tuple[Any, Shape | None]:
    """Return images as rows (N, features), and their shape (H, W, C); all else as it is, and None.

    Images are arrays, or lists, of (N, H, W) or (N, H, W, C). Raises ValueError for more dimensions.
    """
    whole = np.asarray(X) if isinstance(X, list | tuple) else X
    shape: tuple[int, ...] = getattr(whole, "shape", ())
    if len(shape) < 3:
        return X, None
    if len(shape) > 4:
        raise ValueError(f"X has {len(shape)} dimensions; expected (N, features), (N, H, W) or (N, H, W, C)")
    height, width, channels = (*shape[1:], 1)[:3]
    return np.asarray(whole).reshape(shape[0], height * width * channels), (height, width, channels)


def shape_of(features: int, wanted: Any, found: Shape | None) -> Shape:
    """Return the shape of the images that rows of `features` hold.

    `wanted`: (H, W) or (H, W, C) as the user gave it, or None; `found`: the shape of images that came as such. Without
    either, rows are square grey images where their length is a square of 16 or more, else images of one line. Raises
    ValueError where these do not fit together.
    """
    if wanted is not None:
        shape = _checked(wanted)
        if found not in (None, shape):
            raise ValueError(f"X has images of {_text(found)}, and image_shape is {_text(shape)}")
        if math.prod(shape) != features:
            raise ValueError(f"X has {features} features, and image_shape {_text(shape)} takes {math.prod(shape)}")
        return shape
    if found is not None:
        return found
    side = math.isqrt(features)
    return (side, side, 1) if side**2 == features and side >= _SMALLEST_SQUARE else (1, features, 1)


def _checked(wanted: Any) -> Shape:
    """Return `image_shape` as three whole numbers. Raises ValueError."""
    try:
        numbers = [int(number) for number in wanted]
        good = len(numbers) in (2, 3) and min(numbers) > 0 and numbers == list(wanted)
    except (TypeError, ValueError):
        good = False
    if not good:
        raise ValueError(f"image_shape is {wanted!r}; expected (height, width) or (height, width, channels)")
    height, width, channels = (*numbers, 1)[:3]
    return height, width, channels


def _text(shape: Any) -> str:
    return " x ".join(map(str, shape))
