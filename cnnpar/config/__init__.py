"""Settings of a run: types and defaults (sections, choices), named networks (presets), reading and checks (resolve)."""

from cnnpar.config.sections import Config

__all__ = ["Config"]
