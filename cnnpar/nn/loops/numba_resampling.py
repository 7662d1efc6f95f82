"""Numba version of the loop of resampling: rows of numbers as weighted sums of others."""

from typing import Any

from cnnpar.compiling import loop

_PIECE = 1024  # numbers of a pixel at a time: 4 KiB, to stay in the L1 cache until all terms are added


@loop("void(float32[:,:,::1], int64[::1], int64[::1], float32[::1], float32[:,:,::1])")
def weighted_sums(x: Any, starts: Any, places: Any, weights: Any, out: Any) -> None:
    """Implement `Loops.weighted_sums`."""
    rows, columns, size = out.shape
    for r in range(rows):
        for c in range(columns):
            first, stop = starts[c], starts[c + 1]
            for begin in range(0, size, _PIECE):
                end = min(begin + _PIECE, size)
                o, a, w = out[r, c, begin:end], x[r, places[first], begin:end], weights[first]
                if stop - first == 1:
                    for p in range(end - begin):
                        o[p] = a[p] * w
                    continue
                b, v = x[r, places[first + 1], begin:end], weights[first + 1]
                for p in range(end - begin):
                    o[p] = a[p] * w + b[p] * v
                for term in range(first + 2, stop):
                    b, v = x[r, places[term], begin:end], weights[term]
                    for p in range(end - begin):
                        o[p] += b[p] * v
