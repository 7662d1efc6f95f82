"""A trained network as it leaves: the weights that are evaluated, and the facts that are needed to use them."""

from dataclasses import dataclass

from msgspec import Struct

from cnnpar.config.choices import Loss
from cnnpar.config.sections import Layout
from cnnpar.data.preprocessing import Preprocessing
from cnnpar.nn.network import Network
from cnnpar.nn.shapes import Array, Vector
from cnnpar.storage.checkpoint import Payload
from cnnpar.storage.packing import unpack
from cnnpar.version import __version__


@dataclass(frozen=True, eq=False)
class Trained:
    """A network with its evaluation weights: those of the EMA, if the run had one."""

    network: Network
    weights: Vector  # (network.layout.size,): parameters, and buffers behind them
    preprocessing: Preprocessing
    loss: Loss
    weights_sha256: str  # of the checkpoint, as `cnnpar inspect` shows it

    @classmethod
    def of(cls, payload: Payload, source: str) -> "Trained":
        """Take the network out of a checkpoint. Raises InputError, which names `source` and the place in it."""
        network, state = unpack(payload, source)
        digest = state.digest  # of what was trained; the block puts the EMA in its place
        with state.evaluation_weights() as weights:
            return cls(network, weights.copy(), payload.preprocessing, payload.config.loss, digest)

    def arrays(self) -> dict[str, Array]:
        """Return parameters and buffers by name, such as conv1.weight: views of the weights."""
        return self.network.layout.views(self.weights)


class Facts(Struct, frozen=True):
    """What a file of weights says about them; empty where another program's file does not.

    Images are normalised as (image - mean) / std, channel by channel.
    """

    layout: Layout
    image_shape: tuple[int, ...] = ()  # (H, W, C)
    pixels: str = ""  # uint8, uint16 or float32
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
            mean=known.mean,
            std=known.std,
            class_names=known.class_names,
            weights_sha256=trained.weights_sha256,
            cnnpar=__version__,
        )

    def differences(self, known: Preprocessing) -> list[str]:
        """Return in which facts about the images and the classes another network differs."""
        pairs = {
            "mean": (self.mean, known.mean),
            "standard deviation": (self.std, known.std),
            "type of pixels": (self.pixels, known.pixels),
            "classes": (self.class_names, known.class_names),
        }
        return [name for name, (there, here) in pairs.items() if there and there != here]
