"""Pickles, which are programs: none is opened, and the error says how their arrays are had without them."""

import os
import re
from pathlib import Path

from cnnpar.errors import InputError
from cnnpar.files import open_input

_SUFFIXES = (".pkl", ".pickle", ".pt", ".pth", ".joblib")
_CIFAR = re.compile(r"data_batch_[0-9]+|test_batch|batches\.meta|meta|train|test")
_PROTOCOLS = tuple(bytes([0x80, number]) for number in range(2, 6))  # the first bytes of a pickle


def are_in(folder: Path) -> bool:
    """Tell whether a folder holds the training data of CIFAR's python version. Raises OSError."""
    return any(looks_like(folder / name) for name in ("data_batch_1", "train") if (folder / name).is_file())


def looks_like(path: Path) -> bool:
    """Tell whether a file is a pickle, by its name or its first bytes. Raises OSError."""
    if path.name.lower().endswith(_SUFFIXES):
        return True
    with os.fdopen(open_input(path), "rb") as file:
        return file.read(2).startswith(_PROTOCOLS)


def refusal(path: Path) -> InputError:
    """Return the error of a pickle, with the lines that convert it where it is trusted."""
    what = f"{path}: a pickle, which can run any program, so it is never opened"
    if path.is_dir() or _CIFAR.fullmatch(path.name):
        return InputError(
            f'{what}; take the "binary version" of CIFAR, or convert it: '
            'd = pickle.loads(pathlib.Path(FILE).read_bytes(), encoding="bytes"); '
            'np.savez("train.npz", x=d[b"data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), y=d[b"labels"])'
            '  # b"fine_labels" in CIFAR-100'
        )
    return InputError(f'{what}; save its arrays from where it is trusted: np.savez("data.npz", x=images, y=labels)')
