"""Variation of the training images, made when a batch is taken: no augmented data set is ever stored.

An epoch of ratio 4 has five times the samples: index i shows image i % N in variant i // N (as it is, or
moved by one pixel left, right, up or down). What is random adds to that, in this order: mirrored; slanted, turned,
scaled and distorted about the centre and shifted, all in one resampling; other colours; a square cut out; mixed with
another sample. It depends on (seed, epoch, i) alone.

The last epochs may do without all that makes other pixels than an image has: what a network is tested on was not
resampled either. He et al., "Data Augmentation Revisited" (2019).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cnnpar.config.sections import Augment, Train
from cnnpar.data.augment import colour, geometry, mixup
from cnnpar.data.augment.elastic import displacements
from cnnpar.data.augment.mixup import Targets
from cnnpar.data.augment.warp import resampled
from cnnpar.data.dataset import ImageShape
from cnnpar.errors import InputError

_Place = tuple[int, int, int]  # seed, epoch, and samples of the epoch

# (down, right) in pixels: as it is, left, right, up, down.
_VARIANTS = np.array([(0, 0), (0, -1), (0, 1), (-1, 0), (1, 0)], dtype=np.int64)


def check_augment(settings: Augment, image_shape: ImageShape) -> None:
    """Raises InputError where images of this shape can't be varied so."""
    if settings.saturation and image_shape[2] != 3:
        raise InputError(
            f"augment.saturation: is for images of 3 channels, and these have {image_shape[2]}; leave it at 0"
        )


def plain(settings: Augment) -> Augment:
    """What of it makes no other pixels than an image has."""
    return Augment(ratio=settings.ratio, shift=settings.shift, flip=settings.flip)


def plain_from(settings: Augment, epochs: int) -> int:
    """The epoch of so many from which on images are plain."""
    return max(epochs - settings.plain_epochs, 0)


class Augmenter:
    """Takes samples of an epoch out of a data set, varied as the settings say."""

    def __init__(self, settings: Augment, train: Train, mean: Sequence[float]) -> None:
        """`mean`: of each channel in pixel units; what is cut out is filled with it."""
        self._settings = settings
        self._plain = plain(settings)
        self._plain_from = plain_from(settings, train.epochs)
        self._seed = train.seed
        self._variants = _VARIANTS if settings.ratio == 4 else _VARIANTS[:1]
        self._fill = np.rint(mean).astype(np.uint8)

    def epoch_size(self, samples: int) -> int:
        """The number of indices of an epoch over a data set of `samples` images."""
        return samples * len(self._variants)

    def _settings_of(self, epoch: int) -> Augment:
        """How the images of an epoch are varied."""
        return self._plain if epoch >= self._plain_from else self._settings

    def take(
        self,
        images: NDArray[np.uint8],  # (N, H, W, C)
        labels: NDArray[np.int64],  # (N,)
        indices: NDArray[np.int64],  # (n,), each in 0..epoch_size(N)-1
        epoch: int,
        shown: NDArray[np.int64] | None = None,  # (epoch_size(N),), likewise
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]] | tuple[NDArray[np.float32], Targets]:
        """The images (n, H, W, C) and labels (n,) at `indices` of the epoch, as fresh arrays.

        `shown`: index i is drawn for as always, and shows what index shown[i] would; None: itself. With mixup images
        are float32, still in pixel units, and there are targets instead of labels.
        """
        total = self.epoch_size(len(images))
        seen = indices if shown is None else shown[indices]
        settings, place = self._settings_of(epoch), (self._seed, epoch, total)
        if not settings.mixup:
            return self._varied(images, seen, indices, settings, place), labels[seen % len(images)]
        everyone, everything = mixup.random_pairs(*place, settings.mixup)
        partners, shares = everyone[indices], everything[indices]
        others = partners if shown is None else shown[partners]
        targets = Targets(labels[seen % len(images)], labels[others % len(images)], shares)
        seen, indices = np.concatenate([seen, others]), np.concatenate([indices, partners])
        both = self._varied(images, seen, indices, settings, place)
        return mixup.mixed(both[: len(shares)], both[len(shares) :], shares), targets

    def _varied(
        self,
        images: NDArray[np.uint8],
        seen: NDArray[np.int64],
        indices: NDArray[np.int64],
        settings: Augment,
        place: _Place,
    ) -> NDArray[np.uint8]:
        """What is seen at `indices` of an epoch, before it is mixed."""
        variant, sample = np.divmod(seen, len(images))
        taken = images[sample]
        if settings.flip:
            turned = geometry.random_flips(*place)[indices]
            taken[turned] = taken[turned, :, ::-1]
        offsets = self._variants[variant]
        if settings.shift:
            offsets = offsets + geometry.random_offsets(*place, settings.shift)[indices]
        if any((settings.rotation, settings.scale, settings.shear, settings.elastic_alpha)):
            taken = _warped(taken, offsets, indices, settings, place)
        elif offsets.any():
            taken = geometry.shifted(taken, offsets)
        changes = settings.brightness, settings.contrast, settings.saturation
        if any(changes):
            taken = colour.jittered(taken, colour.random_factors(*place, *changes)[indices], settings)
        if settings.cutout:
            centres = colour.random_centres(*place, *images.shape[1:3])[indices]
            colour.cut_out(taken, centres, settings.cutout, self._fill)
        return taken


def _warped(
    images: NDArray[np.uint8],
    offsets: NDArray[np.int64],  # (n, 2)
    indices: NDArray[np.int64],
    settings: Augment,
    place: _Place,
) -> NDArray[np.uint8]:
    """All that moves pixels, in one resampling."""
    height, width = images.shape[1:3]
    maps = geometry.random_maps(*place, settings.rotation, settings.scale, settings.shear)[indices]
    rows, columns = geometry.sources(maps, offsets, height, width)
    if settings.elastic_alpha:
        seed, epoch, _ = place
        fields = displacements(seed, epoch, indices, height, width, settings.elastic_alpha, settings.elastic_sigma)
        rows += fields[:, :, 0]
        columns += fields[:, :, 1]
    return resampled(images, rows, columns)
