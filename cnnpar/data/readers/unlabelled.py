"""Pictures without labels, which are only predicted: they become what the training's became."""

from collections.abc import Sequence
from pathlib import Path

from cnnpar.config.data import Data
from cnnpar.data.dataset import Pixels, Traits
from cnnpar.data.readers.collecting import Collected
from cnnpar.data.readers.decoding import read_all
from cnnpar.data.readers.folder import look_of
from cnnpar.errors import InputError
from cnnpar.text import dimensions


def read(files: Sequence[Path], settings: Data, traits: Traits) -> Pixels:
    """Return pictures (N, H, W, C), in the order of the files, treated as the training's were.

    Raises InputError, which names the file, for one that cannot be read, and where they are not like the images of the
    training.
    """
    for file in files:
        if not file.is_file():
            raise InputError(f"{file}: {'is no file' if file.exists() else 'no such file'}; expected a picture")
    collected = Collected(files[0], len(files), files.__getitem__, skip=None)
    read_all(map(str, files), len(files), look_of(settings), collected.wants, collected.take)
    pixels, _ = collected.result()
    if pixels.shape[1:] == traits.image_shape and pixels.dtype.name != traits.pixel_type:
        what = f"pixels are {pixels.dtype}, and the model was trained on {traits.pixel_type}"
        raise InputError(f"{files[0]}: {what}; train it on data of the same range, by data.scale")
    if pixels.shape[1:] != traits.image_shape:
        height, width, channels = traits.image_shape
        raise InputError(
            f"{files[0]}: is {dimensions(pixels.shape[1:])} {pixels.dtype}, and the model takes "
            f"{dimensions(traits.image_shape)} {traits.pixel_type}; "
            f"--size {height},{width} and --channels {channels} bring pictures to that"
        )
    return pixels
