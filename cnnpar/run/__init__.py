"""A run from its parts: prepare it as one value, train it, test it, go on with it."""
