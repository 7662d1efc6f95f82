"""Random words for the order and variation of data, each a pure function of its place.

Philox is counter-based: (seed, domain) is the key and the epoch the high counter word, so that no two
streams ever meet and none has a state to save. Only raw words are drawn: numpy promises their stream for good,
while what its `Generator` makes of them may change between versions.
"""

import numpy as np
from numpy.typing import NDArray

# The domains of this package; other packages use 3 and up.
VALIDATION = 0
PERMUTATION = 1
SHIFT = 2


def random_words(seed: int, domain: int, epoch: int, count: int) -> NDArray[np.uint64]:
    """The first `count` 64-bit words of a stream; a longer draw begins with a shorter one."""
    key = np.array([seed, domain], dtype=np.uint64)
    counter = np.array([0, 0, 0, epoch], dtype=np.uint64)
    return np.random.Philox(key=key, counter=counter).random_raw(count)


def permutation(seed: int, domain: int, epoch: int, count: int) -> NDArray[np.int64]:
    """The numbers 0..count-1 in random order, which is that of as many random words."""
    return random_words(seed, domain, epoch, count).argsort(kind="stable")
