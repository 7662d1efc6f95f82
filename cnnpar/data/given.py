"""Samples that a script gives to `cnnpar.train`: pairs of arrays, or objects that give one sample after the other.

Nothing of the caller's is changed, as all is copied.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnpar.config.data import Data
from cnnpar.data.dataset import PIXEL_TYPES, Pixels, PixelType
from cnnpar.data.load import GIVEN_AS, Given
from cnnpar.data.pixels import as_pixels, as_pixels_like
from cnnpar.data.readers.array_labels import as_labels
from cnnpar.data.readers.arrays import channels_first, image_array, image_fault
from cnnpar.data.readers.files import Part, RawSamples, numbered, require_memory
from cnnpar.data.readers.pillow_images import Pictures, PillowImages
from cnnpar.errors import InputError
from cnnpar.text import dimensions, is_plain, listed, one_line, shown

_IMAGE_KEYS = ("image", "img", "pixel_values", "picture")
_LABEL_KEYS = ("label", "labels", "fine_label", "target")
_BY_POSITION = ("", "first", "last")  # values of `data.label` that name no column
_WANTED = "expected (images, labels), or an object with __len__ and __getitem__ that gives (image, label)"


def samples_given(parts: Mapping[Part, object], settings: Data) -> Given:
    """Return the samples of each part, "train" among them, as a reader returns those of files. Raises InputError."""
    if settings.fold and "validation" in parts:
        raise InputError(
            f"validation: data.fold = {settings.fold!r} holds out a part of data=...; leave one of them out"
        )
    train = _converted("train", parts["train"], settings, None)
    like = PIXEL_TYPES[train.images.dtype.name]
    found: dict[Part, RawSamples] = {}
    for part, value in parts.items():
        if part != "train":
            found[part] = _converted(part, value, settings, like)
    found["train"] = replace(train, other_parts=frozenset(found))
    return found


def _converted(part: Part, value: Any, settings: Data, like: PixelType | None) -> RawSamples:
    """Convert the samples of a part, to the type of pixels `like` where that is possible. Raises InputError."""
    source = GIVEN_AS[part]
    if isinstance(value, tuple | list) and len(value) == 2 and not (isinstance(value, list) and _are_samples(value)):
        found = _of_pair(source, settings, *value)
    else:
        found = _of_object(source, value, settings)
    shape, dtype = found.images.shape, found.images.dtype
    if found.pictures is None and (fault := image_fault(shape, dtype.kind)):
        raise InputError(f"{source}: images are {dtype} of shape {shape}; {fault}")
    labels, names = as_labels(found.labels, source)
    if len(labels) != found.count:
        raise InputError(f"{source}: {found.count} images, but {len(labels)} labels")
    images, kept, sized, notes = found.pictures or Pictures(
        _pixels(found, settings, like, source), np.arange(found.count)
    )
    labels = labels[kept]
    if names is not None and len(gone := np.setdiff1d(np.arange(len(names)), labels)):
        raise InputError(f"{source}: no picture of class {names[gone[0]]!r} can be read")
    if names is None and _are_names(found.names) and labels.min() >= 0 and labels.max() < len(found.names):
        names = found.names
    understood = ", ".join(filter(None, [*found.understood, sized]))
    return RawSamples(
        images, labels, lambda index: numbered(int(kept[index])), names, understood=understood, notes=notes
    )


def _pixels(found: "_Found", settings: Data, like: PixelType | None, source: str) -> Pixels:
    """Return arrays as images (N, H, W, C) of a type of pixels that is trained on. Raises InputError."""
    images = found.images
    if not found.own:
        require_memory(Path(source), images.nbytes)
    scale = settings.scale
    pixels = as_pixels(images, scale, source) if like is None else as_pixels_like(images, scale, like, source)
    whole = np.ascontiguousarray(pixels.reshape(*pixels.shape[:3], -1))
    if not found.own and np.may_share_memory(whole, images):
        whole = whole.copy()
    for setting, wanted, there in (
        ("size", settings.size, whole.shape[1:3]),
        ("channels", settings.channels, whole.shape[3]),
    ):
        if wanted and wanted != there:
            what = f"images are {dimensions(whole.shape[1:])}, and data.{setting} turns pictures, not arrays"
            raise InputError(f"{source}: {what}; leave it out, or convert the images before")
    return whole


@dataclass
class _Found:
    """Samples as they were found: of arrays nothing but their shapes has been looked at."""

    count: int  # N
    images: NDArray[Any]  # (N, H, W) or (N, H, W, C); empty where there are pictures
    labels: Any  # N labels of any kind
    names: tuple[str, ...] = ()  # of the classes 0..K-1, where the source has names for them
    understood: list[str] = field(default_factory=list)
    own: bool = True  # the images are no array of the caller's
    pictures: Pictures | None = None  # what images of Pillow became


def _are_names(names: tuple[str, ...]) -> bool:
    """Tell whether classes can be told apart by names, which a data set may have given some of them twice."""
    return 0 < len(names) == len(set(names)) and all(name.strip() and is_plain(name) for name in names)


def _are_samples(values: list[Any]) -> bool:
    """Tell whether all members of a list are samples: (image, label), or tables of both."""
    return all(isinstance(value, Mapping) or (isinstance(value, tuple) and len(value) == 2) for value in values)


def _of_pair(source: str, settings: Data, images: Any, labels: Any) -> _Found:
    """Take images and labels that are given as two arrays, or lists."""
    labels = image_array(labels) if hasattr(labels, "__array__") else labels
    if hasattr(images, "__array__"):
        whole = image_array(images)
        if whole.dtype != object:
            if hasattr(images, "detach") and whole.ndim == 4 and channels_first(whole.shape[1:], tensor=True):
                return _Found(len(whole), whole.transpose(0, 2, 3, 1), labels, understood=[_TENSORS], own=False)
            return _Found(len(whole), whole, labels, own=False)
        images = list(whole) if whole.ndim else [images]
    if not _is_sequence(images):
        raise InputError(f"{source}: images are {_described(images)}; expected an array, or a list of them")
    stack = _Stack(source, len(images), settings)
    for image in images:
        stack.add(image)
    return stack.found(labels)


def _of_object(source: str, samples: Any, settings: Data) -> _Found:
    """Take samples from an object one by one: from torchvision's data sets, those of `datasets`, and others."""
    if isinstance(samples, Mapping):
        members = [str(key) for key in samples]
        raise InputError(f"{source}: a table of {listed(members)}; {_WANTED}, such as one of its members")
    if isinstance(samples, np.ndarray | str) or not _is_sequence(samples):
        hint = "; give its .dataset" if _is_sequence(getattr(samples, "dataset", None)) else ""
        if isinstance(samples, float):
            hint = "; a share to hold out is data.validation in config"
        raise InputError(f"{source}: {_described(samples)}; {_WANTED}{hint}")
    if not len(samples):
        raise InputError(f"{source}: no samples; {_WANTED}")
    stack, labels, names = _Stack(source, len(samples), settings), [], _class_names(samples)
    first = _sample(source, samples, 0)
    keys = _find_keys(source, first, settings) if isinstance(first, Mapping) else None
    for image, label in _each(source, samples, keys):
        stack.add(image)
        labels.append(label)
    if keys:
        stack.understood.insert(0, f"images in {keys[0]!r} and labels in {keys[1]!r}")
        names = getattr((getattr(samples, "features", None) or {}).get(keys[1]), "names", None)
    return stack.found(labels, tuple(map(str, names or ())))


