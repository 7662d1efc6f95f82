"""Noise: changes of bytes that know nothing of a file's format; and what the makers of damaged files share."""

import random
from pathlib import Path
from typing import NamedTuple

NUMBERS = (0, 1, 2, 3, 7, 28, 127, 128, 255, 256, 784, 1000, 32767, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
LARGEST = 300_000  # bytes of a mutated file, before gzip


class Case(NamedTuple):
    """A source to read, and how."""

    source: Path
    shape: tuple[int, ...] = ()  # data.shape
    validation: float = 0.0  # data.validation


def noise(chance: random.Random, data: bytes) -> bytes:
    """Change bytes: bits, numbers, parts cut out, repeated, moved, or replaced by runs of one byte."""
    content = bytearray(data[:LARGEST])
    for _ in range(chance.choice((1, 1, 2, 4, 8))):
        begin = chance.randrange(len(content) + 1)
        end = min(len(content), begin + chance.choice((1, 2, 4, 8, 100, 5000)))
        action = chance.randrange(8)
        if action == 0 and begin < len(content):
            content[begin] ^= 1 << chance.randrange(8)
        elif action == 1:
            number, size = chance.choice(NUMBERS), chance.choice((1, 2, 4, 8))
            packed = (number % 256**size).to_bytes(size, chance.choice(("big", "little")))
            content[begin : begin + size] = packed
        elif action == 2:
            del content[begin:]
        elif action == 3:
            del content[begin:end]
        elif action == 4:
            content[begin:end] = content[begin:end] * chance.choice((2, 3, 100))
        elif action == 5:
            content[begin:begin] = chance.randbytes(chance.choice((1, 3, 100)))
        elif action == 6:
            content[begin:begin] = chance.choice(
                (b"\n", b"\r", b" ", b",", b"0", b"9", b"\0", b"[", b"\xff")
            ) * chance.choice((1, 100, 9999))
        else:
            content[begin:begin] = content[end:]
    return bytes(content)
