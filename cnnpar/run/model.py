"""A trained network that answers: the model of a checkpoint, for scripts and for estimators."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from cnnpar.blas import use_one_thread
from cnnpar.config.sections import Config
from cnnpar.data.dataset import Pixels
from cnnpar.data.pixels import as_pixels_like
from cnnpar.data.readers.arrays import channels_first, channels_hint, images_to_predict, is_turned, rows_hint
from cnnpar.data.readers.pillow_images import converted
from cnnpar.errors import InputError
from cnnpar.exchange.export import export
from cnnpar.exchange.trained import Trained
from cnnpar.files import expanded
from cnnpar.run.python_words import in_python_words
from cnnpar.storage.checkpoint import Payload
from cnnpar.storage.packing import unpack
from cnnpar.text import dimensions
from cnnpar.training.state import EpochRecord

Images = ArrayLike | Image.Image | Sequence[Image.Image]

_AT_A_TIME = 64  # images predicted in one pass


class Model:
    """A trained network, from a checkpoint alone. Several threads may use it; they take turns."""

    def __init__(self, payload: Payload, source: str) -> None:
        use_one_thread()
        self.config: Config = payload.config
        self.history: list[EpochRecord] = payload.history
        self.class_names: tuple[str, ...] = payload.preprocessing.class_names
        self.image_shape = payload.preprocessing.image_shape  # (H, W, C)
        self._preprocessing = payload.preprocessing
        self._turn = threading.Lock()  # a network computes in memory that it keeps
        self.network, state = unpack(payload, source)
        self.weights_sha256 = state.digest
        with state.evaluation_weights() as weights:
            self.weights = weights.copy()  # (network.layout.size,): parameters, and buffers behind them

    def __repr__(self) -> str:
        takes = f"{dimensions(self.image_shape)} {self._preprocessing.pixels}"
        return f"<cnnpar.Model: {takes}, {len(self.class_names)} classes, weights sha256 {self.weights_sha256[:12]}...>"

    def parameters(self) -> dict[str, NDArray[np.float32]]:
        """Return parameters and buffers by name, such as conv1.weight: views of `weights`."""
        return self.network.layout.views(self.weights)

    def probabilities(self, images: Images) -> NDArray[np.float64]:
        """Return the probability of each class, (N, classes), for images as in `predict`; for a single one (classes,).

        With the loss `binary_cross_entropy` each class has one of its own, and they need not add up to 1; models that
        were trained by `mse` or `hinge` rank the classes rightly, but what they give is no frequency.
        """
        whole, single = self._images(images)
        parts = (whole[start : start + _AT_A_TIME] for start in range(0, len(whole), _AT_A_TIME))
        with self._turn:
            found = [self.network.probabilities(self.weights, self._preprocessing.normalise(part)) for part in parts]
        if single:
            return np.array(found[0][0])
        return np.concatenate(found) if found else np.zeros((0, len(self.class_names)))

    def predict(self, images: Images) -> NDArray[np.int64]:
        """Return the class of each image, (N,), as an index into `class_names`; for a single one a number of numpy, ().

        Images are (N, H, W, C), or one of them, (H, W, C), and without C if they are grey; of the size, the type and
        the range of those that the model was trained on. `data.scale` of the run multiplies them as it did those.
        A model of float32 takes whole numbers too, but for uint8 and uint16, which are likely to have another range.
        Tensors of torch may have their channels first. An image of Pillow, or a list of them, becomes what it would
        become in training. Raises InputError for others.
        """
        found: NDArray[np.int64] = self.probabilities(images).argmax(axis=-1)
        return found

    def export(self, path: str | Path, layout: str | None = None, overwrite: bool = False) -> Path:
        """Write the model to a file for other programs, by the ending of its name: .onnx, .safetensors or .npz.

        ONNX files take images in the layout "nhwc", the default, or "nchw", and those that `probabilities` takes:
        `data.scale` is part of them. The others have the weights by name, in "hwio", as `parameters()`, "torch", for
        `load_state_dict` of modules of the same names, or "keras". Returns the path. Raises InputError, also where the
        file is there and not to be overwritten.
        """
        with in_python_words():
            loss, scale = self.config.loss, self.config.data.scale
            known = self._preprocessing
            trained = Trained(self.network, self.weights, known, loss, self.weights_sha256, scale)
            return Path(export(trained, Path(expanded(str(path))), layout, overwrite).file)

    def _images(self, images: Images) -> tuple[Pixels, bool]:
        """Return images as (N, H, W, C), of the type of the training's, and whether a single one was given."""
        if pictures := _pictures(images):
            pixels = converted(pictures, self.config.data)
            if pixels.shape[1:] != self.image_shape or pixels.dtype != self._preprocessing.pixels:
                raise self._unlike(pixels, "; with data.size and data.channels in its training, pictures become that")
            return pixels, isinstance(images, Image.Image)
        whole = images_to_predict(images, self.image_shape)
        shape, wanted = whole.shape, self._preprocessing.pixels
        turned = channels_first(shape[-3:]) or is_turned(shape[-3:], self.image_shape)
        if hasattr(images, "detach") and (whole.ndim == 4 or self.image_shape[2] > 1) and turned:
            whole = np.moveaxis(whole, -3, -1)  # a tensor of torch
        if self.image_shape[2] == 1 and shape[-2:] == self.image_shape[:2] and whole.ndim < 4:
            whole = whole[..., np.newaxis]
        single = whole.shape == self.image_shape
        if single:
            whole = whole[np.newaxis]
        fits = whole.ndim == 4 and whole.shape[1:] == self.image_shape and whole.dtype.kind in "buif"
        if fits:
            pixels = as_pixels_like(whole, self.config.data.scale, wanted, "images")
        if not fits or pixels.dtype != wanted:
            hint = rows_hint(whole.shape, self.image_shape) or channels_hint(whole.shape, self.image_shape)
            raise self._unlike(whole, self._remedy(whole) if fits else hint)
        return pixels, single

    def _unlike(self, images: NDArray[Any], remedy: str) -> InputError:
        """Return the error of images that the model does not take."""
        takes = f"(N, {', '.join(map(str, self.image_shape))}) {self._preprocessing.pixels}"
        return InputError(f"images are {images.shape} {images.dtype}, and the model takes {takes}{remedy}")

    def _remedy(self, images: NDArray[Any]) -> str:
        """Say how images of another type become those of the model's."""
        wanted, (low, high) = self._preprocessing.pixels, (images.min(), images.max())
        if wanted != "float32" and images.dtype.kind == "f":
            most = np.iinfo(wanted).max
            if high <= 1:
                return f"; np.rint(images * {most}).astype(np.{wanted}) turns 0 to 1 into 0 to {most}"
            return (
                f" of 0 to {most}; these are {low:g} to {high:g}: np.rint(images.clip(0, {most})).astype(np.{wanted})"
            )
        mean = ", ".join(f"{value:.4g}" for value in self._preprocessing.mean)
        return f"; bring {low:g} to {high:g} to the range of the training, whose mean was {mean}, and to that type"


def _pictures(images: object) -> list[Image.Image]:
    """Return images of Pillow: one, or those of a list; none of what is something else."""
    members = images if isinstance(images, list | tuple) else (images,)
    pictures = [member for member in members if isinstance(member, Image.Image)]
    return pictures if len(pictures) == len(members) else []
