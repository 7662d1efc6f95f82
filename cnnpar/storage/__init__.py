"""Files of a run: checkpoints, the run directory and its lock, atomic writes."""
