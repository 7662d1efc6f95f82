"""A run: prepared as one value, trained, tested, gone on with; what people type and import stands above."""
