"""Ray as the control plane: only this folder imports ray."""
