"""Numba version of the bilinear loop of `cnnpar.data.augment.warp`: one pass over the pixels, same bits as numpy."""

from typing import Any

import numpy as np

import cnnpar.data.augment.warp as _warp
from cnnpar.compiling import forget_older, inline, loop

forget_older(__file__, _warp)
_between = inline(_warp.between)


@loop("void(uint8[:,:,:,::1], float32[:,:,::1], float32[:,:,::1], uint8[:,:,:,::1])")
def bilinear(framed: Any, rows: Any, columns: Any, out: Any) -> None:
    """Interpolate as `warp.bilinear` does, with the same arguments."""
    count, height, width, channels = out.shape
    bottom, end, zero, one = np.float32(height + 1), np.float32(width + 1), np.float32(0), np.float32(1)
    for i in range(count):
        for r in range(height):
            for s in range(width):
                y = min(max(rows[i, r, s] + one, zero), bottom)
                x = min(max(columns[i, r, s] + one, zero), end)
                top, left = np.uint32(y), np.uint32(x)  # unsigned, so numba emits no code for negative indices
                down, right = y - np.float32(top), x - np.float32(left)
                below, beside = top + np.uint32(1), left + np.uint32(1)
                for c in range(channels):
                    value = _between(
                        np.float32(framed[i, top, left, c]),
                        np.float32(framed[i, top, beside, c]),
                        np.float32(framed[i, below, left, c]),
                        np.float32(framed[i, below, beside, c]),
                        down,
                        right,
                    )
                    out[i, r, s, c] = np.uint8(np.rint(value))
