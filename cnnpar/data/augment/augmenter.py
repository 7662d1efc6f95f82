"""Augmentation of training images, computed for each batch as a pure function of (seed, epoch, sample index).

With ratio 4 an epoch has 5 N samples: index i is image i % N in variant i // N (unchanged, or shifted by one pixel
left, right, up or down). Random operations follow in this order: flip; shear, rotation, scale, elastic distortion and
shift in one resampling; brightness, contrast, saturation; cutout; mixup.

The last `plain_epochs` keep only ratio, shift and flip, since test images are not resampled either (He et al. 2019,
"Data Augmentation Revisited").
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cnnpar.config.sections import Augment, Train
from cnnpar.data.augment import colour, geometry, mixup
from cnnpar.data.augment.elastic import displacements
from cnnpar.data.augment.mixup import Targets
from cnnpar.data.augment.warp import compiled_loops, resampled
from cnnpar.data.dataset import ImageShape, Pixels
from cnnpar.errors import InputError
from cnnpar.text import dimensions

_Epoch = tuple[int, int, int]  # (seed, epoch, samples of the epoch): the arguments of every random draw

# (down, right) in pixels: unchanged, left, right, up, down.  (5, 2)
_VARIANTS = np.array([(0, 0), (0, -1), (0, 1), (-1, 0), (1, 0)], dtype=np.int64)


def check_augment(settings: Augment, image_shape: ImageShape) -> None:
    """Raise InputError if these settings do not fit images of this shape.

    Saturation needs 3 channels; a shift by the whole image, or a larger one, would leave nothing of it.
    """
    height, width, _ = image_shape
    size = dimensions((height, width))
    if settings.shift >= min(height, width):
        raise InputError(f"augment.shift: {settings.shift:,} pixels move an image of {size} out of sight; choose fewer")
    if settings.cutout > max(height, width):
        raise InputError(f"augment.cutout: a square of {settings.cutout:,} pixels is larger than an image of {size}")
    if settings.saturation and image_shape[2] != 3:
        raise InputError(
            f"augment.saturation: is for images of 3 channels, and these have {image_shape[2]}; leave it at 0"
        )


def without_resampling(settings: Augment) -> Augment:
    """Return only ratio, shift and flip of the settings: they move pixels and never change a value."""
    return Augment(ratio=settings.ratio, shift=settings.shift, flip=settings.flip)


def first_plain_epoch(settings: Augment, epochs: int) -> int:
    """Return the first of the last `plain_epochs` epochs of a run, counted from 0."""
    return max(epochs - settings.plain_epochs, 0)


class Augmenter:
    """Random access to the augmented samples of an epoch."""

    def __init__(self, settings: Augment, train: Train, mean: Sequence[float]) -> None:
        """Take the settings; `mean` (C,) is the data's, in pixel units, and fills the squares of cutout."""
        self._settings = settings
        self._plain = without_resampling(settings)
        self._first_plain = first_plain_epoch(settings, train.epochs)
        self._seed = train.seed
        self._variants = _VARIANTS if settings.ratio == 4 else _VARIANTS[:1]  # (5 or 1, 2)
        self._mean = np.array(mean, np.float32)  # (C,)

    def load_loops(self, image_shape: ImageShape) -> None:
        """Load the compiled loops that images of this shape take."""
        if self._first_plain and _warps(self._settings):
            compiled_loops(*image_shape)

    def epoch_size(self, samples: int) -> int:
        """Return the number of samples of an epoch over a data set of `samples` images."""
        return samples * len(self._variants)

    def _settings_of(self, epoch: int) -> Augment:
        """Return the settings in force in an epoch."""
        return self._plain if epoch >= self._first_plain else self._settings

    def take(
        self,
        images: Pixels,  # (N, H, W, C)
        labels: NDArray[np.int64],  # (N,)
        indices: NDArray[np.int64],  # (n,), each in 0..epoch_size(N)-1
        epoch: int,
        shown: NDArray[np.int64] | None = None,  # (epoch_size(N),), of the same range
    ) -> tuple[Pixels, NDArray[np.int64]] | tuple[NDArray[np.float32], Targets]:
        """Return augmented images (n, H, W, C) and labels (n,) at `indices` of the epoch, as new arrays.

        uint16 is augmented as float32.
        With `shown`, index i takes image and variant of index shown[i]; its random draws stay those of i. With mixup
        the images are float32 in pixel units, not rounded, and `Targets` take the place of labels.
        """
        total = self.epoch_size(len(images))
        seen = indices if shown is None else shown[indices]  # (n,)
        settings, of_epoch = self._settings_of(epoch), (self._seed, epoch, total)
        if not settings.mixup:
            return self._augmented(images, seen, indices, settings, of_epoch), labels[seen % len(images)]
        all_partners, all_shares = mixup.random_pairs(*of_epoch, settings.mixup)  # (epoch_size(N),) each
        partners, shares = all_partners[indices], all_shares[indices]  # (n,) each
        others = partners if shown is None else shown[partners]
        targets = Targets(labels[seen % len(images)], labels[others % len(images)], shares)
        seen, indices = np.concatenate([seen, others]), np.concatenate([indices, partners])
        both = self._augmented(images, seen, indices, settings, of_epoch)  # (2 n, H, W, C)
        return mixup.mixed(both[: len(shares)], both[len(shares) :], shares), targets

    def _augmented(
        self,
        images: Pixels,  # (N, H, W, C)
        seen: NDArray[np.int64],  # (n,): image and variant
        indices: NDArray[np.int64],  # (n,): random draws
        settings: Augment,
        of_epoch: _Epoch,
    ) -> Pixels:
        """Return the images (n, H, W, C) after all operations but mixup."""
        variant, sample = np.divmod(seen, len(images))
        taken = images[sample]  # (n, H, W, C), a copy
        if taken.dtype == np.uint16:
            taken = taken.astype(np.float32)
        if settings.flip:
            flipped = geometry.random_flips(*of_epoch)[indices]
            taken[flipped] = taken[flipped, :, ::-1]
        offsets = self._variants[variant]  # (n, 2)
        if settings.shift:
            offsets = offsets + geometry.random_offsets(*of_epoch, settings.shift)[indices]
        if _warps(settings):
            taken = _warped(taken, offsets, indices, settings, of_epoch)
        elif offsets.any():
            taken = geometry.shifted(taken, offsets)
        changes = settings.brightness, settings.contrast, settings.saturation
        if any(changes):
            taken = colour.jittered(taken, colour.random_factors(*of_epoch, *changes)[indices], settings)
        if settings.cutout:
            centres = colour.random_centres(*of_epoch, *images.shape[1:3])[indices]
            fill = np.rint(self._mean).astype(np.uint8) if taken.dtype == np.uint8 else self._mean
            colour.cut_out(taken, centres, settings.cutout, fill)
        return taken


def _warps(settings: Augment) -> bool:
    """Tell whether images are resampled."""
    return any((settings.rotation, settings.scale, settings.shear, settings.elastic_alpha))


def _warped(
    images: Pixels,  # (n, H, W, C)
    offsets: NDArray[np.int64],  # (n, 2)
    indices: NDArray[np.int64],  # (n,)
    settings: Augment,
    of_epoch: _Epoch,
) -> Pixels:
    """Return the images after shear, rotation, scale, elastic distortion and shift, in one resampling."""
    height, width = images.shape[1:3]
    maps = geometry.random_maps(*of_epoch, settings.rotation, settings.scale, settings.shear)[indices]  # (n, 2, 2)
    rows, columns = geometry.source_coordinates(maps, offsets, height, width)  # (n, H, W) each
    if settings.elastic_alpha:
        seed, epoch, _ = of_epoch
        fields = displacements(seed, epoch, indices, height, width, settings.elastic_alpha, settings.elastic_sigma)
        rows += fields[:, :, 0]
        columns += fields[:, :, 1]
    return resampled(images, rows, columns)
