"""Fuzzing of what reads files from strangers."""
