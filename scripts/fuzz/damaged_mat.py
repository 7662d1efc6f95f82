"""Damaged .mat files: those of `scipy.io.savemat` with numbers changed within their arrays, packed or not."""

import io
import random
import struct
import zlib
from pathlib import Path

import numpy as np
from scipy.io import savemat

from scripts.fuzz.noise import NUMBERS, Case, noise

_HEADER = 128  # bytes
_PACKED = 15  # type of a packed element


def mat(chance: random.Random, folder: Path) -> Case:
    """Write a .mat file, of which arrays, elements or bytes were changed."""
    count = chance.choice((4, 4, 1, 30))
    images = np.frombuffer(chance.randbytes(count * 9), np.uint8).reshape(3, 3, count)
    arrays = {"X": images.astype(chance.choice(("u1", "u1", "<u2", "<f4", "<f8", "<i8")))}
    arrays["y"] = (np.arange(count) % 2).astype(chance.choice(("u1", "<f8", "<i4")))[:, np.newaxis]
    if chance.random() < 0.1:
        arrays["z"] = chance.choice((np.array(["text"]), np.array([{}]), images * 1j))
    stream = io.BytesIO()
    savemat(stream, arrays, do_compression=chance.random() < 0.6)
    content = b"MATLAB 5.0".ljust(116) + stream.getvalue()[116:]  # scipy writes the time there
    if chance.random() < 0.8:
        content = content[:_HEADER] + b"".join(_elements(chance, content[_HEADER:]))
    (folder / "a.mat").write_bytes(noise(chance, content) if chance.random() < 0.25 else content)
    return Case(folder / "a.mat", (), chance.choice((0.0, 0.1)))


def _elements(chance: random.Random, content: bytes) -> list[bytes]:
    """Return the elements of a list, with changes within, packed again where they were."""
    found, place = [], 0
    while place + 8 <= len(content):
        kind, size = struct.unpack_from("<2I", content, place)
        body = content[place + 8 : place + 8 + size]
        if kind == _PACKED:
            changed = _changed(chance, zlib.decompress(body))
            body = zlib.compress(changed + bytes(chance.choice((0,) * 30 + (1, 1 << 28))), 1)
        else:
            body = _changed(chance, body)
        found.append(struct.pack("<2I", chance.choice((kind,) * 30 + NUMBERS), len(body)) + body)
        place += 8 + size
    return found


def _changed(chance: random.Random, array: bytes) -> bytes:
    """Change some of the whole numbers at the beginning of an array, where its tags, flags and shape are."""
    content = bytearray(array)
    for _ in range(chance.choice((0, 0, 1, 1, 2, 5))):
        place = 4 * chance.randrange(1 + min(len(content), 80) // 4)
        number = chance.choice((*NUMBERS, 5, 6, 9, 14, 0x10001, 0x40002))
        content[place : place + 4] = struct.pack("<I", number % 2**32)
    return bytes(content)
