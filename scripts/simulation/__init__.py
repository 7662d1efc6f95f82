"""Simulation of the engine in virtual time: the real server and schedule, and workers that suffer by the seed."""
