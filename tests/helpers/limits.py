"""Time limits of tests, for machines that are busy with other work."""

HANGING = 300  # seconds after which a test or a command hangs; ten times as slow as usual is not hanging
