"""Data sets by name: `digits`, which is part of the package, and `mnist`, which is downloaded once.

If `$CNNPAR_DATA/mnist` is a folder, it must hold the four files of MNIST, gzipped or not; nothing is downloaded then.
"""

import os
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from cnnpar.data.readers import idx
from cnnpar.data.readers.cache import user_folder
from cnnpar.data.readers.files import CheckLabels, Part, RawSamples, numbered
from cnnpar.errors import InputError, reason

_DIGITS = Path(__file__).parents[1] / "digits.npz"

_MNIST_SHAPE, _MNIST_CLASSES = (28, 28, 1), 10
_MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
# Images before labels; MD5 of the gzipped files as published by their authors.
_MNIST_FILES: dict[Part, dict[str, str]] = {
    "train": {
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    },
    "test": {
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    },
}


def read(name: str, part: Part, check: CheckLabels) -> RawSamples:
    """Read the training or test samples of a data set of `config.data.DATA_NAMES`. Raises InputError."""
    found = _read_digits(part) if name == "digits" else idx.read(_mnist_images(part), check)
    return replace(found, other_parts=frozenset(["test"]))


def awaited(name: str) -> tuple[tuple[int, int, int], int] | None:
    """Return image shape and number of classes of a data set that `read` will download; None where it is here."""
    if name != "mnist" or _own_mnist() is not None:
        return None
    files = [user_folder() / "mnist" / file for part in _MNIST_FILES.values() for file in part]
    return None if all(map(os.path.lexists, files)) else (_MNIST_SHAPE, _MNIST_CLASSES)


def _read_digits(part: Part) -> RawSamples:
    """Read the UCI optical digits, 8 x 8 grey; every fifth is a test image. Source and licence: digits.md."""
    with np.load(_DIGITS) as arrays:
        images, labels = arrays["images"], arrays["labels"]  # (1797, 8, 8), 0..16
    chosen = (np.arange(len(images)) % 5 == 4) == (part == "test")
    grey = (images[chosen].astype(np.uint16) * 255 + 8) // 16  # (n, 8, 8): 0..16 scaled to 0..255, rounded to nearest
    return RawSamples(grey.astype(np.uint8)[..., np.newaxis], labels[chosen].astype(np.int64), numbered)


def _mnist_images(part: Part) -> Path:
    """Return the images file of MNIST, with its labels file beside it: in `$CNNPAR_DATA`, or else downloaded."""
    folder = _own_mnist()
    if folder is None:
        images, _labels = [_download(name, md5) for name, md5 in _MNIST_FILES[part].items()]
        return images
    packed = next(iter(_MNIST_FILES[part]))
    unpacked = packed.removesuffix(".gz")
    for name in (unpacked, packed):
        if (folder / name).is_file():
            return folder / name
    raise InputError(f"{folder}: has no {unpacked} or {packed}; put all four files of MNIST there")


def _own_mnist() -> Path | None:
    """Return the folder of MNIST in `$CNNPAR_DATA`; None where there is none."""
    folder = Path(os.environ.get("CNNPAR_DATA", "")) / "mnist"
    return folder if "CNNPAR_DATA" in os.environ and folder.is_dir() else None


def _download(name: str, md5: str) -> Path:
    """Return a file of MNIST in the user's cache, downloaded if needed from the first mirror with the right checksum.

    Raises InputError with the reason of the last mirror.
    """
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")  # a failure says it all in one line
    folder = user_folder() / "mnist"
    if os.path.lexists(folder / name) and not (folder / name).is_file():  # pooch would wait for a pipe
        raise InputError(f"{folder / name}: not a regular file; remove it")
    refusal = ""
    for mirror in _MNIST_MIRRORS:
        try:
            return Path(pooch.retrieve(mirror + name, f"md5:{md5}", fname=name, path=folder))
        except (OSError, ValueError) as error:  # OSError: no connection or no such file; ValueError: wrong checksum
            unreachable = isinstance(error, requests.ConnectionError)
            refusal = f"no connection to {urlsplit(mirror).hostname}" if unreachable else reason(error)
    raise InputError(
        f"mnist: {name} cannot be downloaded ({refusal}); "
        "put the four files of MNIST into a folder `mnist` and set CNNPAR_DATA to the folder above it"
    )
