"""What is suspicious about loaded data: each fault that makes an accuracy false, or meaningless, is a note of one line.

Nothing here changes the data, and usual data are quiet: a note is for shares and distances that chance does not bring.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnpar.data.dataset import Dataset, Pixels
from cnnpar.data.duplicates import first_alike
from cnnpar.text import listed, one_line

_REPEATED = 0.01  # share of the training pictures that occur before
_LEAKED = 0.005  # share of the pictures for validation or test that are in training
_CONTRADICTORY = 0.001  # share of the training pictures that have several labels
_MAJORITY = 0.9  # share of the largest class
_FEW = 10  # samples; of fewer, most may well be of one class
_SCALES = 10.0  # ratio of the standard deviations of two parts
_SHIFT = 2.0  # distance of the means of two parts, in standard deviations
_INVERSE = -0.8  # correlation of the mean pictures of two parts
_MOST_NEGATIVE = 0.9  # share of the pictures with negative pixels, where they are usual
_SAMPLED = 1 << 21  # pixels of a part that are looked at for their scale
_COLUMNS = 1 << 16  # of which each picture gives so many at most


def suspicions(train: Dataset, validation: Dataset | None, test: Dataset | None) -> Iterator[str]:
    """Yield a line for each thing that is suspicious about the data of a run."""
    yield from _of_classes(train, validation)
    unbalanced = _of_majority(train, "training")
    yield from unbalanced
    if test is not None and not unbalanced:
        yield from _of_majority(test, "test")
    empty = _of_content(train.images, "training")
    yield from empty
    if not empty:
        yield from _of_rounding(train.images)
        yield from _of_repeats(train, validation, test)
    if test is not None:
        empty = [*empty, *(blank := _of_content(test.images, "test"))]
        yield from blank
        if not empty:
            yield from _of_scale(train.images, test.images)


def suspicions_of_test(test: Dataset, mean: Sequence[float], std: Sequence[float]) -> Iterator[str]:
    """Yield a line for each thing that is suspicious about test data; `mean`, `std` (C,): of the training."""
    yield from _of_majority(test, "test")
    empty = _of_content(test.images, "test")
    yield from empty
    if not empty:
        whole = math.fsum(mean) / len(mean)
        square = math.fsum(m * m + s * s for m, s in zip(mean, std, strict=True)) / len(mean)
        sample = _Sample.of(test.images)
        yield from _of_moments(whole, math.sqrt(max(square - whole * whole, 0.0)), sample.mean, sample.std)


def _of_classes(train: Dataset, validation: Dataset | None) -> Iterator[str]:
    """Note a single class, and classes of a single sample."""
    names = train.class_names
    if len(names) == 1:
        yield f"there is only one class ({_name(names[0])}), so every network is right; look at the labels"
        return
    there = np.bincount(train.labels, minlength=len(names))
    if validation is not None:
        there += np.bincount(validation.labels, minlength=len(names))
    lone = [_name(names[index]) for index in np.flatnonzero(there == 1)]
    where = ", which is in training only" if validation is not None else ""
    if len(lone) == 1:
        yield f"class {lone[0]} has one sample{where}"
    elif lone:
        doubt = "; look at the labels" if 2 * len(lone) > len(names) else ""
        yield f"{len(lone):,} of {len(names):,} classes have one sample each{where}: {listed(lone, 4)}{doubt}"


def _of_majority(part: Dataset, title: str) -> list[str]:
    """Note that nearly all samples are of one class."""
    there = np.bincount(part.labels, minlength=len(part.class_names))
    largest = int(there.argmax())
    if len(there) == 1 or len(part) < _FEW or there[largest] < _MAJORITY * len(part):
        return []
    name, share = _name(part.class_names[largest]), there[largest] / len(part)
    if share == 1:
        return [f"all {len(part):,} {title} samples are of class {name}; an accuracy on them says little"]
    return [f"{share:.1%} of the {title} samples are of class {name}; naming it always is as accurate"]


def _of_content(images: Pixels, title: str) -> list[str]:
    """Note that all pictures are the same one, or that each has a single value."""
    if len(images) < 2 or images[0].size < 2:
        return []
    if not _differ(images, images[:1]):
        return [f"all {len(images):,} {title} pictures are the same, so there is nothing to tell them apart by"]
    if not _differ(images, images[:, :1, :1]):
        return [f"all {len(images):,} {title} pictures are blank, each of one colour"]
    return []


def _differ(images: Pixels, others: Pixels) -> bool:
    """Tell whether any picture differs from its counterpart of `others`, which are broadcast to (N, H, W, C)."""
    others = np.broadcast_to(others, images.shape)
    step = max(1, _SAMPLED // images[0].size)
    parts = (slice(begin, begin + step) for begin in range(0, len(images), step))
    return any((images[part] != others[part]).any() for part in parts)


def _of_rounding(images: Pixels) -> Iterator[str]:
    """Note whole pixels that are 0 and 1 only, as of 0..1 that were made uint8."""
    if images.dtype == np.uint8 and images[0].max() <= 1 and images.max() == 1:
        yield "all pixels are 0 or 1; if they were shares of 0 to 1 before, rounding has taken the grey from them"


def _of_repeats(train: Dataset, validation: Dataset | None, test: Dataset | None) -> Iterator[str]:
    """Note pictures that occur several times in training, with several labels, or in another part as well."""
    parts = {"training": train, "validation": validation, "test": test}
    there = {title: part for title, part in parts.items() if part is not None}
    first = first_alike(*(part.images for part in there.values()))
    labels = np.concatenate([part.labels for part in there.values()])
    count = len(train)
    own = first[:count]
    repeated = int((own != np.arange(count)).sum())
    if repeated and repeated >= _REPEATED * count:
        yield f"{_pictures(repeated)} of {count:,} in training are copies of others there"
    contradictory = len(np.unique(own[labels[:count] != labels[own]]))
    if contradictory and contradictory >= _CONTRADICTORY * count:
        verb = "occurs" if contradictory == 1 else "occur"
        yield f"{_pictures(contradictory)} in training {verb} with more than one label; look at the labels"
    begin = count
    for title, part in [*there.items()][1:]:
        leaked = int((first[begin : begin + len(part)] < count).sum())
        if leaked and leaked >= _LEAKED * len(part):
            known = "is in training, too, and is" if leaked == 1 else "are in training, too, and are"
            yield f"{_pictures(leaked)} of {len(part):,} for {title} {known} known by heart; that accuracy is too high"
        begin += len(part)


class _Sample(NamedTuple):
    """Facts about some pixels of a part."""

    lowest: float
    highest: float
    mean: float
    std: float
    picture: NDArray[np.float64]  # (pixels,): the mean picture
    negative: float  # share of the pictures with negative pixels

    @classmethod
    def of(cls, images: Pixels) -> "_Sample":
        """Look at every n-th picture, and in large ones at every n-th pixel."""
        size = images[0].size
        rows = images[:: -(-len(images) // max(1, _SAMPLED // min(size, _COLUMNS)))]
        every = -(-size // _COLUMNS)
        pixels = np.stack([row.ravel()[::every] for row in rows]).astype(np.float32)  # (n, pixels)
        picture = pixels.mean(axis=0, dtype=np.float64)
        lowest, highest = float(pixels.min()), float(pixels.max())
        std = float(pixels.std(dtype=np.float64))
        return cls(lowest, highest, float(picture.mean()), std, picture, float((pixels.min(axis=1) < 0).mean()))


def _of_scale(train: Pixels, test: Pixels) -> Iterator[str]:
    """Note test pictures whose pixels are on another scale than the training's, or are black where those are white."""
    known, other = _Sample.of(train), _Sample.of(test)
    shares = sorted((known.negative, other.negative))
    if shares[0] == 0 and shares[1] >= _MOST_NEGATIVE:
        which, others = ("training", "test") if known.negative else ("test", "training")
        yield f"the {which} pictures have pixels below 0, and the {others} pictures have none; they need one scale"
    elif _inverted(known, other):
        yield "the test pictures are negatives of the training's: black is white there; invert them"
    else:
        yield from _of_moments(known.mean, known.std, other.mean, other.std)


