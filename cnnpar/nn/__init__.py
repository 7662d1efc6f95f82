"""The numerics: layers, losses, and the network that runs them on one flat parameter vector."""
