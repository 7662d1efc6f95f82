"""Training: the loop, its state, and the work that one microbatch is."""
