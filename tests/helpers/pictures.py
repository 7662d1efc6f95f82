"""Drawn pictures as pixels, and the colours of their curves."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

TRAINING, VALIDATION = (0x8F, 0xA3, 0xB5), (0xC8, 0x10, 0x2E)


def pixels(path: Path) -> NDArray[np.uint8]:
    """Return a PNG file's pixels."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))  # (height, width, 3)


def has_colour(image: NDArray[np.uint8], colour: tuple[int, int, int]) -> bool:
    """Find a pixel of nearly that colour."""
    return bool((np.abs(image.astype(int) - colour) <= 3).all(axis=2).any())
