"""Reader of NPZ: uint8 images (N, H, W) or (N, H, W, C) and integer labels (N,) or (N, 1), under usual names."""

import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.lib.npyio import NpzFile

from cnnpar.data.readers.files import Part, RawSamples, numbered
from cnnpar.errors import InputError, reason

_EITHER_PART = (("images", "labels"), ("x", "y"))
_OWN_TEST = (("x_test", "y_test"), ("test_images", "test_labels"))
_PAIRS: dict[Part, tuple[tuple[str, str], ...]] = {
    "train": (("x_train", "y_train"), ("train_images", "train_labels"), *_EITHER_PART),
    "test": (*_OWN_TEST, *_EITHER_PART),
}


def read(path: Path, part: Part) -> RawSamples:
    """Read an .npz file; where it holds training and test data, those of `part`. Raises InputError."""
    try:
        # Not `numpy.load`, which takes a file that is no zip for a pickle, and leaves a damaged zip open.
        with path.open("rb") as file, NpzFile(file, allow_pickle=False) as arrays:
            present = set(arrays.files)
            names = next((pair for pair in _PAIRS[part] if present.issuperset(pair)), None)
            if names is None:
                wanted = ", or ".join(" and ".join(pair) for pair in _PAIRS[part])
                raise InputError(f"{path}: holds {', '.join(arrays.files) or 'nothing'}; expected {wanted}")
            images, labels = (np.asarray(arrays[name]) for name in names)
    except (EOFError, ValueError, OverflowError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: cannot be read as an .npz of plain arrays: {reason(error)}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {reason(error)}") from error

    if images.dtype != np.uint8 or images.ndim not in (3, 4) or not images.size:
        raise InputError(
            f"{path}: `{names[0]}` is {images.dtype} of shape {images.shape}; "
            "expected uint8 (samples, height, width) or (samples, height, width, channels)"
        )
    if labels.dtype.kind not in "iu" or labels.shape not in ((len(images),), (len(images), 1)):
        raise InputError(
            f"{path}: `{names[1]}` is {labels.dtype} of shape {labels.shape}; "
            f"expected a whole number for each of {len(images)} images"
        )
    images = np.ascontiguousarray(images).reshape(*images.shape[:3], -1)  # (N, H, W, C)
    has_test = any(present.issuperset(pair) for pair in _OWN_TEST)
    return RawSamples(images, labels.reshape(-1).astype(np.int64), numbered, has_test=has_test)
