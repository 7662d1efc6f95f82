"""Contents of small good data files, and the error of loading a bad one."""

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnpar.config.data import Data
from cnnpar.data.dataset import Dataset, ImageShape, Traits
from cnnpar.data.load import load_splits, load_test_set
from cnnpar.errors import InputError

CSV_ROW = "0,1,2,3,4\n"

IDX_IMAGES = struct.pack(">4I", 0x803, 2, 3, 2) + bytes(12)
IDX_LABELS = struct.pack(">2I", 0x801, 2) + bytes([0, 1])

X, Y = np.zeros((4, 3, 3), dtype=np.uint8), np.array([0, 1, 0, 1])


def load_error(path: Path, **others: Any) -> str:
    """Return the error of loading `path`, after checking that it is one line that begins with the path."""
    with pytest.raises(InputError) as caught:
        load_splits(Data(train=str(path), **{"validation": 0.0} | others))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message


def load_test(path: str | Path, shape: ImageShape, names: tuple[str, ...], **others: Any) -> Dataset:
    """Load test samples for a model that was trained on uint8 images of this shape and these classes."""
    return load_test_set(str(path), Data(**others), Traits(shape, "uint8", names))


def npy_header(shape: tuple[int, ...]) -> bytes:
    """Return the header of an .npy file of uint8 with this shape, without its data."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def write_picture(path: Path, mode: str = "L", size: tuple[int, int] = (3, 2), colour: int = 0) -> None:
    """Write a picture of `size` (width, height) and one colour in Pillow's mode, and make the folders above it."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)
