"""Ways of computing a convolution and its gradients; dispatch chooses the fastest for a shape."""
