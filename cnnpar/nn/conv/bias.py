"""Gradient of a convolution's bias, which is the same for all ways of computing the convolution."""

import numpy as np

from cnnpar.nn.shapes import Array


def bias_gradient(dy: Array, out: Array) -> None:
    """Write the sum over the pixels of dy (H, W, N, channels): a product with ones, faster than a sum."""
    flat = dy.reshape(-1, dy.shape[3])  # (pixels, channels)
    np.matmul(np.ones(len(flat), dy.dtype), flat, out=out)
