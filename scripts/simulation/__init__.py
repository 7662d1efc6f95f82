"""Simulation of the engine in virtual time: the real server and scheduler, workers with seeded faults."""
