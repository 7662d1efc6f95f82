"""A folder of class folders with PNG or JPEG pictures: cats/1.png, dogs/2.jpg. Their names are the classes."""

import warnings
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cnnpar.data.dataset import ImageShape
from cnnpar.data.readers.cache import Samples, cached
from cnnpar.data.readers.files import Digest, Found, Tap
from cnnpar.errors import InputError, reason

if TYPE_CHECKING:
    from PIL.Image import Image

_SUFFIXES = (".png", ".jpg", ".jpeg")
_CHANNELS = {"L": 1, "RGB": 3}  # Pillow's modes of 8 bits a channel: grey and colour


def read(path: Path) -> Found:
    """All pictures, class after class in the order of their names. They must agree in size and mode."""
    from PIL import features

    classes = [folder for folder in _visible(path) if folder.is_dir()]
    pictures = [(label, picture) for label, folder in enumerate(classes) for picture in _pictures(folder)]
    if not pictures:
        raise InputError(f"{path}: no class folders in it; expected one a class, with PNG or JPEG pictures")
    labels = np.array([label for label, _ in pictures], dtype=np.int64)
    files = [picture for _, picture in pictures]
    # Decoders of JPEG may differ in the last bit of a pixel.
    kind = f"folder {[features.version(codec) for codec in ('pil', 'jpg', 'zlib')]}"
    images, _ = cached(kind, files, lambda digest: Samples(_unpacked(files, digest), labels))
    return Found(images, labels, lambda i: str(files[i]), tuple(folder.name for folder in classes))


def _unpacked(files: list[Path], digest: Digest | None) -> NDArray[np.uint8]:
    """Pictures (N, H, W, C) that are all like the first one."""
    first = _decoded(files[0], digest)
    images = np.empty((len(files), *first.shape), dtype=np.uint8)
    images[0] = first
    for image, picture in zip(images[1:], files[1:], strict=True):
        image[...] = _decoded(picture, digest, like=(first.shape, files[0]))
    return images


def _visible(folder: Path) -> list[Path]:
    """What is in a folder, by name; hidden files are not meant."""
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {reason(error)}") from error


def _pictures(folder: Path) -> list[Path]:
    """The pictures of a class. Anything else in its folder is an error: it was probably meant to count."""
    pictures = _visible(folder)
    if not pictures:
        raise InputError(f"{folder}: this class folder is empty; fill or remove it")
    for picture in pictures:
        if picture.suffix.lower() not in _SUFFIXES:
            raise InputError(f"{picture}: not a PNG or JPEG picture; a class folder holds nothing else")
    return pictures


def _decoded(path: Path, digest: Digest | None, like: tuple[tuple[int, ...], Path] | None = None) -> NDArray[np.uint8]:
    """One picture (H, W, C). Its header must say it is like another one before it is unpacked."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Tap(path, digest) as file:
                content = file.readall()
            with Image.open(BytesIO(content), formats=("PNG", "JPEG")) as picture:
                shape = _shape(path, picture)
                if like is not None and shape != like[0]:
                    differs = f"{_words(shape)}, but {like[1]} is {_words(like[0])}"
                    raise InputError(f"{path}: {differs}; all pictures must be alike")
                return np.asarray(picture, dtype=np.uint8).reshape(shape)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: too large for a training picture: {reason(error)}") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{path}: not a PNG or JPEG picture, whatever its name says") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # what Pillow raises for damaged pictures
        raise InputError(f"{path}: cannot be read as a picture: {reason(error)}") from error


def _shape(path: Path, picture: "Image") -> ImageShape:
    """(height, width, channels) from a picture's header."""
    if picture.mode not in _CHANNELS:
        raise InputError(f"{path}: mode {picture.mode}; convert it to 8-bit grey (L) or colour (RGB)")
    return picture.height, picture.width, _CHANNELS[picture.mode]


def _words(shape: tuple[int, ...]) -> str:
    height, width, channels = shape
    return f"{height} x {width} {'grey' if channels == 1 else 'RGB'}"
