"""cnnpar for scikit-learn: `from cnnpar.sklearn import CNNClassifier`."""

try:
    import sklearn  # noqa: F401
except ImportError as error:
    raise ImportError("cnnpar.sklearn needs scikit-learn 1.6 or newer: pip install 'cnnpar[sklearn]'") from error

from cnnpar.sklearn.classifier import CNNClassifier

__all__ = ["CNNClassifier"]
