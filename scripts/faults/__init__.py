"""Real faults for real runs: what scripts/chaos.py and scripts/bench_faults.py do to them."""
