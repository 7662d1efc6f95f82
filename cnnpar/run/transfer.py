"""Begin a run with weights of another run, or of a file (`model.init_from`), where name and shape agree."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from cnnpar.config.sections import Model
from cnnpar.errors import InputError
from cnnpar.exchange import array_files
from cnnpar.exchange.array_files import ArrayFile
from cnnpar.exchange.matching import Match, layout_of, match
from cnnpar.exchange.trained import Facts, Trained
from cnnpar.nn.layout import stems
from cnnpar.nn.network import Network
from cnnpar.storage.checkpoint import read
from cnnpar.storage.find import newest_in
from cnnpar.training.state import TrainState

_SHOWN = 50  # names in a line


@dataclass(frozen=True)
class Transfer:
    """Names of the parameters and buffers that were taken over, and of the others, each in the order of its side."""

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


def transfer(model: Model, network: Network, state: TrainState) -> Transfer:
    """Copy weights from `model.init_from` into a state of step 0, in place: of a file, or a run's evaluation weights.

    Arrays whose name or shape differs keep their values. Raises InputError when no array agrees, or the file cannot be
    read.
    """
    try:
        file = _source(Path(model.init_from))
        layout = layout_of(file, None if model.init_layout == "auto" else model.init_layout, "model.init_layout")
        found = match(file.path, file.arrays, layout, network)
    except InputError as error:
        raise InputError(f"model.init_from: {error}") from error
    here = network.layout.views(state.parameters)
    if not found.taken:
        raise InputError(
            f"{file.path}: model.init_from: none of its arrays has name and shape of one of the network's; "
            f"it has {_listed(file.arrays, file.arrays)}, and the network {_listed(here, here)}"
        )
    take(found, network, state, file.sha256)
    others = list(found.reshaped)
    frozen = [name for name in (*found.only_here, *others) if name in network.layout.frozen]
    return Transfer(file.path, list(found.taken), found.only_there, found.only_here, others, frozen)


def take(found: Match, network: Network, state: TrainState, sha256: str) -> None:
    """Copy the arrays that fit into a state of step 0, in place; `sha256`: of the file or checkpoint that had them."""
    here = network.layout.views(state.parameters)
    for name, values in found.taken.items():
        here[name][...] = values
    if state.ema is not None:
        state.ema[:] = state.parameters
    state.initial_sha256 = sha256


def same_weights(source: str, sha256: str) -> bool:
    """Tell whether `source` is what `TrainState.initial_sha256` says. Raises InputError if it cannot be read."""
    path = Path(source)
    if array_files.is_array_file(path):
        return array_files.read(path).sha256 == sha256
    return read(newest_in(path)).state.weights_sha256 == sha256


def _source(path: Path) -> ArrayFile:
    """Return the arrays of a file, or the evaluation weights of a checkpoint or a run's directory, under its digest."""
    if array_files.is_array_file(path):
        return array_files.read(path)
    path = newest_in(path)
    trained = Trained.of(read(path), str(path))
    return ArrayFile(path, trained.arrays(), Facts.of(trained, "hwio"), trained.weights_sha256)


def _listed(names: Collection[str], everything: Collection[str]) -> str:
    """Count and list names; a layer or block whose names of `everything` are all there is named as a whole."""
    own, whole = (Counter(stem for name in part for stem in stems(name)) for part in (names, everything))
    shown = list(dict.fromkeys(next(stem for stem in stems(name) if own[stem] == whole[stem]) for name in names))
    more = f", and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return f"{len(names)} ({', '.join(shown[:_SHOWN])}{more})"
