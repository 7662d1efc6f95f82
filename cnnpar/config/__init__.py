"""Settings of a run: types and defaults (sections, choices), and how they are read, merged and checked (resolve)."""

from cnnpar.config.sections import Config

__all__ = ["Config"]
