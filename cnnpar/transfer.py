"""A run that begins with the weights of another one's checkpoint, as far as both networks have the same arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cnnpar.checkpoint import load, unpack
from cnnpar.errors import InputError
from cnnpar.nn.network import Network
from cnnpar.rundir import newest_in
from cnnpar.state import TrainState

_SHOWN = 4  # names in a line


@dataclass(frozen=True)
class Transfer:
    """What was taken over, and what was not; names of parameters and buffers, each in its network's order."""

    path: Path
    taken: list[str]
    only_there: list[str]
    only_here: list[str]
    reshaped: list[str]  # which both have, of other shapes

    def lines(self) -> list[str]:
        """For people: one line, and one for each way in which the networks differ."""
        whole = len(self.taken) + len(self.only_here) + len(self.reshaped)
        differences = {
            "only in the checkpoint": self.only_there,
            "only in the network": self.only_here,
            "of another shape": self.reshaped,
        }
        return [
            f"begins with {len(self.taken)} of {whole} arrays from {self.path}",
            *(f"  {what}: {_few(names)}" for what, names in differences.items() if names),
        ]


def transfer(source: str, network: Network, state: TrainState) -> Transfer:
    """Put the weights that a checkpoint, or the newest of a run's directory, is judged by into a state of step 0.

    Arrays are the same if name and shape are; others stay as they are. Raises InputError when there are none, or the
    checkpoint cannot be read.
    """
    path = newest_in(Path(source))
    try:
        other, trained = unpack(load(path), str(path))
    except InputError as error:
        raise InputError(f"model.init_from: {error}") from error
    with trained.judged() as weights:
        there, here = other.layout.views(weights), network.layout.views(state.parameters)
        both = [name for name in here if name in there]
        taken = [name for name in both if here[name].shape == there[name].shape]
        if not taken:
            raise InputError(
                f"{path}: model.init_from: none of its arrays has name and shape of one of the network's; "
                f"it has {_few(list(there))}, and the network {_few(list(here))}"
            )
        for name in taken:
            here[name][...] = there[name]
    if state.average is not None:
        state.average[:] = state.parameters
    state.initial_sha256 = trained.digest
    only_there, only_here = ([name for name in one if name not in two] for one, two in ((there, here), (here, there)))
    return Transfer(path, taken, only_there, only_here, [name for name in both if name not in taken])


def same_weights(source: str, sha256: str) -> bool:
    """Whether a run that began with the checkpoint of that digest would begin alike with this one.

    Raises InputError when it cannot be read.
    """
    path = newest_in(Path(source))
    return load(path).state.weights_sha256 == sha256


def _few(names: Sequence[str]) -> str:
    return f"{len(names)} ({', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''})"
