"""Cases of the loop of upsampling: the second axis, forward and backward, of weights like those of factor 2."""

from collections.abc import Iterator

import numpy as np

from scripts.bench.loop_cases.case import Case, Images, cases, random


@cases("numba_resampling.weighted_sums")
def _weighted_sums(_: str) -> Iterator[Case]:
    for images in (Images(16, 16, 32, 16), Images(32, 32, 16, 64)):
        small, large = images.values, random(images.height, 2 * images.width, images.shape[2])
        for terms, x, out in ((1, small, large), (2, small, large), (2, large, small), (4, large, small)):
            columns = out.shape[1]
            starts = np.arange(columns + 1) * terms
            places = np.arange(columns * terms) // terms * x.shape[1] // columns + np.arange(columns * terms) % terms
            arguments = x, starts, np.minimum(places, x.shape[1] - 1), random(columns * terms), out
            yield Case(f"{images}, {columns} columns of {terms} terms", arguments, (x,), (out,))
