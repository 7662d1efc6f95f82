"""Windows of images: their sizes and counts along an axis, and the pixels in them."""

from collections.abc import Iterator
from typing import Literal, NamedTuple, TypeAlias

from cnnpar.nn.shapes import Array, Pair, Shape

Slices: TypeAlias = tuple[slice, slice]


class Windows(NamedTuple):
    """The windows of a convolution: their places in an image, the distance of their pixels, and groups of channels."""

    start: Pair  # (row, column) of the first window's first pixel; negative where it lies in the zeros around the image
    stride: Pair
    outputs: Pair  # number of windows by axis
    dilation: Pair = (1, 1)  # distance of neighbouring pixels of a window
    groups: int = 1  # equal shares of the channels; an output of a group sees the inputs of its own group only

    def dense(self) -> bool:
        """Tell whether windows have no gaps (dilation 1) and hold all channels (one group)."""
        return self.dilation == (1, 1) and self.groups == 1

    def span(self, kernel: Shape) -> Pair:
        """Return the pixels by axis from the first one of the first window to the last one of the last."""
        return (
            self.stride[0] * (self.outputs[0] - 1) + extent(kernel[0], self.dilation[0]),
            self.stride[1] * (self.outputs[1] - 1) + extent(kernel[1], self.dilation[1]),
        )

    def are_pixels(self, x: Shape, kernel: Shape) -> bool:
        """Tell whether the windows are the single pixels of x (H, W, ...), all of them and in their order."""
        return kernel[:2] == self.stride == (1, 1) and self.start == (0, 0) and self.outputs == x[:2]


def extent(window: int, dilation: int) -> int:
    """Return the pixels from the first to the last one of a window whose pixels are `dilation` apart."""
    return dilation * (window - 1) + 1


def window_count(size: int, window: int, stride: int) -> int:
    """Return the number of whole windows in an axis of `size` pixels; a remainder at the end is left out."""
    return (size - window) // stride + 1 if size >= window else 0


def pad_sizes(size: int, window: int, stride: int, padding: Literal["same", "valid"] | int) -> Pair:
    """Return the number of zeros before and after an axis of `size` pixels.

    "same" makes ceil(size / stride) windows; where the number of zeros is odd, the extra one goes after.
    """
    if padding == "valid":
        return 0, 0
    if padding == "same":
        total = max((-(-size // stride) - 1) * stride + window - size, 0)
        return total // 2, total - total // 2
    return padding, padding


def window_pixels(window: Pair, stride: Pair, count: Pair) -> Iterator[Slices]:
    """Yield, for every pixel of a window in row-major order, the slices of an image that hold it for all windows.

    There are `count` windows by axis, all inside the image: image[slices] is (*count, ...).
    """
    for y in range(window[0]):
        for x in range(window[1]):
            yield (
                slice(y, y + stride[0] * (count[0] - 1) + 1, stride[0]),
                slice(x, x + stride[1] * (count[1] - 1) + 1, stride[1]),
            )


def copy_pixels(x: Array, start: Pair, out: Array) -> None:
    """Copy the pixels of image x from `start` on to `out`; pixels of `out` outside of the image keep their values."""
    (rows, from_rows), (columns, from_columns) = (
        common(x.shape[axis], start[axis], out.shape[axis]) for axis in (0, 1)
    )
    out[rows, columns] = x[from_rows, from_columns]


def common(size: int, start: int, count: int, step: int = 1) -> Slices:
    """Return which of `count` pixels lie in an axis of `size`, and where on the axis they lie.

    The pixels begin at `start`, and are `step` apart.
    """
    first = max(0, -(start // step))
    last = max(first, min(count, -((start - size) // step)))  # of equal numbers where none lies in it
    return slice(first, last), slice(start + first * step, start + last * step, step)


def bands(rows: int, numbers: int, most: int) -> Iterator[range]:
    """Yield `rows` rows, of `numbers` numbers each, in bands of about `most` numbers; a band has at least one row."""
    height = max(most // numbers, 1)
    return (range(first, min(first + height, rows)) for first in range(0, rows, height))