def _each(source: str, samples: Any, keys: tuple[str, str] | None) -> Iterator[tuple[Any, Any]]:
    """Yield image and label of each sample, by their keys where samples are tables. Raises InputError."""
    for index in range(len(samples)):
        sample = _sample(source, samples, index)
        if keys and isinstance(sample, Mapping) and sample.keys() >= set(keys):
            yield sample[keys[0]], sample[keys[1]]
        elif not keys and isinstance(sample, tuple | list) and len(sample) == 2:
            yield sample[0], sample[1]
        else:
            raise InputError(f"{source}: {numbered(index)} is {_described(sample)}; {_WANTED}")


def _sample(source: str, samples: Any, index: int) -> Any:
    """Return a sample. Raises InputError where the object, which may be no sequence after all, has none there."""
    try:
        return samples[index]
    except (IndexError, KeyError, TypeError) as error:
        what = f"{numbered(index)} of {len(samples):,} can't be had: {one_line(repr(error))}"
        raise InputError(f"{source}: {what}; {_WANTED}") from error


def _is_sequence(value: Any) -> bool:
    """Tell whether a value has a length and members."""
    return hasattr(value, "__len__") and hasattr(value, "__getitem__")


def _find_keys(source: str, sample: Mapping[str, Any], settings: Data) -> tuple[str, str]:
    """Return the keys of image and label in the tables that samples are. Raises InputError where they can't be told."""
    wanted = _LABEL_KEYS if settings.label in _BY_POSITION else (settings.label,)
    image = next((key for key in _IMAGE_KEYS if key in sample), None)
    label = next((key for key in wanted if key in sample), None)
    if image is None or label is None:
        what = f"no image: {listed(_IMAGE_KEYS)}" if image is None else f"no label: {listed(wanted)}"
        hint = "" if image is None else '; data.label = "..." names another'
        raise InputError(f"{source}: samples have {listed([str(key) for key in sample])}, and {what}{hint}")
    return image, label


