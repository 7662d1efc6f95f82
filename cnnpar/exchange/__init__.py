"""Models for other programs: ONNX files, and files of weights that go out and come back."""
