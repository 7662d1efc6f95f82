"""Collect pictures that were decoded in runs to one array; or say what differs between them, over all of them."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cnnpar.data.dataset import Pixels
from cnnpar.data.readers.decoder import Run, Wanted
from cnnpar.data.readers.digester import DIGEST_BYTES
from cnnpar.data.readers.files import require_memory
from cnnpar.data.readers.fitting import Form
from cnnpar.data.readers.pictures import MOST_PIXELS
from cnnpar.errors import InputError
from cnnpar.text import dimensions, harmless, listed

_MOVED = 1 << 24  # bytes of pictures that are moved at a time
LISTED = 3  # pictures that are named
T = TypeVar("T")
_CHANNELS = {1: "grey", 3: "colour"}
_DEPTHS = {"uint8": "8 bits", "uint16": "16 bits", "float32": "floats"}


class Collected:
    """The pictures of a source, as their runs come in, in any order."""

    def __init__(self, source: Path, count: int, name_of: Callable[[int], Path | str], skip: bool) -> None:
        """Begin without pictures; `name_of` names one by its index.

        `skip`: pictures that cannot be decoded are left out.
        """
        self._source, self._name_of, self._skip = source, name_of, skip
        self.digests = bytearray(DIGEST_BYTES * count)  # SHA-256 of each file, in order
        self.transparent = 0  # pictures
        self._good = np.zeros(count, np.bool_)
        self._images: Pixels = np.empty((0, 0, 0, 0), np.uint8)
        self._forms: Counter[Form] = Counter()
        self._first: dict[Form, int] = {}  # index of a form's first picture
        self._faults: dict[int, str] = {}
        self._refusals: dict[int, str] = {}
        self._unlike = False  # or too large to keep their size: forms are counted, and nothing is decoded

    def wants(self) -> Wanted | None:
        """Return what is wanted of the next pictures; None if there is an error already."""
        if self._refusals or (self._faults and not self._skip and not self._unlike):
            return None
        return "form" if self._unlike else "pixels"

    def take(self, run: Run) -> memoryview | None:
        """Add a run of pictures; return where its pixels go, if anywhere. Raises InputError if memory is too small."""
        end = run.first + run.count
        self.digests[DIGEST_BYTES * run.first : DIGEST_BYTES * run.first + len(run.digests)] = run.digests
        if run.refusal:
            self._refusals[run.first] = run.refusal
        elif run.form is None:
            self._faults[run.first] = run.fault
        else:
            self._forms[run.form] += run.count
            self._first[run.form] = min(run.first, self._first.get(run.form, run.first))
            if len(self._forms) > 1 or not run.decoded:
                self._unlike, self._images = True, self._images[:0].copy()
            if not self._unlike:
                self._good[run.first : end] = True
                self.transparent += run.transparent
                return self._place(run.first, end, run.form)
        return None

    def result(self) -> tuple[Pixels, NDArray[np.int64]]:
        """Return the images (N, H, W, C) and the indices of their files, without those left out. Raises InputError."""
        if self._unlike and self._forms.total() + len(self._faults) == len(self._good):
            raise self._unlike_error()
        if self._refusals:
            first = min(self._refusals)
            raise InputError(f"{self._name_of(first)}: cannot be read as a picture: {self._refusals[first]}")
        kept = np.flatnonzero(self._good)
        if self._faults and (not self._skip or not len(kept)):
            first = min(self._faults)
            hint = "" if self._skip else '; data.on_bad = "skip" leaves such pictures out'
            raise InputError(f"{self._name_of(first)}: {self._faults[first]}{hint}")
        if len(kept) < len(self._good):
            rows = max(1, _MOVED // self._images[0].nbytes)
            for begin in range(0, len(kept), rows):  # none is overwritten before it is moved
                indices = kept[begin : begin + rows]
                self._images[begin : begin + len(indices)] = self._images[indices]
        return self._images[: len(kept)], kept

    def transparent_note(self, background: str) -> list[str]:
        """Return a note on the pictures that are composited on a colour, if there are any."""
        if not self.transparent:
            return []
        how = f"composited on {background} (data.background)"
        return [f"{self.transparent:,} of {np.count_nonzero(self._good):,} pictures are transparent in places, {how}"]

    def _place(self, begin: int, end: int, form: Form) -> memoryview:
        """Return the bytes of pictures in the array, which is made for the first ones."""
        if not len(self._images):
            shape, dtype = (len(self._good), form.height, form.width, form.channels), np.dtype(form.pixels)
            require_memory(self._source, int(np.prod(shape)) * dtype.itemsize)
            self._images = np.empty(shape, dtype)
        return self._images[begin:end].data.cast("B")

    def _unlike_error(self) -> InputError:
        """Return the error of pictures that are not alike, or too large as they are."""
        usual = min(self._forms, key=lambda form: (-self._forms[form], self._first[form]))
        size = f"{usual.width} x {usual.height}"
        if len(self._forms) == 1:
            what = f"{size} pixels, at most {MOST_PIXELS:,} in all"
            remedy = "data.size = [H, W], such as [128, 128], scales all pictures"
            return InputError(
                f"{self._name_of(self._first[usual])}: too large for a training picture: {what}; {remedy}"
            )
        differing, options = list[str](), list[str]()
        if len(sizes := self._counted(lambda form: (form.width, form.height))) > 1:
            most, number = sizes.most_common(1)[0]
            differing.append(f"{len(sizes)} sizes (most {dimensions(most)}: {number:,})")
            options.append("data.size = [H, W], such as [128, 128]")
        if len(channels := self._counted(lambda form: _CHANNELS[form.channels])) > 1:
            (more, _), (fewer, number) = channels.most_common()
            differing.append(f"{number:,} {fewer} among {more}")
            options.append("data.channels = 3 (colour) or 1 (grey)")
        if len(depths := self._counted(lambda form: _DEPTHS[form.pixels])) > 1:
            differing.append(", ".join(f"{number:,} of {depth}" for depth, number in depths.most_common()))
        other = min((form for form in self._forms if form != usual), key=lambda form: self._first[form])
        example = f"{self._name_of(self._first[other])} is {other.width} x {other.height}"
        example += f" {_CHANNELS[other.channels]} of {_DEPTHS[other.pixels]}"
        what = f"its {self._forms.total():,} pictures are not alike: {', '.join(differing)}"
        remedies = [f"set {' and '.join(options)}"] if options else []
        remedies += ["convert all to one depth"] if len(depths) > 1 else []
        return InputError(f"{self._source}: {what}; {', '.join(remedies)} ({example})")

    def _counted(self, of: Callable[[Form], T]) -> Counter[T]:
        """Count pictures by a property of their forms."""
        found: Counter[T] = Counter()
        for form in sorted(self._forms, key=self._first.__getitem__):  # of equal counts, the first one comes first
            found[of(form)] += self._forms[form]
        return found


def left_out(source: Path | str, kept: NDArray[np.int64], count: int, name_of: Callable[[int], str]) -> list[str]:
    """Return a note on those of `count` pictures that are not among those kept, if there are any."""
    missing = np.setdiff1d(np.arange(count), kept, assume_unique=True)
    if not len(missing):
        return []
    names = listed([name_of(int(index)) for index in missing[: LISTED + 1]], LISTED)
    return [f"{source}: {len(missing):,} of {count:,} pictures cannot be read and are left out: {harmless(names)}"]