def _inverted(known: _Sample, other: _Sample) -> bool:
    """Tell whether one mean picture looks like the negative of the other, and is bright where that is dark."""
    deviations = [sample.picture - sample.mean for sample in (known, other)]
    sizes = math.prod(float(np.linalg.norm(deviation)) for deviation in deviations)
    if sizes == 0 or float(deviations[0] @ deviations[1]) > _INVERSE * sizes:
        return False
    middle = (min(known.lowest, other.lowest) + max(known.highest, other.highest)) / 2
    opposite = (known.mean - middle) * (other.mean - middle) < 0
    return opposite and abs(known.mean - other.mean) > known.std / 2


def _of_moments(mean: float, std: float, test_mean: float, test_std: float) -> Iterator[str]:
    """Note that mean or standard deviation of the test pixels are far from the training's."""
    scaled = not std / _SCALES <= test_std <= std * _SCALES
    if std > 0 and (scaled or abs(test_mean - mean) > _SHIFT * std):
        facts = f"mean {test_mean:.3g}, deviation {test_std:.3g}; training: {mean:.3g}, {std:.3g}"
        doubt = "another scale" if scaled else "another scale, or black for white"
        yield f"the test pixels are far from the training's ({facts}): {doubt}?"


def _pictures(count: int) -> str:
    """Count pictures for people."""
    return f"{count:,} picture{'s' * (count > 1)}"


def _name(name: str) -> str:
    """Return the name of a class, shortened."""
    return one_line(name, 40)
