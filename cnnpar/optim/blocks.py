"""Walking over vectors in blocks that fit the cache.

An update is up to a dozen elementwise passes. Over whole vectors of millions of floats each pass would go
through main memory; block by block only the first read and the last write do.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.floating]  # (size,)

# Elements. Measured on 2.5 million: 32 to 256 thousand are alike, smaller blocks pay numpy's cost per call,
# and whole vectors take 1.5 times as long.
BLOCK = 65_536


def blocks(*vectors: Vector) -> Iterator[tuple[Vector, ...]]:
    """Views of the same up to `BLOCK` elements of each vector, followed by a scratch array of that length.

    The scratch has the first vector's type. Raises ValueError if the vectors are not flat and of one length.
    """
    size = vectors[0].size
    shapes = [vector.shape for vector in vectors]
    if any(shape != (size,) for shape in shapes):
        raise ValueError(f"flat vectors of one length expected, got shapes {shapes}")
    scratch = np.empty(min(BLOCK, size), vectors[0].dtype)
    for start in range(0, size, BLOCK):
        stop = min(start + BLOCK, size)
        yield *(vector[start:stop] for vector in vectors), scratch[: stop - start]
