"""Pictures without labels, which are only predicted: read as those of a folder are."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from cnnpar.config.data import Data
from cnnpar.data.dataset import Pixels, Traits
from cnnpar.data.readers import folder
from cnnpar.errors import InputError
from cnnpar.text import dimensions


def read(files: Sequence[Path], settings: Data, traits: Traits) -> Pixels:
    """Return pictures (N, H, W, C), in the order of the files, treated as the training's were.

    The reader of folders gets a temporary one with a link to each. Raises InputError, which names the file, for one
    that cannot be read, and where they are not like the images of the training.
    """
    for file in files:
        if not file.is_file():
            raise InputError(f"{file}: {'is no file' if file.exists() else 'no such file'}; expected a picture")
    with TemporaryDirectory(prefix="cnnpar-") as place:
        only = Path(place) / "pictures"
        only.mkdir()
        links = [only / f"{number:09}{file.suffix}" for number, file in enumerate(files)]
        for link, file in zip(links, files, strict=True):
            link.symlink_to(file.absolute())
        try:
            pixels = folder.read(Path(place), "test", msgspec.structs.replace(settings, on_bad="stop")).images
        except InputError as error:
            raise InputError(_with_files(str(error), links, files)) from error
    if pixels.shape[1:] != traits.image_shape or pixels.dtype.name != traits.pixel_type:
        height, width, channels = traits.image_shape
        raise InputError(
            f"{files[0]}: is {dimensions(pixels.shape[1:])} {pixels.dtype}, and the model takes "
            f"{dimensions(traits.image_shape)} {traits.pixel_type}; "
            f"--size {height},{width} and --channels {channels} bring pictures to that"
        )
    return pixels


def _with_files(text: str, links: Sequence[Path], files: Sequence[Path]) -> str:
    """Return a message with the names of the files in place of those of their links."""
    for link, file in zip(links, files, strict=True):
        text = text.replace(str(link), str(file))
    return text
