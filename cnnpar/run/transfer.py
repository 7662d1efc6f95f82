"""Begin a run with the weights of another run's checkpoint (`model.init_from`), where name and shape agree."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from cnnpar.errors import InputError
from cnnpar.nn.layout import stems
from cnnpar.nn.network import Network
from cnnpar.storage.checkpoint import read
from cnnpar.storage.packing import unpack
from cnnpar.storage.rundir import newest_in
from cnnpar.training.state import TrainState

_SHOWN = 50  # names in a line


@dataclass(frozen=True)
class Transfer:
    """Names of the parameters and buffers that were taken over, and of the others, each in its network's order."""

    path: Path
    taken: list[str]
    only_there: list[str]
    only_here: list[str]
    reshaped: list[str]  # in both networks, with unlike shapes
    frozen: list[str]  # of those not taken: they keep their random values for good

    def lines(self) -> list[str]:
        """Describe the transfer in one line, and one more for each way in which the networks differ."""
        there, here = (self.taken + self.reshaped + only for only in (self.only_there, self.only_here))
        differences = {
            "only in the checkpoint": (self.only_there, there),
            "only in the network": (self.only_here, here),
            "of another shape": (self.reshaped, here),
            "frozen all the same, as drawn at random": (self.frozen, here),
        }
        return [
            f"begins with {len(self.taken)} of {len(here)} arrays from {self.path}",
            *(f"  {what}: {_listed(*names)}" for what, names in differences.items() if names[0]),
        ]


def transfer(source: str, network: Network, state: TrainState) -> Transfer:
    """Copy the evaluation weights of a checkpoint, or of a run's directory, into a state of step 0, in place.

    Arrays whose name or shape differs keep their values. Raises InputError when no array agrees, or the checkpoint
    cannot be read.
    """
    path = newest_in(Path(source))
    try:
        other, trained = unpack(read(path), str(path))
    except InputError as error:
        raise InputError(f"model.init_from: {error}") from error
    with trained.evaluation_weights() as weights:
        there, here = other.layout.views(weights), network.layout.views(state.parameters)
        both = [name for name in here if name in there]
        taken = [name for name in both if here[name].shape == there[name].shape]
        if not taken:
            raise InputError(
                f"{path}: model.init_from: none of its arrays has name and shape of one of the network's; "
                f"it has {_listed(there, there)}, and the network {_listed(here, here)}"
            )
        for name in taken:
            here[name][...] = there[name]
    if state.ema is not None:
        state.ema[:] = state.parameters
    state.initial_sha256 = trained.digest
    only_there, only_here = ([name for name in one if name not in two] for one, two in ((there, here), (here, there)))
    others = [name for name in both if name not in taken]
    frozen = [name for name in (*only_here, *others) if name in network.layout.frozen]
    return Transfer(path, taken, only_there, only_here, others, frozen)


def same_weights(source: str, sha256: str) -> bool:
    """Tell whether the checkpoint `source` has the weights of that digest. Raises InputError if it cannot be read."""
    path = newest_in(Path(source))
    return read(path).state.weights_sha256 == sha256


def _listed(names: Collection[str], everything: Collection[str]) -> str:
    """Count and list names; a layer or block whose names of `everything` are all there is named as a whole."""
    own, whole = (Counter(stem for name in part for stem in stems(name)) for part in (names, everything))
    shown = list(dict.fromkeys(next(stem for stem in stems(name) if own[stem] == whole[stem]) for name in names))
    more = f", and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return f"{len(names)} ({', '.join(shown[:_SHOWN])}{more})"
