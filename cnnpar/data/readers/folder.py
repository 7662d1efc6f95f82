"""Reader of a folder of class folders with pictures, such as cats/1.png and dogs/2.jpg; or of such folders for parts.

Which files are read is in class_folders.py, what becomes of one in pictures.py, and who does it in decoding.py.
"""

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cnnpar.config.data import Data
from cnnpar.data.readers.cache import Facts, Samples, cached_by
from cnnpar.data.readers.class_folders import Pictures, find_part
from cnnpar.data.readers.collecting import LISTED, Collected, left_out
from cnnpar.data.readers.decoder import most_bytes
from cnnpar.data.readers.decoding import read_all
from cnnpar.data.readers.digesting import digest_all
from cnnpar.data.readers.files import Digest, Part, RawSamples
from cnnpar.data.readers.fitting import Look
from cnnpar.errors import InputError
from cnnpar.text import dimensions, harmless, listed, shown

_CODECS = ("pil", "jpg", "zlib", "libtiff", "webp")
_FITS = {"stretch": "stretched", "crop": "cropped", "pad": "padded"}


def read(path: Path, part: Part, settings: Data) -> RawSamples:
    """Read all pictures of a part, sorted by class and name; class folders name the classes.

    Raises InputError unless all pictures can be read and are alike, but for what `settings` make of them, and all
    classes have names that JSON can hold.
    """
    from PIL import features

    found, look = find_part(path, part), look_of(settings)
    pictures = Pictures(found.path, settings.on_bad == "skip")
    # Decoders may differ in the last bit of a pixel, so their versions are part of the cache's key.
    codecs = [*map(features.version, _CODECS), features.version_feature("libjpeg_turbo")]
    kind = f"folder {codecs} {look} {settings.on_bad}"
    decode = partial(_decode, found.path, pictures, look, settings)
    images, kept, facts = cached_by(kind, len(pictures), partial(_digest, pictures, look), decode)
    labels = pictures.labels[kept]
    gone = np.flatnonzero(np.bincount(labels, minlength=len(pictures.classes)) == 0)
    if len(gone):
        raise InputError(f"{pictures.classes[gone[0]]}: no picture in this class folder can be read")

    def file_of(index: int) -> str:
        return str(pictures.path(int(kept[index])))

    return RawSamples(
        images,
        labels,
        file_of,
        tuple(folder.name for folder in pictures.classes),
        found.others,
        ", ".join(filter(None, [found.understood, describe(look)])),
        (*found.notes, *_left_out(found.path, pictures, kept), *(f"{found.path}: {note}" for note in facts.notes)),
        file_of,
    )


def look_of(settings: Data) -> Look:
    """Return what pictures are brought to. Raises InputError for a background that is no colour."""
    from PIL import ImageColor

    try:
        red, green, blue = ImageColor.getrgb(settings.background)[:3]
    except ValueError as error:
        what = f"data.background is {shown(settings.background)}, which is no colour"
        raise InputError(f'{what}; expected one of CSS, such as "white" or "#80ff00"') from error
    return Look(settings.size, settings.fit, settings.channels, (red, green, blue))


def describe(look: Look) -> str:
    """Return for people what size pictures are brought to; an empty text if they keep theirs."""
    return f"pictures {_FITS[look.fit]} to {dimensions(look.size)}" if look.size else ""


def _decode(path: Path, pictures: Pictures, look: Look, settings: Data, digest: Digest | None) -> Samples:
    """Decode all pictures; the labels of the result are the indices of those that could be. Raises InputError."""
    collected = Collected(path, len(pictures), pictures.path, settings.on_bad == "skip")
    read_all(iter(pictures), len(pictures), look, collected.wants, collected.take)
    images, kept = collected.result()
    if digest is not None:
        digest.update(collected.digests)
    return Samples(images, kept, Facts(notes=tuple(collected.transparent_note(settings.background))))


def _digest(pictures: Pictures, look: Look, digest: Digest) -> None:
    """Update a digest with that of each picture's file, in order. Raises OSError if one cannot be read."""
    digest.update(digest_all(iter(pictures), len(pictures), most_bytes(look)))


def _left_out(path: Path, pictures: Pictures, kept: NDArray[np.int64]) -> list[str]:
    """Return notes on the pictures that are not among those kept, and on other files, if there are any."""
    notes = left_out(path, kept, len(pictures), lambda index: str(pictures.path(index).relative_to(path)))
    if pictures.others:
        names = listed([str(file.relative_to(path)) for file in pictures.others], LISTED)
        notes.append(f"{path}: {len(pictures.others):,} files are no pictures and are left out: {harmless(names)}")
    return notes
