"""Pictures without labels, which are only predicted: they become what the training's became, or it is said why not."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cnnpar.config.data import Data
from cnnpar.data.dataset import Pixels, Traits
from cnnpar.data.readers.class_folders import list_visible
from cnnpar.data.readers.decoder import Run
from cnnpar.data.readers.decoding import read_all
from cnnpar.data.readers.files import require_memory
from cnnpar.data.readers.fitting import Form
from cnnpar.data.readers.folder import look_of
from cnnpar.errors import InputError
from cnnpar.text import dimensions


def files_of(path: Path) -> list[Path]:
    """Return a file, or all files below a folder, sorted, without hidden ones and leftovers.

    Raises InputError for a folder without any, and for one that cannot be read.
    """
    if not path.is_dir():
        return [path]
    files = [*_below(path, frozenset())]
    if not files:
        raise InputError(f"{path}: no files in this folder; expected pictures")
    return files


def read(files: Sequence[Path], settings: Data, traits: Traits) -> tuple[Pixels, NDArray[np.int64], dict[int, str]]:
    """Read pictures (N, H, W, C), treated as the training's were, with the indices of their files.

    Also returns why other files are left out, by their indices: those that cannot be read, and those that are not like
    the images of the training. Raises InputError where all do not fit into memory.
    """
    pixels = np.dtype(traits.pixel_type)
    require_memory(files[0], len(files) * int(np.prod(traits.image_shape)) * pixels.itemsize)
    images: Pixels = np.empty((len(files), *traits.image_shape), pixels)
    faults = dict[int, str]()

    def take(run: Run) -> memoryview | None:
        end = run.first + run.count
        if run.decoded and run.form == (*traits.image_shape, traits.pixel_type):
            return images[run.first : end].data.cast("B")
        faults.update(
            (index, f"{files[index]}: {_fault(files[index], run, traits)}") for index in range(run.first, end)
        )
        return None

    read_all(map(str, files), len(files), look_of(settings), lambda: "pixels", take)
    kept = np.setdiff1d(np.arange(len(files)), [*faults], assume_unique=True)
    return images[kept] if faults else images, kept, dict(sorted(faults.items()))


def _fault(file: Path, run: Run, traits: Traits) -> str:
    """Say why a file is no picture like those of the training."""
    if run.refusal:
        if file.is_file():
            return f"cannot be read as a picture: {run.refusal}"
        return f"{'is no file' if file.exists() else 'no such file'}; expected a picture"
    if run.form is None:
        return run.fault
    form, (height, width, channels) = run.form, traits.image_shape
    if form[:3] == traits.image_shape and form.pixels != traits.pixel_type:
        what = f"pixels are {form.pixels}, and the model was trained on {traits.pixel_type}"
        if traits.pixel_type == "float32":
            return f"{what}; where those go from 0 to 1, --set data.scale=255 in a training makes a model for pictures"
        return f"{what}; convert it to {8 * np.dtype(traits.pixel_type).itemsize} bits"
    return (
        f"is {_described(form)}, and the model takes {_described(Form(*traits.image_shape, traits.pixel_type))}; "
        f"--size {height},{width} and --channels {channels} bring pictures to that"
    )


def _described(form: Form) -> str:
    return f"{dimensions(form[:3])} {form.pixels}"


def _below(folder: Path, above: frozenset[Path]) -> Iterator[Path]:
    """Yield the files below a folder; `above`: the folders that it is in, into which a link may lead back."""
    own = folder.resolve()
    for name in () if own in above else list_visible(folder):
        path = folder / name
        if path.is_dir():
            yield from _below(path, above | {own})
        else:
            yield path
