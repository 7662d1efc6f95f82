"""Convolution and its gradients, as in `convolution.py`, by scipy.signal: planes of one sample and channel at a time.

scipy's `correlate2d` and `convolve2d` know neither stride, nor dilation, nor groups. So of results of stride 1 every
s-th is taken, zeros are put between elements that lie apart, and each group is computed by itself. Both are loops over
the definition, without FFT and without BLAS. They are slow: a Python call for each sample and each pair of channels.
"""

import numpy as np
from scipy.signal import convolve2d, correlate2d

from cnnpar.blas import use_one_thread
from cnnpar.nn.shapes import Array, Pair, Shape
from cnnpar.nn.textbook.convolution import Geometry, pad, shares

use_one_thread()  # importing scipy.signal loads scipy's own BLAS, with as many threads as there are cores


def correlate(x: Array, w: Array, geometry: Geometry) -> Array:
    """Return y (N, rows, columns, K), of the places where the kernel lies inside of the image: mode "valid".

    y[n, :, :, k] = sum over c of correlate2d(x[n, :, :, c], w[:, :, c, k]), every s-th row and column of it
    """
    x, w = pad(x, geometry.padding), apart(w, geometry.dilation)
    rows, columns = x.shape[1] - w.shape[0] + 1, x.shape[2] - w.shape[1] + 1
    y = np.zeros((len(x), rows, columns, w.shape[3]), x.dtype)
    for image, kernels, output in _by_group(geometry, x, w, y):
        for n, k, c in np.ndindex(len(x), kernels.shape[3], image.shape[3]):
            output[n, :, :, k] += correlate2d(image[n, :, :, c], kernels[:, :, c, k], mode="valid")
    return y[:, :: geometry.stride[0], :: geometry.stride[1]]


def kernel_gradient(x: Array, dy: Array, size: Pair, geometry: Geometry) -> Array:
    """Return dw (height, width, C / groups, K): dy, a stride apart, takes the place of the kernel.

    dw[:, :, c, k] = sum over n of correlate2d(x[n, :, :, c], dy[n, :, :, k]), every d-th row and column of it
    """
    x, dy = pad(x, geometry.padding), apart(dy, geometry.stride, axes=(1, 2))
    height, width = x.shape[1] - dy.shape[1] + 1, x.shape[2] - dy.shape[2] + 1
    dw = np.zeros((height, width, x.shape[3] // geometry.groups, dy.shape[3]), x.dtype)
    for image, gradient, kernels in _by_group(geometry, x, dy, dw):
        for n, k, c in np.ndindex(len(x), gradient.shape[3], image.shape[3]):
            kernels[:, :, c, k] += correlate2d(image[n, :, :, c], gradient[n, :, :, k], mode="valid")
    (below, beside) = geometry.dilation  # there are more where pixels at the end are in no window
    return dw[::below, ::beside][: size[0], : size[1]]


def image_gradient(dy: Array, w: Array, shape: Shape, geometry: Geometry) -> Array:
    """Return dx (N, H, W, C), which is `shape`, of all places where dy, a stride apart, and the kernel meet: "full".

    dx[n, :, :, c] = sum over k of convolve2d(dy[n, :, :, k], w[:, :, c, k])    in which the kernel is mirrored
    """
    (above, below), (left, right) = geometry.padding
    samples, height, width, depth = shape
    dx = np.zeros((samples, above + height + below, left + width + right, depth), dy.dtype)
    dy, w = apart(dy, geometry.stride, axes=(1, 2)), apart(w, geometry.dilation)
    rows, columns = dy.shape[1] + w.shape[0] - 1, dy.shape[2] + w.shape[1] - 1  # pixels beyond them are in no window
    for gradient, kernels, image in _by_group(geometry, dy, w, dx):
        for n, k, c in np.ndindex(samples, gradient.shape[3], image.shape[3]):
            image[n, :rows, :columns, c] += convolve2d(gradient[n, :, :, k], kernels[:, :, c, k], mode="full")
    return dx[:, above : above + height, left : left + width]


def apart(array: Array, step: Pair, axes: Pair = (0, 1)) -> Array:
    """Return the array with its elements `step` apart along two axes, and zeros between them."""
    shape, places = list(array.shape), [slice(None)] * array.ndim
    for axis, distance in zip(axes, step, strict=True):
        shape[axis] = distance * (shape[axis] - 1) + 1
        places[axis] = slice(None, None, distance)
    wide = np.zeros(shape, array.dtype)
    wide[tuple(places)] = array
    return wide


def _by_group(geometry: Geometry, *arrays: Array) -> "zip[tuple[Array, ...]]":
    """Return an iterator over the groups: views of each array's share of the channels."""
    return zip(*(shares(array, geometry) for array in arrays), strict=True)
