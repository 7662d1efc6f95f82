"""Collect images that a script has opened or made with Pillow: they become what the same pictures become in files.

Only JPEG files are decoded at a smaller size where they are to be much smaller, which may change pixels a little.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnpar.config.data import Data
from cnnpar.data.dataset import Pixels
from cnnpar.data.readers.collecting import Collected, left_out
from cnnpar.data.readers.decoder import Run, decode_into
from cnnpar.data.readers.files import numbered
from cnnpar.data.readers.folder import describe, look_of
from cnnpar.data.readers.pictures import loaded


class Pictures(NamedTuple):
    """Images that were given one by one, as an array."""

    images: Pixels  # (N, H, W, C)
    kept: NDArray[np.int64]  # (N,), indices of the images given, without those left out
    understood: str = ""  # see `RawSamples`
    notes: tuple[str, ...] = ()


def converted(images: Sequence[Image.Image], settings: Data) -> Pixels:
    """Return images (N, H, W, C) as training would have them. Raises InputError for those that cannot be taken."""
    collected = PillowImages("images", len(images), msgspec.structs.replace(settings, on_bad="stop"))
    for image in images:
        collected.add(image)
    return collected.result().images


class PillowImages:
    """Images that become one array, as they come."""

    def __init__(self, source: str, count: int, settings: Data) -> None:
        """Begin without images; there will be `count`. Raises InputError for a background that is no colour."""
        self._source, self._count, self._settings, self._look = source, count, settings, look_of(settings)
        self._collected = Collected(
            Path(source), count, lambda index: f"{source}: {numbered(index)}", settings.on_bad == "skip"
        )
        self._done = 0

    def add(self, image: Image.Image) -> None:
        """Take the next image. Raises InputError for one that cannot be taken, unless such are to be left out."""
        wanted, run = self._collected.wants(), Run(self._done, count=1)
        assert wanted is not None, "an error was raised"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, on which no pixel depends
            pixels = decode_into(run, loaded(image), wanted, self._look)
        if (target := self._collected.take(run)) is not None:
            target[:] = pixels
        self._done += 1
        if self._collected.wants() is None:  # an error, which need not wait for the others
            self._collected.result()

    def result(self) -> Pictures:
        """Return what the images became, once all are taken. Raises InputError where they are not alike."""
        images, kept = self._collected.result()
        transparent = self._collected.transparent_note(self._settings.background)
        notes = [f"{self._source}: {note}" for note in transparent]
        notes += left_out(self._source, kept, self._count, numbered)
        return Pictures(images, kept, describe(self._look), tuple(notes))
