"""Inner loops of the layers: in numpy, and the same compiled by numba, with the same bits."""
