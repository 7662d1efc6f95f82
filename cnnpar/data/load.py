"""Load the data of a run: choose the reader, match labels and shapes, hold out validation samples.

Every fault of a file raises InputError, which names the file, the place in it, and what was expected.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cnnpar.config.data import DATA_NAMES, GIVEN, Data
from cnnpar.data.classes import check_test_labels, check_training_labels, match_labels, training_classes
from cnnpar.data.dataset import Dataset, Pixels, PixelType, Splits, Traits
from cnnpar.data.hold_out import held_out_fold, held_out_share
from cnnpar.data.pixels import describe_pixels
from cnnpar.data.preprocessing import HoldOut
from cnnpar.data.readers import cifar, csv_file, folder, idx, matlab, named, npz, pickles
from cnnpar.data.readers.arrays import channels_doubt, channels_hint
from cnnpar.data.readers.files import CheckLabels, Part, RawSamples
from cnnpar.data.suspicion import suspicions
from cnnpar.errors import InputError, reason
from cnnpar.text import dimensions, listed, one_line

_MOVED = 1 << 20  # bytes of samples that are moved at a time
_LISTED, _WIDTH = 4, 40  # classes that are named, and characters that they take; of more the first and the last are
_LONGEST = 18  # characters of a name there
_STANDARD_INPUT = Path("/dev/stdin")
Given = Mapping[Part, RawSamples]  # samples that are no files
GIVEN_AS: dict[Part, str] = {"train": "data", "validation": "validation", "test": "test"}  # arguments of `cnnpar.train`


def load_splits(settings: Data, hold_out: HoldOut = "stratified", given: Given | None = None) -> Splits:
    """Read the data of a run, or take those given, and split them. Raises InputError.

    The test samples are those of `settings.test`, or else the source's own, if it has any; so are those for validation,
    instead of a part held out of the training samples.
    """
    source, as_they_are = settings.name or settings.train, settings.labels == "as they are"
    sources = GIVEN_AS if given else {"train": source, "validation": source, "test": settings.test or source}
    source = sources["train"]
    if (settings.size or settings.channels) and not given and not Path(source).is_dir():
        raise InputError(f"{source}: data.size and data.channels are for folders of pictures; leave them out")
    check = partial(check_training_labels, source, as_they_are)
    found = _read(source, "train", settings, settings.shape, check, given)
    check_training_labels(source, as_they_are or found.class_names is not None, found.labels, found.place_of)
    train = Dataset(found.images, *training_classes(source, found, as_they_are), found.file_of)
    if settings.shape and (*settings.shape, 1)[:3] != train.image_shape:
        shapes = f"images are {dimensions(train.image_shape)}, but data.shape is {dimensions(settings.shape)}"
        hint = channels_hint(found.images.shape, settings.shape) or "; it is needed for CSV only"
        raise InputError(f"{source}: {shapes}{hint}")
    notes = [*found.notes, *filter(None, [channels_doubt(train.image_shape, settings.shape)])]
    test: Dataset | None = None
    if settings.test or "test" in found.other_parts:
        test = _load_like(sources["test"], "test", settings, train.traits, notes.append, given)
    validation: Dataset | None = None
    if settings.fold or "validation" not in found.other_parts:
        train, validation = _hold_out(source, train, settings, hold_out, notes.append)
        if "validation" in found.other_parts:
            notes.append(f"{source}: data.fold takes a part of the training samples; those for validation are not used")
    elif settings.validation or given:
        validation = _load_like(sources["validation"], "validation", settings, train.traits, notes.append, given)
    notes += suspicions(train, validation, test)
    return Splits(train, validation, test, _understood(train, found.understood), tuple(notes))


def load_test_set(source: str, settings: Data, traits: Traits, note: Callable[[str], None] = lambda _: None) -> Dataset:
    """Read test samples like those of the training; not every class needs to occur. Raises InputError.

    `source` is a name of `config.data.DATA_NAMES` (its test part), or else a path; `./digits` is always a path. `note`
    is told what is odd about them.
    """
    return _load_like(source, "test", settings, traits, note, None)


def _load_like(
    source: str, part: Part, settings: Data, traits: Traits, note: Callable[[str], None], given: Given | None
) -> Dataset:
    """Read samples of a part that must be like those of the training. Raises InputError."""
    check = partial(check_test_labels, source, traits.class_names)
    found = _read(source, part, settings, traits.image_shape, check, given)
    shape, pixels = found.images.shape[1:], found.images.dtype.name
    if shape != traits.image_shape:
        hint = channels_hint(found.images.shape, traits.image_shape)
        what = f"images are {dimensions(shape)}, but training had {dimensions(traits.image_shape)}"
        raise InputError(f"{source}: {what}{hint}")
    if pixels != traits.pixel_type:
        what = f"pixels are {pixels}, but training had {traits.pixel_type}"
        raise InputError(f"{source}: {what}; {_as_in_training(found.images, traits.pixel_type, settings.scale)}")
    for text in found.notes:
        note(text)
    labels = match_labels(source, found, traits.class_names, note)
    return Dataset(found.images, labels, traits.class_names, found.file_of)


def _as_in_training(images: Pixels, wanted: PixelType, scale: float) -> str:
    """Say how pixels of another type become those of the training; `data.scale` would change those of both files."""
    ways = {("uint8", "uint16"): "pixels * 257", ("uint16", "uint8"): "pixels / 257 rounded"}
    way = ways.get((images.dtype.name, wanted), "")
    low, high = images.min(), images.max()
    if wanted != "float32" and images.dtype == np.float32:
        most = 255 if wanted == "uint8" else 65535
        way = "" if low < 0 or high > most else f"pixels * {most} rounded" if high <= 1 else "pixels rounded"
    elif wanted == "float32":
        way = f"pixels / {255 if images.dtype == np.uint8 else 65535}, if its went from 0 to 1"
    there = f"these go from {low:.6g} to {high:.6g}; write them as the training's were"
    return f"{there}, such as {way}" if way and scale == 1 else there


def _understood(train: Dataset, found: str) -> str:
    """Say what the data were taken for."""
    names = train.class_names
    short = [one_line(name) if len(name) <= _LONGEST else one_line(name, _LONGEST - 3) + "..." for name in names]
    shown = listed(short)
    if len(names) > _LISTED or (len(names) > 2 and len(shown) > _WIDTH):
        shown = f"{short[0]} ... {short[-1]}"
    count = f"{len(names):,} class{'es' * (len(names) > 1)}"
    size = dimensions(train.image_shape[:2])
    colours = {1: "grey", 3: "colour"}.get(train.image_shape[2], f"of {train.image_shape[2]} channels")
    facts = [f"{count} ({shown})", f"{size} {colours}", describe_pixels(train.images), found]
    return ", ".join(filter(None, facts))


def _read(
    source: str, part: Part, settings: Data, shape: tuple[int, ...], check: CheckLabels, given: Given | None
) -> RawSamples:
    """Return the samples of a part, of those given, of a named data set, or of a path. Raises InputError."""
    if given is not None:
        return given[part]
    if source == GIVEN:
        raise InputError("the data of this run were given to cnnpar.train as data=...; give them there again")
    try:
        if source in DATA_NAMES:
            return named.read(source, part, check)
        return _read_path(Path(source), part, settings, shape, check)
    except MemoryError as error:
        raise InputError(f"{source}: does not fit into memory") from error
    except OSError as error:
        raise InputError(f"{source}: cannot be read: {reason(error)}") from error


def _read_path(path: Path, part: Part, settings: Data, shape: tuple[int, ...], check: CheckLabels) -> RawSamples:
    """Read the samples of a path, by the reader for its format. Raises InputError or OSError."""
    name = path.name.lower()
    if cifar.looks_like(path):
        return cifar.read(path, part, settings, check)
    if path.is_dir() and not idx.looks_like(path):
        if pickles.are_in(path):
            raise pickles.refusal(path)
        return folder.read(path, part, settings)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if csv_file.NAMES.search(name):
        return csv_file.read(path, shape, settings)
    if name.endswith(".npz"):
        return npz.read(path, part, settings, check)
    if idx.looks_like(path):
        return idx.read(path, check)
    if name.endswith(".mat"):
        return matlab.read(path, part, settings, check)
    if path.is_fifo() or path == _STANDARD_INPUT:  # such as `<(zcat train.csv.gz)`, and `- < train.csv`
        return csv_file.read(path, shape, settings)
    if pickles.looks_like(path):
        raise pickles.refusal(path)
    if path.suffix == ".npy":
        raise InputError(
            f"{path}: one array; np.savez(FILE, images=..., labels=...) puts images and labels into a file"
        )
    raise InputError(
        f"{path}: unknown kind of file; expected .csv, .tsv or .txt (also .gz, .zip, .bz2, .xz), .npz, "
        "IDX images (*idx3-ubyte or *idx3-ubyte.gz), .mat, CIFAR's *.bin, or a folder of class folders"
    )


def _hold_out(
    source: str, train: Dataset, settings: Data, hold_out: HoldOut, note: Callable[[str], None]
) -> tuple[Dataset, Dataset | None]:
    """Split training data into a training and a validation part; None if nothing is held out."""
    if not settings.fold and not settings.validation:
        return train, None
    if settings.fold:
        what, held = f"data.fold = {settings.fold!r}", held_out_fold(train.labels, *settings.part)
        shared = int((np.bincount(train.labels)[train.labels] > 1).sum())
        if settings.part[1] > shared:
            few = "that are not the only one of their class" if shared < len(train) else "to share out"
            raise InputError(f"{source}: {what}: there are {shared} samples {few}, so take at most so many parts")
    else:
        what, held = (
            f"data.validation = {settings.validation}",
            held_out_share(train.labels, settings.validation, hold_out),
        )
        if max(1, round(settings.validation * len(train))) >= len(train):
            what = f"{what} of {len(train)} samples leaves none to train on"
            raise InputError(f"{source}: {what}; set it to 0, or give more samples")
    if not len(held):
        note(f"{source}: {what} of {len(train)} samples holds none out, as each class keeps one to train on")
        return train, None
    kept = np.ones(len(train), np.bool_)
    kept[held] = False
    return _split(train, np.flatnonzero(kept), held)


def _split(data: Dataset, kept: NDArray[np.int64], held: NDArray[np.int64]) -> tuple[Dataset, Dataset]:
    """Return the samples at two lists of sorted indices, together all, as two parts of the same arrays, in place."""
    for array in (data.images, data.labels):
        rest = array[held]
        rows = max(1, _MOVED // (array.nbytes // len(array)))
        for begin in range(0, len(kept), rows):  # no index is below its new place, so none is overwritten too early
            indices = kept[begin : begin + rows]
            array[begin : begin + len(indices)] = array[indices]
        array[len(kept) :] = rest
    first, second = slice(0, len(kept)), slice(len(kept), len(data))
    return (
        Dataset(data.images[first], data.labels[first], data.class_names),
        Dataset(data.images[second], data.labels[second], data.class_names, data.file_of, held),
    )
