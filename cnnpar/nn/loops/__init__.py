"""The loops of the layers, number by number: in numpy, and the same compiled by numba."""
