"""Turn a file of weights into a checkpoint: that of a run which began with them, before its first step."""

from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from cnnpar.config.sections import Config, Layout
from cnnpar.data.preprocessing import Preprocessing
from cnnpar.errors import InputError
from cnnpar.exchange import array_files
from cnnpar.exchange.layouts import twins
from cnnpar.exchange.matching import Match, layout_of, match
from cnnpar.nn.network import Network
from cnnpar.run.prepare import fingerprint_with, load_data
from cnnpar.run.resume import settings_of
from cnnpar.run.transfer import take
from cnnpar.storage.checkpoint import Payload
from cnnpar.storage.packing import pack, unpack
from cnnpar.storage.position import new_run_id
from cnnpar.text import listed
from cnnpar.training.state import first_state


class Imported(NamedTuple):
    """A checkpoint with a file's weights, and what is odd about it, a line for people; empty where nothing is."""

    payload: Payload
    doubt: str


def import_like_checkpoint(file: Path, saved: Payload, source: str, layout: Layout | None) -> Imported:
    """Return the checkpoint with the weights of `file`, for the network and the data of a saved one.

    `layout`: that of a file which does not say its own. Raises InputError where the file's arrays are not those of the
    network, by name and shape.
    """
    unpack(saved, source)  # it may be anybody's, and is checked as a whole
    return _imported(file, settings_of(saved), saved.preprocessing, saved.data_fingerprint, layout)


def import_like_settings(file: Path, config: Config, layout: Layout | None) -> Imported:
    """Return the checkpoint with the weights of `file`, for the network and the data that settings describe.

    The data give mean, standard deviation and classes. Raises InputError as `import_like_checkpoint`.
    """
    splits, preprocessing = load_data(config)
    return _imported(file, config, preprocessing, splits.fingerprint, layout)


def _imported(
    file: Path, config: Config, preprocessing: Preprocessing, data_fingerprint: str, layout: Layout | None
) -> Imported:
    found = array_files.read(file)
    layout = layout_of(found, layout, "--layout")
    model = replace(config.model, init_from=str(file.absolute()), init_layout=layout)
    config = replace(config, model=model)
    network = Network.from_config(config, preprocessing.image_shape, len(preprocessing.class_names))
    fit = match(file, found.arrays, layout, network)
    _require_all(file, fit, {name: twin.name for name, twin in twins(network, layout).items()})
    state = first_state(config, network)
    state.run_id = new_run_id()
    take(fit, network, state, found.sha256)
    payload = pack(config, network, preprocessing, state, fingerprint_with(network), data_fingerprint)
    other = found.facts.differences(preprocessing) if found.facts else []
    doubt = f"{file}: was exported with another {' and '.join(other)}; those of --like are taken" if other else ""
    return Imported(payload, doubt)


def _require_all(file: Path, fit: Match, there: dict[str, str]) -> None:
    """Raise InputError unless the arrays of a file are those of the network; `there`: their names in its layout."""
    unlike = [f"{there[name]} is {shapes.there} instead of {shapes.wanted}" for name, shapes in fit.reshaped.items()]
    faults = {
        "it lacks": [there[name] for name in fit.only_here],
        "the network does not have": fit.only_there,
        "": unlike,
    }
    said = [f"{what} {listed(names, 4)}".lstrip() for what, names in faults.items() if names]
    if said:
        raise InputError(f"{file}: its arrays are not those of the network: {'; '.join(said)}")
