"""Windows of images: what a convolution or a pooling sees at each of its outputs."""

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from cnnpar.nn.shapes import Array, Pair, Shape

_ONE = (1, 1)


def windows(x: Array, size: Pair, stride: Pair, dilation: Pair = _ONE) -> Array:
    """Return the windows of x (N, H, W, C) as a view (N, rows, columns, C, height, width), without a copy.

    windows[n, i, j, c, u, v] = x[n, i s + u d, j s + v d, c]    with stride s and dilation d, each by its axis.

    All windows lie inside of x: rows and columns at its end that fill none are left out.
    """
    (height, width), (down, right), (below, beside) = size, stride, dilation
    extent = below * (height - 1) + 1, beside * (width - 1) + 1  # pixels from the first to the last one, with gaps
    everywhere = sliding_window_view(x, extent, axis=(1, 2))  # of stride 1, and with the pixels in the gaps
    return everywhere[:, ::down, ::right, :, ::below, ::beside]


def pixels(
    size: Pair, stride: Pair, count: Shape, dilation: Pair = _ONE
) -> Iterator[tuple[tuple[int, ...], tuple[slice, slice, slice]]]:
    """Yield each place (u, v) in a window with the slices of an image (N, H, W, C) that it has in all windows.

    image[slices][n, i, j] is image[n, i s + u d, j s + v d], for `count` (rows, columns) of windows: to add to, where
    `windows` is to read, as windows may overlap.
    """
    for place in np.ndindex(size):
        rows, columns = (
            slice(at * apart, at * apart + step * (number - 1) + 1, step)
            for at, apart, step, number in zip(place, dilation, stride, count, strict=True)
        )
        yield place, (slice(None), rows, columns)
