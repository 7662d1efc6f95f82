"""A trained network as it leaves: the weights that are evaluated, and the facts that are needed to use them."""

from dataclasses import dataclass

from msgspec import Struct

from cnnpar.config.choices import Loss
from cnnpar.data.dataset import ImageShape, PixelType
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
    """What a file of weights says about them: images are normalised as (image - mean) / std, channel by channel."""

    layout: str
    image_shape: ImageShape  # (H, W, C)
    pixels: PixelType
    mean: tuple[float, ...]  # (C,)
    std: tuple[float, ...]  # (C,)
    class_names: tuple[str, ...]
    weights_sha256: str
    cnnpar: str = __version__

    @classmethod
    def of(cls, trained: Trained, layout: str) -> "Facts":
        """Return the facts of a network in a layout."""
        known = trained.preprocessing
        return cls(
            layout, known.image_shape, known.pixels, known.mean, known.std, known.class_names, trained.weights_sha256
        )
