"""Cases of the loops of normalisation with relu behind it."""

from collections.abc import Iterator

import numpy as np

from scripts.bench.loop_cases.case import Case, Images, cases, random


@cases("numba_norms.rectified_moments", "numba_norms.rectified_gradient")
def _rectified(name: str) -> Iterator[Case]:
    """Maps of resnet20 and mobilenet-small."""
    for images in (Images(28, 28, 16, 16), Images(32, 32, 16, 32), Images(32, 32, 64, 32), Images(8, 8, 256, 32)):
        dy, x = images.values, images.values
        factor, addend, slope, scale, shift = random(5, images.shape[2])
        if name == "rectified_moments":
            out = np.empty((2, images.shape[2]))
            yield Case(str(images), (dy, x, factor, addend, out), (dy, x, factor, addend), (out,))
        else:
            dx, numbers = images.values, (slope, scale, shift)
            arguments = dy, x, (factor, addend), numbers, dx
            yield Case(str(images), arguments, (dy, x, factor, addend, *numbers), (dx,))
