"""Types of the ways that leave the work to another convolution, on rearranged images; dispatch computes it."""

from typing import NamedTuple, Protocol

from cnnpar.nn.shapes import Array, Shape
from cnnpar.nn.windows import Windows
from cnnpar.nn.workspace import Workspace


class Convolution(NamedTuple):
    """What decides on the way of a convolution."""

    image: Shape  # (H, W)
    kernel: Shape  # (height, width, C / groups, K)
    windows: Windows


class Correlate(Protocol):
    """The function `dispatch.correlate`."""

    def __call__(self, x: Array, kernel: Array, bias: Array | None, windows: Windows, work: Workspace) -> Array:
        """Return the convolution (rows, columns, N, K) of x (H, W, N, C) with the kernel, plus `bias`."""


class Gradients(Protocol):
    """The function `dispatch.gradients`."""

    def __call__(
        self,
        shape: Shape,
        dy: Array,
        kernel: Array,
        out: Array,
        bias: Array | None,
        windows: Windows,
        wanted: bool,
        work: Workspace,
    ) -> Array | None:
        """Write the gradients of kernel and bias; return that of the images of `shape`, if it is `wanted`."""


class Rewriting(Protocol):
    """One of the modules that rearrange images. `dense` are the functions of `dispatch`."""

    __name__: str

    def inner(self, x: Shape, kernel: Shape, windows: Windows) -> Convolution:
        """Return the convolution of the rearranged images, for images (H, W, ...)."""

    def correlate(
        self, x: Array, kernel: Array, bias: Array | None, windows: Windows, work: Workspace, dense: Correlate
    ) -> Array:
        """Return the convolution (rows, columns, N, K), plus `bias`."""

    def gradients(
        self,
        x: Shape,
        dy: Array,
        kernel: Array,
        out: Array,
        bias: Array | None,
        windows: Windows,
        wanted: bool,
        work: Workspace,
        dense: Gradients,
    ) -> Array | None:
        """Write the gradients of kernel and bias; return that of the images x (H, W, N, C), if it is `wanted`."""
