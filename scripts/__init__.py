"""Scripts that measure and check cnnpar; run them from the checkout's root: `python -m scripts.bench.throughput`."""
