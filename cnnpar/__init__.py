"""Data-parallel training of convolutional networks in plain numpy on Ray: the same bits on any number of workers."""

__version__ = "0.1.0"
