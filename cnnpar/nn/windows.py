"""Windows of images: their sizes and counts along an axis, and the pixels that they hold."""

from collections.abc import Iterator
from typing import Literal, NamedTuple, TypeAlias

from cnnpar.nn.shapes import Array, Pair, Shape

Slices: TypeAlias = tuple[slice, slice]


class Windows(NamedTuple):
    """Which pixels of an image the windows of a convolution hold, and which channels of theirs one output sees."""

    start: Pair  # the first pixel of the first window; it may lie outside of the image, in zeros
    stride: Pair
    outputs: Pair  # how many windows, by axis
    dilation: Pair = (1, 1)  # from a pixel of a window to the next
    groups: int = 1  # of equally many channels each; outputs likewise, and a group sees only its own

    def plain(self) -> bool:
        """Whether a window is what lies side by side, in all channels."""
        return self.dilation == (1, 1) and self.groups == 1

    def span(self, kernel: Shape) -> Pair:
        """Pixels by axis from the first one of the first window to the last one of the last."""
        return (
            self.stride[0] * (self.outputs[0] - 1) + extent(kernel[0], self.dilation[0]),
            self.stride[1] * (self.outputs[1] - 1) + extent(kernel[1], self.dilation[1]),
        )

    def are_pixels(self, x: Shape, kernel: Shape) -> bool:
        """Whether they are the pixels of x themselves, in their order."""
        return kernel[:2] == self.stride == (1, 1) and self.start == (0, 0) and self.outputs == x[:2]


def extent(window: int, dilation: int) -> int:
    """Pixels from the first to the last one of a window whose pixels are `dilation` apart."""
    return dilation * (window - 1) + 1


def window_count(size: int, window: int, stride: int) -> int:
    """How many whole windows lie in an axis of `size` pixels; a remainder at the end is left out. 0 if none fits."""
    return (size - window) // stride + 1 if size >= window else 0


def pad_sizes(size: int, window: int, stride: int, padding: Literal["same", "valid"] | int) -> Pair:
    """Zeros before and after an axis of `size` pixels.

    "same" makes ceil(size / stride) windows; where the number of zeros is odd, the extra one goes after.
    """
    if padding == "valid":
        return 0, 0
    if padding == "same":
        total = max((-(-size // stride) - 1) * stride + window - size, 0)
        return total // 2, total - total // 2
    return padding, padding


def window_pixels(window: Pair, stride: Pair, count: Pair) -> Iterator[Slices]:
    """For every pixel of an unpadded window, in row-major order, the slices of an image that hold it for all windows.

    `count` windows by axis, so image[slices] has the shape (*count, ...).
    """
    for y in range(window[0]):
        for x in range(window[1]):
            yield (
                slice(y, y + stride[0] * (count[0] - 1) + 1, stride[0]),
                slice(x, x + stride[1] * (count[1] - 1) + 1, stride[1]),
            )


def copy_pixels(x: Array, start: Pair, out: Array) -> None:
    """Copy the pixels of an image from `start` on into `out`, whose others, outside of the image, are left alone."""
    (rows, from_rows), (columns, from_columns) = (
        common(x.shape[axis], start[axis], out.shape[axis]) for axis in (0, 1)
    )
    out[rows, columns] = x[from_rows, from_columns]


def common(size: int, start: int, count: int) -> Slices:
    """Which of `count` pixels from `start` on lie in an axis of `size`, and where in the axis."""
    first, last = max(0, -start), max(0, min(count, size - start), -start)
    return slice(first, last), slice(first + start, last + start)
