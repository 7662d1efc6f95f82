"""The version of cnnpar, read by the build and kept in checkpoints."""

__version__ = "0.1.0"
