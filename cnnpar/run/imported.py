"""Turn a file of weights into a checkpoint: that of a run which began with them, before its first step."""

from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from cnnpar.config.sections import Config, Layout
from cnnpar.data.preprocessing import Preprocessing
from cnnpar.errors import InputError
from cnnpar.exchange import array_files
from cnnpar.exchange.array_files import ArrayFile
from cnnpar.exchange.layouts import twins
from cnnpar.exchange.matching import Match, layout_of, match
from cnnpar.exchange.trained import Facts
from cnnpar.nn.network import Network
from cnnpar.run.prepare import fingerprint_with, load_data
from cnnpar.run.resume import settings_of
from cnnpar.run.transfer import take
from cnnpar.storage.checkpoint import Payload
from cnnpar.storage.packing import pack, unpack
from cnnpar.storage.position import new_run_id
from cnnpar.text import dimensions, listed, one_line
from cnnpar.training.state import first_state


class Imported(NamedTuple):
    """A checkpoint with a file's weights, and what is odd about it, a line for people; empty where nothing is."""

    payload: Payload
    doubt: str


def import_like_checkpoint(file: Path, saved: Payload, source: str, layout: Layout | None) -> Imported:
    """Return the checkpoint with the weights of `file`, for the network of a saved one.

    Mean, standard deviation, scale, pixels and classes are the file's, where it says them, and else the saved ones; a
    run goes on with the checkpoint if they are the same. `layout`: that of a file which does not say its own. Raises
    InputError where the file's arrays are not those of the network, by name and shape, or its images or classes are of
    other numbers.
    """
    unpack(saved, source)  # it may be anybody's, and is checked as a whole
    found, config, like = array_files.read(file), settings_of(saved), saved.preprocessing
    known = _known(found, like)
    there, here = ((one.image_shape, len(one.class_names)) for one in (known, like))
    if there != here:
        what = [f"{dimensions(shape)} images in {count} classes" for shape, count in (there, here)]
        raise InputError(
            f"{file}: is for {what[0]}, and {source} for {what[1]}; name a run on such images, or settings"
        )
    other = found.facts.differences(like, config.data.scale) if found.facts else []
    doubt = f"{file}: has another {' and '.join(other)} than {source}; the file's are taken" if other else ""
    return Imported(_payload(found, config, known, "" if other else saved.data_fingerprint, layout), doubt)


def import_like_settings(file: Path, config: Config, layout: Layout | None, default_data: str) -> Imported:
    """Return the checkpoint with the weights of `file`, for the network that settings describe.

    What the file does not say about images and classes is that of the data, which are read only then. `default_data`:
    a line on them, where the settings name none. Raises InputError as `import_like_checkpoint`.
    """
    found = array_files.read(file)
    if found.facts and found.facts.suffice:
        return Imported(_payload(found, config, _known(found, None), "", layout), "")
    try:
        splits, like = load_data(config)
        known = _known(found, like)
        fingerprint = splits.fingerprint if known == like else ""
        return Imported(_payload(found, config, known, fingerprint, layout), default_data)
    except InputError as error:
        raise InputError("; ".join(filter(None, [str(error), default_data]))) from error


def _known(found: ArrayFile, like: Preprocessing | None) -> Preprocessing:
    """Return what a file says about images and classes, and the rest as in `like`. Raises InputError."""
    facts = found.facts or Facts("hwio")
    try:
        return facts.preprocessing(like)
    except ValueError as error:
        raise InputError(f"{found.path}: its entry `{array_files.ENTRY}`: {one_line(str(error))}") from error


def _payload(
    found: ArrayFile, config: Config, known: Preprocessing, data_fingerprint: str, layout: Layout | None
) -> Payload:
    """Return the checkpoint of a run that begins with the arrays of a file. Raises InputError where they do not fit."""
    file = found.path
    layout = layout_of(found, layout, "--layout")
    model = replace(config.model, init_from=str(file.absolute()), init_layout=layout)
    scale = found.facts.scale if found.facts else None
    config = replace(config, model=model, data=replace(config.data, scale=scale or config.data.scale))
    network = Network.from_config(config, known.image_shape, len(known.class_names))
    fit = match(file, found.arrays, layout, network)
    _require_all(file, fit, {name: twin.name for name, twin in twins(network, layout).items()})
    state = first_state(config, network)
    state.run_id = new_run_id()
    take(fit, network, state, found.sha256)
    payload = pack(config, network, known, state, fingerprint_with(network), data_fingerprint)
    unpack(payload, str(file))  # what the file says may be anything
    return payload


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
