"""In-memory data sets: images with integer labels and class names, split into training, validation and test."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

ImageShape = tuple[int, int, int]  # (height, width, channels)
PixelType = Literal["uint8", "uint16", "float32"]
Pixels = NDArray[np.uint8 | np.uint16 | np.float32]
FileOf = Callable[[int], str]  # names the file of sample i of a source
PIXEL_TYPES: dict[str, PixelType] = {"uint8": "uint8", "uint16": "uint16", "float32": "float32"}


class Traits(NamedTuple):
    """What all samples of a run have in common, those that are tested or predicted later too."""

    image_shape: ImageShape
    pixel_type: PixelType
    class_names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images: images[i] shows class_names[labels[i]]. Raises ValueError for other dtypes or shapes."""

    images: Pixels  # (N, H, W, C)
    labels: NDArray[np.int64]  # (N,), each in 0..len(class_names)-1
    class_names: tuple[str, ...]
    file_of: FileOf | None = None  # where each sample is a file
    rows: NDArray[np.int64] | None = None  # (N,): places in the source, from 0; None: it is the whole source

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype.name not in PIXEL_TYPES:
            wanted = ", ".join(PIXEL_TYPES)
            raise ValueError(f"images must be (N, H, W, C) of {wanted}, not {self.images.dtype} {self.images.shape}")
        if self.labels.shape != (len(self.images),) or self.labels.dtype != np.int64:
            raise ValueError(f"labels must be int64 ({len(self)},), not {self.labels.dtype} {self.labels.shape}")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> ImageShape:
        """Height, width and channels of every image."""
        _, height, width, channels = self.images.shape
        return height, width, channels

    def row(self, index: int) -> int:
        """Return the place of sample `index` in its source, counted from 1."""
        return int(index if self.rows is None else self.rows[index]) + 1

    def file(self, index: int) -> str | None:
        """Return the file of sample `index`; None where several share one."""
        return self.file_of(self.row(index) - 1) if self.file_of else None

    @property
    def traits(self) -> Traits:
        """Return what test data must have in common with these."""
        return Traits(self.image_shape, PIXEL_TYPES[self.images.dtype.name], self.class_names)

    def subset(self, indices: NDArray[np.int64]) -> "Dataset":
        """Return a copy of the samples at `indices`, in that order, with the same class names."""
        return Dataset(self.images[indices], self.labels[indices], self.class_names)


@dataclass(frozen=True, eq=False)
class Splits:
    """Data of a run: training samples, those held out for validation, and test samples."""

    train: Dataset
    validation: Dataset | None
    test: Dataset | None
    understood: str = ""  # what the files were taken for, in a line for people
    notes: tuple[str, ...] = ()  # what is odd about them, a line each

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the training and validation samples, as "sha256:<hex>"."""
        digest = hashlib.sha256()
        for part in (self.train, self.validation):
            if part is not None:
                # Shapes and names precede the contents, so that no two different data sets give the same bytes.
                digest.update(repr((part.images.shape, part.class_names)).encode())
                if part.images.dtype != np.uint8:
                    digest.update(part.images.dtype.name.encode())
                little = part.images.dtype.newbyteorder("<")
                digest.update(np.ascontiguousarray(part.images, little).data)
                digest.update(part.labels.astype("<i8").tobytes())
        return "sha256:" + digest.hexdigest()
