"""Numba version of the bilinear loop of `cnnpar.data.augment.warp`: one pass over the pixels, same bits as numpy."""

from typing import Any

import numpy as np

import cnnpar.data.augment.warp as _warp
from cnnpar.compiling import inline, loop, takes_from

takes_from(__file__, _warp)
_between = inline(_warp.between)


@inline
def _place(row: Any, column: Any, height: Any, width: Any) -> Any:
    """Return the rows and columns of the four neighbours of a place, and how far it is from the first ones."""
    one = np.float32(1)
    y = min(max(row + one, np.float32(0)), np.float32(height + 1))
    x = min(max(column + one, np.float32(0)), np.float32(width + 1))
    top, left = np.uint32(y), np.uint32(x)  # unsigned, so numba emits no code for negative indices
    return top, left, top + np.uint32(1), left + np.uint32(1), y - np.float32(top), x - np.float32(left)


@inline
def _pixel(framed: Any, i: Any, c: Any, top: Any, left: Any, below: Any, beside: Any, down: Any, right: Any) -> Any:
    """Interpolate between the four neighbours of a place, as float32."""
    return _between(
        np.float32(framed[i, top, left, c]),
        np.float32(framed[i, top, beside, c]),
        np.float32(framed[i, below, left, c]),
        np.float32(framed[i, below, beside, c]),
        down,
        right,
    )


@loop("void(uint8[:,:,:,::1], float32[:,:,::1], float32[:,:,::1], uint8[:,:,:,::1])")
def bilinear(framed: Any, rows: Any, columns: Any, out: Any) -> None:
    """Interpolate uint8 as `warp.bilinear` does, with the same arguments."""
    count, height, width, channels = out.shape
    for i in range(count):
        for r in range(height):
            for s in range(width):
                top, left, below, beside, down, right = _place(rows[i, r, s], columns[i, r, s], height, width)
                for c in range(channels):
                    value = _pixel(framed, i, c, top, left, below, beside, down, right)
                    out[i, r, s, c] = np.uint8(np.rint(value))


@loop("void(float32[:,:,:,::1], float32[:,:,::1], float32[:,:,::1], float32[:,:,:,::1])")
def bilinear_floats(framed: Any, rows: Any, columns: Any, out: Any) -> None:
    """Interpolate float32 as `warp.bilinear` does, with the same arguments."""
    count, height, width, channels = out.shape
    for i in range(count):
        for r in range(height):
            for s in range(width):
                top, left, below, beside, down, right = _place(rows[i, r, s], columns[i, r, s], height, width)
                for c in range(channels):
                    out[i, r, s, c] = _pixel(framed, i, c, top, left, below, beside, down, right)
