"""Convolution with large kernels by Fourier transforms, of which it is a product, frequency by frequency.

With X, W and Y the two-dimensional transforms of the image, the kernel and the output, over at least as many pixels as
the windows span (so that nothing comes round from the other side),

    Y[f] = X[f] conj(W[f])    (N, K) = (N, C) (C, K), a product of matrices for each frequency f

and the gradients are dX[f] = dY[f] W[f]^T and dW[f] = X[f]^T conj(dY[f]). The time does not depend on the size of the
kernel, with whose pixels the definition's grows. Real images have half of the frequencies. The transforms are
scipy.fft's, whose version is part of the fingerprint of a run that has such a convolution.
"""

from functools import cache
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cnnpar.blas import use_one_thread
from cnnpar.nn.conv.bias import bias_gradient
from cnnpar.nn.conv.im2col import padded
from cnnpar.nn.shapes import Array, Pair, Shape
from cnnpar.nn.windows import Windows, copy_pixels
from cnnpar.nn.workspace import Workspace

Spectrum: TypeAlias = NDArray[np.complexfloating[Any, Any]]

_FEWEST = 30  # products of the definition for a pixel of the span; kernels for Winograd's way have 25 at most


def suits(kernel: Shape, windows: Windows) -> bool:
    """Tell whether this way is possible and faster for a kernel (height, width, C, channels) and windows."""
    (rows, columns), (height, width) = windows.outputs, windows.span(kernel)
    worth = rows * columns * kernel[0] * kernel[1] >= _FEWEST * height * width
    return windows.dense() and windows.stride == (1, 1) and worth


def correlate(x: Array, kernel: Array, bias: Array | None, windows: Windows, work: Workspace) -> Array:
    """Return the convolution of x (H, W, N, C) with `kernel` (height, width, C, channels), plus `bias`.

    The workspace keeps both transforms for `gradients`.
    """
    span = windows.span(kernel.shape)
    size = _size(span)
    spectra = _transform(padded(x, windows.start, span, work), size), _transform(kernel, size)
    work.saved["spectra"] = spectra
    product = np.matmul(spectra[0], spectra[1].conj())
    y = work.array("y", (*windows.outputs, x.shape[2], kernel.shape[3]), x.dtype)
    y[...] = _inverse(product, size, windows.outputs)
    if bias is not None:
        y += bias
    return y


def gradients(
    dy: Array, out: Array, bias: Array | None, windows: Windows, work: Workspace, dx: Array | None = None
) -> None:
    """Write the gradients of kernel and bias, and that of the inputs to `dx` (H, W, N, C), unless it is None.

    `dy` is the gradient of the last result of `correlate` in this workspace. Pixels of `dx` in no window keep their
    values.
    """
    if bias is not None:
        bias_gradient(dy, bias)
    image, kernel = work.saved["spectra"]  # (frequencies down, across, N, C) and (..., C, K)
    span = windows.span(out.shape)
    size = _size(span)
    gradient = _transform(dy, size)  # (..., N, K)
    out[...] = _inverse(np.matmul(image.swapaxes(2, 3), gradient.conj()), size, out.shape)
    if dx is not None:
        of_padded = _inverse(np.matmul(gradient, kernel.swapaxes(2, 3)), size, span)
        copy_pixels(of_padded, (-windows.start[0], -windows.start[1]), dx)


@cache
def _fft() -> ModuleType:
    """Import scipy.fft: a tenth of a second, for networks with such a convolution alone."""
    from scipy import fft

    use_one_thread()  # scipy loads a BLAS of its own, with as many threads as there are cores
    module: ModuleType = fft
    return module


def _size(span: Pair) -> Pair:
    """Return the pixels of the transforms by axis: the next sizes that are fast."""
    down, across = span
    return _fft().next_fast_len(down, real=True), _fft().next_fast_len(across)


def _transform(x: Array, size: Pair) -> Spectrum:
    """Return the transform (frequencies down, across, ...) of real numbers (rows, columns, ...), with zeros after."""
    down = _fft().rfft(x, size[0], axis=0)  # before zeros are put beside it
    both: Spectrum = _fft().fft(down, size[1], axis=1, overwrite_x=True)
    return both


def _inverse(spectrum: Spectrum, size: Pair, wanted: Shape) -> Array:
    """Return the first `wanted` (rows, columns) of the real numbers whose transform this is; it is overwritten."""
    across = _fft().ifft(spectrum, axis=1, overwrite_x=True)[:, : wanted[1]]
    numbers: Array = _fft().irfft(across, size[0], axis=0)[: wanted[0]]
    return numbers