def _class_names(samples: Any) -> Any:
    """Return `classes` of a data set, or of the one that it is a part of, as torchvision and torch have them."""
    while not hasattr(samples, "classes") and hasattr(samples, "dataset"):
        samples = samples.dataset
    classes = getattr(samples, "classes", None)
    return classes if isinstance(classes, list | tuple) else None


def _described(value: Any) -> str:
    """Return a value for messages, in one line."""
    if hasattr(value, "__array__") and hasattr(value, "shape"):
        return f"an array of shape {tuple(value.shape)}"
    return one_line(shown(value))


_TENSORS = "tensors of (C, H, W), turned to (H, W, C)"


class _Stack:
    """Images that become one array, as they come: all arrays, which must be alike, or all images of Pillow."""

    def __init__(self, source: str, count: int, settings: Data) -> None:
        self.understood: list[str] = []
        self._source, self._count, self._settings, self._done = source, count, settings, 0
        self._images: NDArray[Any] = np.empty((0,), np.uint8)
        self._pictures: PillowImages | None = None

    def add(self, value: Any) -> None:
        """Append an image. Raises InputError for what is none, and for one that is not like the first."""
        place = f"{self._source}: {numbered(self._done)}"
        image = value if isinstance(value, Image.Image) else self._array(place, value)
        if self._done == 0:
            self._begin(image)
        if isinstance(image, Image.Image):
            if self._pictures is None:
                raise InputError(f"{place} is a picture of Pillow, and the first is an array; all must be alike")
            self._pictures.add(image)
        else:
            if self._pictures is not None:
                raise InputError(f"{place} is an array, and the first is a picture of Pillow; all must be alike")
            first = self._images[0]
            if (image.shape, image.dtype) != (first.shape, first.dtype):
                what = [f"{dimensions(each.shape)} {each.dtype}" for each in (image, first)]
                raise InputError(f"{place} is {what[0]}, and the first is {what[1]}; all must be alike, so resize them")
            self._images[self._done] = image
        self._done += 1

    def found(self, labels: Any, names: tuple[str, ...] = ()) -> _Found:
        """Return the samples, once all images are there. Raises InputError for pictures that are not alike."""
        pictures = self._pictures.result() if self._pictures else None
        return _Found(self._count, self._images, labels, names, self.understood, pictures=pictures)

    def _begin(self, first: Image.Image | NDArray[Any]) -> None:
        """Prepare for images like the first. Raises InputError where they do not fit into memory."""
        if isinstance(first, Image.Image):
            self._pictures = PillowImages(self._source, self._count, self._settings)
        else:
            require_memory(Path(self._source), self._count * first.nbytes)
            self._images = np.empty((self._count, *first.shape), first.dtype)

    def _array(self, place: str, value: Any) -> NDArray[Any]:
        """Return an image as an array (H, W) or (H, W, C). Raises InputError for what is none."""
        if value is None or isinstance(value, str | bytes | Mapping):
            raise InputError(
                f"{place}: its image is {one_line(shown(value))}; expected an array or a picture of Pillow"
            )
        try:
            image = image_array(value)
        except ValueError as error:
            raise InputError(f"{place}: its image is no array: {error}") from error
        if image.dtype.kind not in "buif" or image.ndim not in (2, 3) or not image.size:
            raise InputError(
                f"{place}: its image is {image.dtype} of shape {image.shape}; expected numbers, (H, W) or (H, W, C)"
            )
        tensor = hasattr(value, "detach")  # of torch, which alone always has channels first
        if not channels_first(image.shape, tensor=tensor):
            return image
        if not tensor:
            what = f"{place} has its channels first, {dimensions(image.shape)}"
            raise InputError(f"{what}; image.transpose(1, 2, 0) puts them last")
        self.understood = [_TENSORS]
        return image.transpose(1, 2, 0)
