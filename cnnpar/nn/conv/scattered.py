"""Gradient of the images of a strided convolution: a product for each element of the kernel, added where that lies.

Nothing is copied to windows, and products have as many rows as a band of outputs has pixels. With stride 1 the gradient
is a convolution itself, which Winograd's filtering does faster.
"""

import numpy as np

from cnnpar.nn.shapes import Array, Shape, as_rows
from cnnpar.nn.windows import Windows, bands, common
from cnnpar.nn.workspace import Workspace

_FEW = 16  # channels of the images; fewer make matrices too thin
_BAND = 100_000  # numbers in a product: 400 KB of float32, to stay in a cache


def suits(kernel: Shape, windows: Windows) -> bool:
    """Tell whether this way is possible and fast for a kernel (height, width, C, channels)."""
    # Of a larger kernel a pixel meets so many elements that to copy windows of the outputs is faster (dispatch.py).
    small = all(taps <= 2 * stride for taps, stride in zip(kernel, windows.stride, strict=False))
    return windows.dense() and windows.stride != (1, 1) and kernel[:2] != (1, 1) and small and kernel[2] >= _FEW


def transposed(dy: Array, kernel: Array, bias: Array | None, windows: Windows, shape: Shape, work: Workspace) -> Array:
    """Return the gradient (H, W, N, C) of the images, given that of the outputs (rows, columns, N, channels).

    Plus `bias`, if there is one.
    """
    dx = work.array("dx", shape, dy.dtype)
    dx[...] = 0 if bias is None else bias
    pixels = as_rows(dx)
    columns, channels = dy.shape[1:4:2]
    for rows in bands(len(dy), columns * pixels.shape[2], _BAND):
        matrix = dy[rows.start : rows.stop].reshape(-1, channels)
        product = work.scratch("product", (len(rows), columns, pixels.shape[2]), dy.dtype)
        top = windows.start[0] + rows.start * windows.stride[0]
        for i, j in np.ndindex(*kernel.shape[:2]):  # in this order, so that roundings are the same each time
            own_rows, y = common(shape[0], top + i, len(rows), windows.stride[0])
            own_columns, x = common(shape[1], windows.start[1] + j, columns, windows.stride[1])
            np.matmul(matrix, kernel[i, j].T, out=product.reshape(-1, shape[3]))
            pixels[y, x] += product[own_rows, own_columns]
    return dx
