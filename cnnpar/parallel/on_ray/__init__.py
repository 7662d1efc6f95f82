"""Ray as the control plane: the only files that import ray."""
