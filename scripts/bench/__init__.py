"""Benchmarks: speed, memory and accuracy, each number beside its aim."""
