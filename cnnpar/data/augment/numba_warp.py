"""Numba version of the bilinear loop of `cnnpar.data.augment.warp`: one pass over the pixels, same bits as numpy."""

from typing import Any

import numpy as np

import cnnpar.data.augment.warp as _warp
from cnnpar.compiling import inline, loop, takes_from

takes_from(__file__, _warp)
_between = inline(_warp.between)


@inline
def _places(rows: Any, columns: Any, height: Any, line: Any, channels: Any, index: Any, down: Any, right: Any) -> None:
    """Write where the upper left neighbours of a row's places are in a flat image, and how far the places are off.

    `line`: numbers in a row of the image. All arrays are (W,).
    """
    width, one = len(rows), np.float32(1)
    for s in range(width):
        y = min(max(rows[s] + one, np.float32(0)), np.float32(height + 1))
        x = min(max(columns[s] + one, np.float32(0)), np.float32(width + 1))
        top, left = np.int32(y), np.int32(x)
        down[s], right[s] = y - np.float32(top), x - np.float32(left)
        index[s] = np.uint32(top * np.int32(line) + left * np.int32(channels))


@inline
def _numbers(image: Any, line: Any, index: Any, down: Any, right: Any, neighbours: Any, out: Any) -> None:
    """Interpolate a row of a flat image of one channel: only fetching is not vectorised. neighbours (4, W) is room."""
    a, b, c, d = neighbours[0], neighbours[1], neighbours[2], neighbours[3]
    for s in range(len(out)):
        k = index[s]  # unsigned, so numba emits no code for negative indices
        a[s], b[s] = image[k], image[k + np.uint32(1)]
        c[s], d[s] = image[k + np.uint32(line)], image[k + np.uint32(line + 1)]
    for s in range(len(out)):
        out[s] = _between(np.float32(a[s]), np.float32(b[s]), np.float32(c[s]), np.float32(d[s]), down[s], right[s])


@inline
def _pixels(image: Any, line: Any, channels: Any, index: Any, down: Any, right: Any, out: Any) -> None:
    """Interpolate a row of a flat image of several channels, pixel by pixel."""
    beside, below, diagonal = np.uint32(channels), np.uint32(line), np.uint32(line + channels)
    for s in range(len(index)):
        for n in range(channels):
            k = index[s] + np.uint32(n)
            out[np.uint32(s * channels + n)] = _between(
                np.float32(image[k]),
                np.float32(image[k + beside]),
                np.float32(image[k + below]),
                np.float32(image[k + diagonal]),
                down[s],
                right[s],
            )


@loop("void(uint8[:,:,:,::1], float32[:,:,::1], float32[:,:,::1], uint8[:,:,:,::1])")
def bilinear(framed: Any, rows: Any, columns: Any, out: Any) -> None:
    """Interpolate uint8 as `warp.bilinear` does, with the same arguments."""
    count, height, width, channels = out.shape
    line, images = framed.shape[2] * channels, framed.reshape(count, framed[0].size)
    index, down, right = np.empty(width, np.uint32), np.empty(width, np.float32), np.empty(width, np.float32)
    neighbours, found = np.empty((4, width), np.uint8), np.empty(width * channels, np.float32)
    for i in range(count):
        for r in range(height):
            _places(rows[i, r], columns[i, r], height, line, channels, index, down, right)
            if channels == 1:
                _numbers(images[i], line, index, down, right, neighbours, found)
            else:
                _pixels(images[i], line, channels, index, down, right, found)
            target = out[i, r].reshape(width * channels)
            for p in range(width * channels):  # by way of int32: vectors have no conversion to bytes
                target[p] = np.uint8(np.int32(np.rint(found[p])))


@loop("void(float32[:,:,:,::1], float32[:,:,::1], float32[:,:,::1], float32[:,:,:,::1])")
def bilinear_floats(framed: Any, rows: Any, columns: Any, out: Any) -> None:
    """Interpolate float32 as `warp.bilinear` does, with the same arguments."""
    count, height, width, channels = out.shape
    line, images = framed.shape[2] * channels, framed.reshape(count, framed[0].size)
    index, down, right = np.empty(width, np.uint32), np.empty(width, np.float32), np.empty(width, np.float32)
    neighbours = np.empty((4, width), np.float32)
    for i in range(count):
        for r in range(height):
            _places(rows[i, r], columns[i, r], height, line, channels, index, down, right)
            target = out[i, r].reshape(width * channels)
            if channels == 1:
                _numbers(images[i], line, index, down, right, neighbours, target)
            else:
                _pixels(images[i], line, channels, index, down, right, target)
