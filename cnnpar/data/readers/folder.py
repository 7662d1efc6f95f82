"""Reader of a folder of class folders with PNG or JPEG pictures, such as cats/1.png and dogs/2.jpg.

A picture's size is checked by its header, before it is decoded; all arrays are allocated by the first one's.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cnnpar.config.data import Data
from cnnpar.data.dataset import ImageShape
from cnnpar.data.readers.cache import Samples, cached
from cnnpar.data.readers.files import Digest, HashedFile, Part, RawSamples, require_memory
from cnnpar.errors import InputError, reason
from cnnpar.text import dimensions, is_plain, one_line, shown

if TYPE_CHECKING:
    from PIL.Image import Image

_SUFFIXES = (".png", ".jpg", ".jpeg")
_CHANNELS = {"L": 1, "RGB": 3}  # Pillow's modes of 8 bits a channel: grey and colour
_MOST_PIXELS = 1 << 22  # 2048 x 2048; decoding takes up to 10 bytes of memory for each (JPEG in progressive scans)
_LARGEST_FILE = 16 << 20  # bytes, more than so many pixels take without loss


def read(path: Path, part: Part, settings: Data) -> RawSamples:  # noqa: ARG001
    """Read all pictures, sorted by class and name; class folders name the classes.

    Raises InputError unless all pictures have the same size and mode, and all classes names that JSON can hold.
    """
    from PIL import features

    classes = _list_classes(path)
    pictures = _Pictures(classes)
    if not len(pictures.labels):
        raise InputError(f"{path}: no class folders in it; expected one a class, with PNG or JPEG pictures")
    # JPEG decoders may differ in the last bit of a pixel, so their versions are part of the cache's key.
    kind = f"folder {[features.version(codec) for codec in ('pil', 'jpg', 'zlib')]}"
    images, _, _ = cached(kind, pictures, lambda digest: Samples(_decode_all(path, pictures, digest), pictures.labels))
    names = tuple(folder.name for folder in classes)
    return RawSamples(images, pictures.labels, lambda index: str(pictures.path(index)), names)


class _Pictures:
    """Paths of all pictures, sorted by class and name; only their names are kept, as there may be millions."""

    def __init__(self, classes: list[Path]) -> None:
        """List the pictures of the class folders. Raises InputError if one is empty or holds anything else."""
        self._classes = classes
        self._names = [_list_pictures(folder) for folder in classes]
        counts = [len(names) for names in self._names]
        self._begins = np.cumsum([0, *counts])
        self.labels: NDArray[np.int64] = np.repeat(np.arange(len(classes), dtype=np.int64), counts)  # (N,)

    def __iter__(self) -> Iterator[Path]:
        return (folder / name for folder, names in zip(self._classes, self._names, strict=True) for name in names)

    def path(self, index: int) -> Path:
        """Return the path of a picture."""
        label = int(np.searchsorted(self._begins, index, side="right")) - 1
        return self._classes[label] / self._names[label][index - int(self._begins[label])]


def _list_visible(folder: Path) -> list[str]:
    """List the names in a folder, sorted, without hidden ones. Raises InputError."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {reason(error)}") from error


def _list_classes(path: Path) -> list[Path]:
    """List the class folders. Raises InputError for a name that is no line of text, which no checkpoint could hold."""
    classes = [path / name for name in _list_visible(path) if (path / name).is_dir()]
    for folder in classes:
        if not is_plain(folder.name):
            what = f"class folder {shown(folder.name)}: control characters, or no UTF-8"
            raise InputError(f"{path}: {what}; no checkpoint can hold that name, rename it")
    return classes


def _list_pictures(folder: Path) -> list[str]:
    """List the names of pictures in a class folder. Raises InputError if it is empty or holds anything else."""
    names = _list_visible(folder)
    if not names:
        raise InputError(f"{folder}: this class folder is empty; fill or remove it")
    for name in names:
        if not name.lower().endswith(_SUFFIXES):
            raise InputError(f"{folder / name}: not a PNG or JPEG picture; a class folder holds nothing else")
    return names


def _decode_all(path: Path, pictures: _Pictures, digest: Digest | None) -> NDArray[np.uint8]:
    """Decode pictures to (N, H, W, C) uint8. Raises InputError if one differs from the first in size or mode."""
    images = np.empty((0, 0, 0, 0), dtype=np.uint8)
    for index, picture in enumerate(pictures):
        with _opened(picture, digest) as found:
            shape = _shape(picture, found)
            if index == 0:
                require_memory(path, len(pictures.labels) * prod(shape))
                images = np.empty((len(pictures.labels), *shape), dtype=np.uint8)
            elif shape != images.shape[1:]:
                first = f"{pictures.path(0)} is {_describe(images.shape[1:])}"
                raise InputError(f"{picture}: {_describe(shape)}, but {first}; all pictures must be alike")
            images[index] = np.asarray(found, dtype=np.uint8).reshape(shape)
    return images


@contextmanager
def _opened(path: Path, digest: Digest | None) -> Iterator["Image"]:
    """Open a picture, of which only the header is read, and update the digest with the file.

    Raises InputError, for what Pillow raises while the picture is decoded too.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, on which no pixel depends
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with HashedFile(path, digest) as file:
                content = file.content(_LARGEST_FILE)
            with Image.open(BytesIO(content), formats=("PNG", "JPEG")) as picture:
                yield picture
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: too large for a training picture: {reason(error)}") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{path}: not a PNG or JPEG picture, whatever its name says") from error
    except (InputError, MemoryError):
        raise
    except Exception as error:  # Pillow's parsers raise IndexError, struct.error and others for damaged pictures
        raise InputError(f"{path}: cannot be read as a picture: {one_line(reason(error))}") from error


def _shape(path: Path, picture: "Image") -> ImageShape:
    """Return (height, width, channels) by a picture's header. Raises InputError if too large, or not L or RGB."""
    if picture.width * picture.height > _MOST_PIXELS:
        what = f"{picture.width} x {picture.height} pixels, at most {_MOST_PIXELS:,} in all"
        raise InputError(f"{path}: too large for a training picture: {what}")
    if picture.mode not in _CHANNELS:
        raise InputError(f"{path}: mode {picture.mode}; convert it to 8-bit grey (L) or colour (RGB)")
    return picture.height, picture.width, _CHANNELS[picture.mode]


def _describe(shape: tuple[int, ...]) -> str:
    """Return a shape for messages: 28 x 28 grey."""
    return f"{dimensions(shape[:2])} {'grey' if shape[2] == 1 else 'RGB'}"
