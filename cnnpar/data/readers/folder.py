"""Reader of a folder of class folders with PNG or JPEG pictures, such as cats/1.png and dogs/2.jpg."""

import warnings
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cnnpar.data.dataset import ImageShape
from cnnpar.data.readers.cache import Samples, cached
from cnnpar.data.readers.files import Digest, HashedFile, RawSamples
from cnnpar.errors import InputError, reason
from cnnpar.text import dimensions

if TYPE_CHECKING:
    from PIL.Image import Image

_SUFFIXES = (".png", ".jpg", ".jpeg")
_CHANNELS = {"L": 1, "RGB": 3}  # Pillow's modes of 8 bits a channel: grey and colour


def read(path: Path) -> RawSamples:
    """Read all pictures, sorted by class and name; class folders name the classes.

    Raises InputError unless all pictures have the same size and mode.
    """
    from PIL import features

    classes = [folder for folder in _list_visible(path) if folder.is_dir()]
    pictures = [(label, picture) for label, folder in enumerate(classes) for picture in _list_pictures(folder)]
    if not pictures:
        raise InputError(f"{path}: no class folders in it; expected one a class, with PNG or JPEG pictures")
    labels = np.array([label for label, _ in pictures], dtype=np.int64)  # (N,)
    files = [picture for _, picture in pictures]
    # JPEG decoders may differ in the last bit of a pixel, so their versions are part of the cache's key.
    kind = f"folder {[features.version(codec) for codec in ('pil', 'jpg', 'zlib')]}"
    images, _ = cached(kind, files, lambda digest: Samples(_decode_all(files, digest), labels))
    return RawSamples(images, labels, lambda i: str(files[i]), tuple(folder.name for folder in classes))


def _decode_all(files: list[Path], digest: Digest | None) -> NDArray[np.uint8]:
    """Decode pictures to (N, H, W, C) uint8. Raises InputError if one differs from the first in size or mode."""
    first = _decode(files[0], digest)  # (H, W, C)
    images = np.empty((len(files), *first.shape), dtype=np.uint8)
    images[0] = first
    for image, picture in zip(images[1:], files[1:], strict=True):
        image[...] = _decode(picture, digest, like=(first.shape, files[0]))
    return images


def _list_visible(folder: Path) -> list[Path]:
    """List the entries of a folder, sorted by name, without hidden ones. Raises InputError."""
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {reason(error)}") from error


def _list_pictures(folder: Path) -> list[Path]:
    """List the pictures of a class folder. Raises InputError if it is empty or holds anything else."""
    pictures = _list_visible(folder)
    if not pictures:
        raise InputError(f"{folder}: this class folder is empty; fill or remove it")
    for picture in pictures:
        if picture.suffix.lower() not in _SUFFIXES:
            raise InputError(f"{picture}: not a PNG or JPEG picture; a class folder holds nothing else")
    return pictures


def _decode(path: Path, digest: Digest | None, like: tuple[tuple[int, ...], Path] | None = None) -> NDArray[np.uint8]:
    """Decode a picture to (H, W, C) uint8, and update the digest with the file. Raises InputError.

    `like`, a shape and the picture that has it, is compared with the header, before any pixel is decoded.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with HashedFile(path, digest) as file:
                content = file.readall()
            with Image.open(BytesIO(content), formats=("PNG", "JPEG")) as picture:
                shape = _shape(path, picture)
                if like is not None and shape != like[0]:
                    differs = f"{_describe(shape)}, but {like[1]} is {_describe(like[0])}"
                    raise InputError(f"{path}: {differs}; all pictures must be alike")
                return np.asarray(picture, dtype=np.uint8).reshape(shape)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: too large for a training picture: {reason(error)}") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{path}: not a PNG or JPEG picture, whatever its name says") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # all that Pillow raises for damaged pictures
        raise InputError(f"{path}: cannot be read as a picture: {reason(error)}") from error


def _shape(path: Path, picture: "Image") -> ImageShape:
    """Return (height, width, channels) by a picture's header. Raises InputError for modes other than L and RGB."""
    if picture.mode not in _CHANNELS:
        raise InputError(f"{path}: mode {picture.mode}; convert it to 8-bit grey (L) or colour (RGB)")
    return picture.height, picture.width, _CHANNELS[picture.mode]


def _describe(shape: tuple[int, ...]) -> str:
    """Return a shape for messages: 28 x 28 grey."""
    return f"{dimensions(shape[:2])} {'grey' if shape[2] == 1 else 'RGB'}"
