"""The samples of a run in one piece of shared memory, which all workers of a node map instead of copying."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from numpy.typing import NDArray

from cnnpar.data.dataset import Dataset
from cnnpar.parallel.direct.shared_memory import SharedMemory
from cnnpar.parallel.work import Kind

_LINE = 64  # bytes of a cache line, at which each array begins


class _Place(NamedTuple):
    """Place of one array in the memory."""

    offset: int  # in bytes
    dtype: str
    shape: tuple[int, ...]


class Layout(NamedTuple):
    """Size of the memory in bytes, and what lies where: for each data set images, labels, and the names of classes."""

    size: int
    parts: dict[Kind, tuple[_Place, _Place, tuple[str, ...]]]


class Samples:
    """Data sets in shared memory."""

    def __init__(self, memory: SharedMemory, layout: Layout) -> None:
        """Use memory that another process has filled, as laid out."""
        self.memory = memory
        self.layout = layout

    @classmethod
    def of(cls, data: Mapping[Kind, Dataset]) -> "Samples":
        """Copy data sets into new memory."""
        size, parts = 0, {}
        for kind, part in data.items():
            places = []
            for array in (part.images, part.labels):
                places.append(_Place(size, array.dtype.str, array.shape))
                size += -(-array.nbytes // _LINE) * _LINE
            parts[kind] = (places[0], places[1], part.class_names)
        samples = cls(SharedMemory.create(size), Layout(size, parts))
        for kind, part in samples.datasets().items():
            part.images[...] = data[kind].images
            part.labels[...] = data[kind].labels
        return samples

    def datasets(self) -> dict[Kind, Dataset]:
        """Return the data sets, whose arrays lie in the memory."""
        return {
            kind: Dataset(self._array(images), self._array(labels), names)
            for kind, (images, labels, names) in self.layout.parts.items()
        }

    def _array(self, place: _Place) -> NDArray[Any]:
        return self.memory.array(place.shape, place.dtype, place.offset)
