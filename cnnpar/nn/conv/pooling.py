"""Max-pooling and relu in the same bands as a convolution: what is between them never leaves a cache."""

from typing import NamedTuple

from cnnpar.nn.shapes import Array, Pair, Winner
from cnnpar.nn.windows import Windows
from cnnpar.nn.workspace import Workspace


class Pooling(NamedTuple):
    """Max-pooling without overlaps or gaps (stride = size), with or without relu; of size 1 it is relu alone."""

    size: Pair
    rectify: bool

    def outputs(self, windows: Windows) -> Pair:
        """Return the pooled outputs by axis; a remainder at the bottom and right fills none."""
        return windows.outputs[0] // self.size[0], windows.outputs[1] // self.size[1]

    def used(self, windows: Windows) -> Windows:
        """Return the windows whose outputs are pooled."""
        count = self.outputs(windows)
        return windows._replace(outputs=(count[0] * self.size[0], count[1] * self.size[1]))

    def forward(self, band: Array, y: Array, winner: Winner, work: Workspace) -> None:
        """Write the pooled outputs of a band, and the places of the winners; all (rows, columns, N * channels)."""
        work.loops.maxpool(band, *self.size, *self.size, self.rectify, y, winner)

    def backward(self, dy: Array, winner: Winner, band: Array, work: Workspace) -> None:
        """Write the gradient of the outputs in a band: all of it, since every output is in one window."""
        work.loops.maxpool_gradient(dy, winner, *self.size, *self.size, False, band)


NONE = Pooling((1, 1), False)
