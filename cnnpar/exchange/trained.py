"""A trained network as it leaves: the weights that are evaluated, and the facts that are needed to use them."""

from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Struct

from cnnpar.config.choices import Loss, PositiveFloat
from cnnpar.config.sections import Layout
from cnnpar.data.preprocessing import Preprocessing
from cnnpar.nn.network import Network
from cnnpar.nn.shapes import Array, Vector
from cnnpar.storage.checkpoint import Payload
from cnnpar.storage.packing import unpack
from cnnpar.version import __version__

_OF_IMAGES = ("image_shape", "pixels", "mean", "std", "class_names")  # fields of Facts that are of Preprocessing, too


@dataclass(frozen=True, eq=False)
class Trained:
    """A network with its evaluation weights: those of the EMA, if the run had one."""

    network: Network
    weights: Vector  # (network.layout.size,): parameters, and buffers behind them
    preprocessing: Preprocessing
    loss: Loss
    weights_sha256: str  # of the checkpoint, as `cnnpar inspect` shows it
    scale: float  # data.scale: what the images are multiplied by, before they are pixels

    @classmethod
    def of(cls, payload: Payload, source: str) -> "Trained":
        """Take the network out of a checkpoint. Raises InputError, which names `source` and the place in it."""
        network, state = unpack(payload, source)
        digest = state.digest  # of what was trained; the block puts the EMA in its place
        with state.evaluation_weights() as weights:
            config = payload.config
            return cls(network, weights.copy(), payload.preprocessing, config.loss, digest, config.data.scale)

    def arrays(self) -> dict[str, Array]:
        """Return parameters and buffers by name, such as conv1.weight: views of the weights."""
        return self.network.layout.views(self.weights)


class Facts(Struct, frozen=True):
    """What a file of weights says about them; empty where another program's file does not.

    Images are normalised as (scale * image - mean) / std, channel by channel; with a scale other than 1, and pixels
    that are no float32, scale * image is rounded.
    """

    layout: Layout
    image_shape: tuple[int, ...] = ()  # (H, W, C)
    pixels: str = ""  # uint8, uint16 or float32
    scale: PositiveFloat | None = None
    mean: tuple[float, ...] = ()  # (C,)
    std: tuple[float, ...] = ()  # (C,)
    class_names: tuple[str, ...] = ()
    weights_sha256: str = ""
    cnnpar: str = ""  # version

    @classmethod
    def of(cls, trained: Trained, layout: Layout) -> "Facts":
        """Return the facts of a network in a layout."""
        known = trained.preprocessing
        return cls(
            layout=layout,
            image_shape=known.image_shape,
            pixels=known.pixels,
            scale=trained.scale,
            mean=known.mean,
            std=known.std,
            class_names=known.class_names,
            weights_sha256=trained.weights_sha256,
            cnnpar=__version__,
        )

    @property
    def suffice(self) -> bool:
        """Tell whether they are all that `preprocessing` needs."""
        return all(getattr(self, name) for name in _OF_IMAGES)

    def preprocessing(self, like: Preprocessing | None) -> Preprocessing:
        """Return what is said about images and classes; what is not is as in `like`.

        Raises ValueError where it does not fit together.
        """
        known: dict[str, Any] = {"hold_out": "stratified"} if like is None else msgspec.to_builtins(like)
        said = {name: value for name in _OF_IMAGES if (value := getattr(self, name))}
        return msgspec.convert(known | said, Preprocessing)

    def differences(self, known: Preprocessing, scale: float) -> list[str]:
        """Return in which facts about the images and the classes another network, of that `data.scale`, differs."""
        pairs = {
            "mean": (self.mean, known.mean),
            "standard deviation": (self.std, known.std),
            "type of pixels": (self.pixels, known.pixels),
            "scale": (self.scale, scale),
            "classes": (self.class_names, known.class_names),
        }
        return [name for name, (there, here) in pairs.items() if there and there != here]
