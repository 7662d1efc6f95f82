"""Contents of small data files, and the error of loading a bad one."""

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnpar.config.sections import Data
from cnnpar.data.load import load_splits
from cnnpar.errors import InputError

ROW = "0,1,2,3,4\n"

IMAGES = struct.pack(">4I", 0x803, 2, 3, 2) + bytes(12)
LABELS = struct.pack(">2I", 0x801, 2) + bytes([0, 1])

X, Y = np.zeros((4, 3, 3), dtype=np.uint8), np.array([0, 1, 0, 1])


def complaint(path: Path, **others: Any) -> str:
    """Return the error of loading a path: one line, beginning with the path."""
    with pytest.raises(InputError) as caught:
        load_splits(Data(train=str(path), **{"validation": 0.0} | others))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message


def header_only(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def picture(path: Path, mode: str = "L", size: tuple[int, int] = (3, 2)) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size).save(path)
