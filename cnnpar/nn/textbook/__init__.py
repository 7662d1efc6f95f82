"""The layers as a textbook has them: each function is its formula in numpy, forward and backward side by side.

To read, and to measure the engine by: `model.kernels = "numpy"` trains the same network with these functions, and
`"scipy"` with scipy's convolution. `convolution.py`, `pooling.py` and `dense.py` are the functions, `in_scipy.py` the
convolution once more, and `layers.py` makes layers of them. Images are (N, H, W, C) here: sample, row, column, channel.

See also: Nielsen, "Neural Networks and Deep Learning", chapters 2 and 6; the notes of Stanford's CS231n, "Convolutional
Networks"; Dumoulin and Visin 2016, "A guide to convolution arithmetic for deep learning".
"""
