"""Files of a run: checkpoints, the run directory, its lock, and how files are replaced whole."""
