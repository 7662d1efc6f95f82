"""Convolution and its two gradients, by their definition. The transposed convolution is one of the gradients.

In deep learning "convolution" is cross-correlation: the kernel is laid over the image as it is, not mirrored. Images x
are (N, H, W, C), kernels w (height, width, C / groups, K), outputs y (N, rows, columns, K). In the formulas s is the
stride, d the dilation, and x has the zeros of the padding around it already.
"""

from typing import NamedTuple

import numpy as np

from cnnpar.nn.shapes import Array, Pair, Shape
from cnnpar.nn.textbook.windows import pixels, windows


class Geometry(NamedTuple):
    """Where the windows of a convolution lie; pairs are (down, across)."""

    stride: Pair = (1, 1)  # pixels from one window to the next
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0))  # zeros (above, below) and (left, right) of the image
    dilation: Pair = (1, 1)  # distance of neighbouring pixels of a window
    groups: int = 1  # shares of the channels, each with kernels of its own that see no other share


def correlate(x: Array, w: Array, geometry: Geometry) -> Array:
    """Return the convolution: each output is the sum of the products of a window and a kernel.

    y[n, i, j, k] = sum over u, v, c of x[n, i s + u d, j s + v d, c] * w[u, v, c, k]
    """
    x, outputs = pad(x, geometry.padding), []
    for own, kernels in zip(shares(x, geometry), shares(w, geometry), strict=True):
        seen = windows(own, w.shape[:2], geometry.stride, geometry.dilation)
        outputs.append(np.einsum("nijcuv,uvck->nijk", seen, kernels, optimize=True))  # as one product of matrices
    return np.concatenate(outputs, axis=-1)


def kernel_gradient(x: Array, dy: Array, size: Pair, geometry: Geometry) -> Array:
    """Return dw, given dy: the weight w[u, v, c, k] is a factor once in every window, of the pixel at (u, v).

    dw[u, v, c, k] = sum over n, i, j of x[n, i s + u d, j s + v d, c] * dy[n, i, j, k]

    `size`: (height, width) of the kernel.
    """
    x, dw = pad(x, geometry.padding), []
    rows, columns = dy.shape[1:3]  # there may be room for more windows, where pixels at the end were left out
    for own, gradients in zip(shares(x, geometry), shares(dy, geometry), strict=True):
        seen = windows(own, size, geometry.stride, geometry.dilation)[:, :rows, :columns]
        dw.append(np.einsum("nijcuv,nijk->uvck", seen, gradients, optimize=True))
    return np.concatenate(dw, axis=-1)


def image_gradient(dy: Array, w: Array, shape: Shape, geometry: Geometry) -> Array:
    """Return dx (N, H, W, C), which is `shape`, given dy: each output passes its gradient to the pixels of its window.

    dx[n, i s + u d, j s + v d, c] += sum over k of dy[n, i, j, k] * w[u, v, c, k]    for all i, j, u, v

    This is the transposed convolution too, of dy: it makes large images of small ones.
    """
    (above, below), (left, right) = geometry.padding
    samples, height, width, depth = shape
    dx = np.zeros((samples, above + height + below, left + width + right, depth), dy.dtype)
    by_group = zip(shares(dx, geometry), shares(dy, geometry), shares(w, geometry), strict=True)
    for own, gradients, kernels in by_group:  # `own` is a view of dx
        for place, everywhere in pixels(w.shape[:2], geometry.stride, dy.shape[1:3], geometry.dilation):
            own[everywhere] += gradients @ kernels[place].T  # (N, rows, columns, K) by (K, C)
    return dx[:, above : above + height, left : left + width]


def pad(x: Array, padding: tuple[Pair, Pair]) -> Array:
    """Return x (N, H, W, C) with zeros (above, below) and (left, right) of each image."""
    return np.pad(x, ((0, 0), *padding, (0, 0)))


def shares(array: Array, geometry: Geometry) -> list[Array]:
    """Return views of the equal parts of the last axis, the channels, one for each group."""
    return np.split(array, geometry.groups, axis=-1)
