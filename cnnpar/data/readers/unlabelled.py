"""Samples without labels, which are only predicted: they become what the training's became, or it is said why not.

They come in parts, so that what is in memory does not grow with their number.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnpar.config.data import Data
from cnnpar.data.dataset import PIXEL_TYPES, ImageShape, Pixels, Traits
from cnnpar.data.pixels import as_pixels_like
from cnnpar.data.readers import csv_file, idx, npz
from cnnpar.data.readers.class_folders import list_visible
from cnnpar.data.readers.csv_file import ImagePart
from cnnpar.data.readers.decoder import Run
from cnnpar.data.readers.decoding import read_all
from cnnpar.data.readers.fitting import Form
from cnnpar.data.readers.folder import look_of
from cnnpar.data.readers.inputs import Input
from cnnpar.errors import InputError, reason
from cnnpar.text import dimensions

_PART = 4 << 20  # bytes of an array that are read at a time
_ARRAYS: dict[str, Callable[[Path, ImageShape, int], Iterator[NDArray[Any]]]] = {
    "npz": npz.image_parts,
    "npy": npz.npy_parts,
    "idx": idx.image_parts,
}


class Origin(NamedTuple):
    """Where a sample was found."""

    file: str  # as the user named it
    row: int | None = None  # counted from 1; None for a picture
    id_name: str = ""  # of the column of a CSV that numbers or names the samples, if there is one
    id: str = ""

    def __str__(self) -> str:
        """Return the file, and the row of a table: `test.csv: row 1`."""
        return self.file if self.row is None else f"{self.file}: row {self.row}"


Take = Callable[[Pixels, Sequence[Origin]], None]  # gets samples (n, H, W, C), in order
Fail = Callable[[str, str], None]  # gets an input that is left out, and a line that says why


def files_of(path: Path) -> list[str]:
    """Return a file, or all files below a folder, sorted, without hidden ones and leftovers.

    Raises InputError for a folder without any, and for one that cannot be read.
    """
    if not path.is_dir():
        return [str(path)]
    files = [*_below(str(path), frozenset())]
    if not files:
        raise InputError(f"{path}: no files in this folder; expected pictures")
    return files


def read_pictures(sources: Sequence[Input], settings: Data, traits: Traits, take: Take, fail: Fail) -> None:
    """Read pictures, and those in folders, as the training's were, and hand them on in order.

    `fail` is told of files that cannot be read, or are not like the images of the training.
    """
    files = list[str]()
    for source in sources:
        try:
            files += files_of(source.path)
        except InputError as error:
            fail(source.name, str(error))
    piped = {str(source.path): source for source in sources if source.is_standard_input}
    waiting: dict[int, Pixels | list[str]] = {}  # by the index of their first file: pixels, or what is wrong
    done = 0

    def hand_on() -> None:
        nonlocal done
        while (found := waiting.pop(done, None)) is not None:
            paths = files[done : done + len(found)]
            done += len(found)
            if isinstance(found, list):
                for path, fault in zip(paths, found, strict=True):
                    source = piped.get(path) or Input(Path(path), path, "pictures")
                    fail(source.name, source.told(f"{path}: {fault}"))
            else:
                take(found, [Origin(piped[path].name if path in piped else path) for path in paths])

    def collect(run: Run) -> memoryview | None:
        hand_on()  # the pixels of earlier runs are all there
        if run.decoded and run.form == (*traits.image_shape, traits.pixel_type):
            pixels: Pixels = np.empty((run.count, *traits.image_shape), traits.pixel_type)
            waiting[run.first] = pixels
            return pixels.data.cast("B")
        paths = files[run.first : run.first + run.count]
        waiting[run.first] = [_fault(Path(path), run, traits) for path in paths]
        return None

    if files:
        read_all(iter(files), len(files), look_of(settings), lambda: "pixels", collect)
    hand_on()


def read_table(source: Input, settings: Data, traits: Traits, take: Take, fail: Fail) -> None:
    """Read the images of a CSV or of arrays, as the training's were, and hand them on, up to the first fault."""
    parts, rows = _alike(source, _parts(source, settings, traits), settings.scale, traits), 0
    while True:
        try:
            part = next(parts, None)
        except (InputError, MemoryError, OSError) as error:
            what = str(error) if isinstance(error, InputError) else f"{source.path}: cannot be read: {reason(error)}"
            if isinstance(error, MemoryError):
                what = f"{source.path}: does not fit into memory"
            answered = f"; the {rows:,} rows before are answered" if rows else ""
            fail(source.name, source.told(what) + answered)
            return
        if part is None:
            return
        numbers = range(rows + 1, rows + len(part.images) + 1)
        cells = part.ids or [""] * len(part.images)
        origins = [Origin(source.name, row, part.id_name, cell) for row, cell in zip(numbers, cells, strict=True)]
        take(part.images, origins)
        rows += len(origins)


def _parts(source: Input, settings: Data, traits: Traits) -> Iterator[ImagePart]:
    """Iterate over the images of a table, part by part, as they are."""
    if source.kind == "csv":
        return csv_file.image_parts(source.path, traits.image_shape, settings)
    return map(ImagePart, _ARRAYS[source.kind](source.path, traits.image_shape, _PART))


def _alike(source: Input, parts: Iterator[ImagePart], scale: float, traits: Traits) -> Iterator[ImagePart]:
    """Yield parts as the type of the training's pixels. Raises InputError where all together are another.

    The first lines of a CSV may hold smaller numbers than the rest: they wait until some show the type.
    """
    wanted, kind, waiting = np.dtype(traits.pixel_type), np.dtype(np.uint8), list[ImagePart]()
    for part in parts:
        pixels = as_pixels_like(part.images, scale, traits.pixel_type, str(source.path))
        kind = np.promote_types(kind, pixels.dtype)
        final = source.kind != "csv" and scale == 1 and part.images.dtype.name in PIXEL_TYPES
        if not np.can_cast(kind, wanted) or (final and kind != wanted):
            break
        waiting.append(part._replace(images=pixels))
        if kind == wanted:
            yield from (part._replace(images=part.images.astype(wanted, copy=False)) for part in waiting)
            waiting.clear()
    if kind != wanted:
        what = f"pixels are {kind}, and the model was trained on {wanted}"
        raise InputError(f"{source.path}: {what}; train it on data of the same range, by data.scale")


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


def _below(folder: str, above: frozenset[str]) -> Iterator[str]:
    """Yield the files below a folder; `above`: the folders that it is in, into which a link may lead back."""
    own = os.path.realpath(folder)
    for name in () if own in above else list_visible(Path(folder)):
        path = os.path.join(folder, name)  # noqa: PTH118  # there may be a million, and a Path takes ten times as long
        if os.path.isdir(path):  # noqa: PTH112
            yield from _below(path, above | {own})
        else:
            yield path
