"""The layers whose convolution is scipy's; all others are numpy's, as in `layers.py`."""

from typing import ClassVar

from cnnpar.nn.layers import Conv2D, ConvTranspose2D, Layer
from cnnpar.nn.shapes import Shape
from cnnpar.nn.textbook import in_scipy
from cnnpar.nn.textbook.layers import NUMPY, Convolution, TextbookConv2D, TextbookConvTranspose2D


class ScipyConv2D(TextbookConv2D, frozen=True, kw_only=True):
    """Convolution by scipy.signal."""

    functions: ClassVar[Convolution] = in_scipy

    def libraries(self, shape: Shape) -> frozenset[str]:  # noqa: ARG002
        """Return scipy's name."""
        return frozenset({"scipy"})


class ScipyConvTranspose2D(TextbookConvTranspose2D, frozen=True, kw_only=True):
    """Transposed convolution by scipy.signal."""

    functions: ClassVar[Convolution] = in_scipy

    def libraries(self, shape: Shape) -> frozenset[str]:  # noqa: ARG002
        """Return scipy's name."""
        return frozenset({"scipy"})


SCIPY: dict[type[Layer], type[Layer]] = {**NUMPY, Conv2D: ScipyConv2D, ConvTranspose2D: ScipyConvTranspose2D}
