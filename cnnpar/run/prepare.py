"""Prepare a run: data, network, state and work as one value, checked before anything is started or written."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cnnpar.blas import use_one_thread
from cnnpar.config import Config
from cnnpar.config.data import Data
from cnnpar.data.augment.augmenter import check_augment
from cnnpar.data.dataset import Dataset, Splits
from cnnpar.data.load import Given, load_splits
from cnnpar.data.preprocessing import HoldOut, Preprocessing
from cnnpar.data.readers.arrays import channels_doubt
from cnnpar.data.readers.named import awaited
from cnnpar.errors import InputError
from cnnpar.fingerprint import Fingerprint, fingerprint
from cnnpar.machine import available_memory
from cnnpar.nn.network import Network
from cnnpar.nn.tables import check_statistics
from cnnpar.nn.user_layers import user_layer_digests
from cnnpar.parallel.work import Kind, Step
from cnnpar.report.announced import announced
from cnnpar.run.resume import Origin, Resume, check_data_there, check_newest, check_resumable
from cnnpar.run.transfer import transfer
from cnnpar.storage.packing import unpack
from cnnpar.storage.position import new_run_id
from cnnpar.storage.rundir import Place, check_new, check_resumed
from cnnpar.training.microbatch import Training
from cnnpar.training.state import TrainState, first_state

_VECTORS = 3  # of the parameters' size, at least: they, their gradient, and what the optimizer keeps
_Start = tuple[Network, TrainState, Fingerprint, list[str]]  # the last are notes for people


@dataclass(frozen=True, eq=False)
class Run:
    """Everything that a run needs. Training changes `state` in place, and empties `data` once the workers have them."""

    config: Config
    place: Place
    network: Network
    preprocessing: Preprocessing
    state: TrainState
    work: Training
    data: dict[Kind, Dataset]
    fingerprint: Fingerprint
    data_fingerprint: str
    origin: Origin | None  # the checkpoint that it goes on from; None for a new run
    understood: str  # what the data were taken for, in a line for people
    doubts: tuple[str, ...]  # what is odd about the data, a line each for people
    notes: list[str]  # further lines for people


def prepare(
    config: Config,
    place: Place,
    resume: Resume | None,
    given: Given | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> Run:
    """Build all parts of a new run, or of one that goes on from a checkpoint. Nothing is written.

    `given`: the samples, where they are no files. `note` is told, in lines for people, what takes long.

    Raises InputError when configuration, data, checkpoint or place do not fit.
    """
    if resume is None:
        check_new(place)
    elif given is None:
        _check_moved(config.data, resume.payload.config.data)
    hold_out = resume.payload.preprocessing.hold_out if resume else "stratified"
    splits, preprocessing = load_data(config, hold_out, given, note)
    if config.train.patience and splits.validation is None:
        raise InputError("train.patience: needs validation data to tell the best epoch by; set data.validation above 0")
    if resume is None:
        network, state, own, notes = _begin(config, preprocessing)
    else:
        network, state, own, notes = _go_on(config, place, resume, splits, preprocessing)
    data = by_kind(splits)
    sizes = {kind: len(part) for kind, part in data.items()}
    work = Training(network, preprocessing, config.augment, config.train, sizes, config.data.balance)
    if resume is None:
        check_lone_samples(work)
    else:
        _check_steps(resume, work, state)
    if any(name.startswith("layer ") for name in own):  # of a user's
        _try_once(work.with_data(data), state)
    origin = resume.origin if resume else None
    return Run(
        config=config,
        place=place,
        network=network,
        preprocessing=preprocessing,
        state=state,
        work=work,
        data=data,
        fingerprint=own,
        data_fingerprint=splits.fingerprint,
        origin=origin,
        understood=splits.understood,
        doubts=splits.notes,
        notes=notes,
    )


def load_data(
    config: Config,
    hold_out: HoldOut = "stratified",
    given: Given | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> tuple[Splits, Preprocessing]:
    """Load the data of a run, and take one BLAS thread from now on. `note` is told what takes long.

    Raises InputError where they do not fit: before they are read or downloaded, if their shape is known by then.
    """
    use_one_thread()
    if (traits := awaited(config.data.name) or _wanted(config)) is not None:
        check_augment(config.augment, traits[0])
        _check_memory(Network.from_config(config, *traits))
    with announced(note, f"reading {config.data.name or config.data.train}"):
        splits = load_splits(config.data, hold_out, given)
        preprocessing = Preprocessing.of(splits.train, hold_out)
    check_augment(config.augment, preprocessing.image_shape)
    return splits, preprocessing


def _wanted(config: Config) -> tuple[tuple[int, int, int], int] | None:
    """Return the shape that pictures are brought to, if settings say it, and a number of classes that may be theirs."""
    if not (config.data.size and config.data.channels):
        return None
    height, width = config.data.size
    units = [int(table["units"]) for table in config.model.layers if "units" in table][-1:]
    weights = len(getattr(config.loss, "class_weights", ()))
    return (height, width, config.data.channels), weights or (units or [2])[0]


def _check_moved(data: Data, saved: Data) -> None:
    """Raise InputError where data that are named by the checkpoint alone are gone."""
    for key in ("train", "test"):
        if getattr(data, key) == getattr(saved, key):
            check_data_there(data, (key,), f"--{key}-data (data.{key})")


def by_kind(splits: Splits) -> dict[Kind, Dataset]:
    """Return the parts of a data set that there are, by what they are for."""
    kinds = {Kind.TRAIN: splits.train, Kind.VALIDATION: splits.validation, Kind.TEST: splits.test}
    return {kind: part for kind, part in kinds.items() if part is not None}


def check_lone_samples(work: Training) -> None:
    """Raise InputError where a microbatch of the run would have no variance to normalise by."""
    if work.smallest_microbatch == 1:
        network = work.network
        check_statistics(network.layers, network.input_shape, network.layout.frozen)


def build_network(config: Config, preprocessing: Preprocessing) -> Network:
    """Build the network of a new run. Raises InputError where it does not fit the images, with a doubt about these."""
    try:
        network = Network.from_config(config, preprocessing.image_shape, len(preprocessing.class_names))
    except InputError as error:
        if doubt := channels_doubt(preprocessing.image_shape, config.data.shape):
            raise InputError(f"{error}; {doubt}") from error
        raise
    _check_memory(network)
    return network


def _check_memory(network: Network) -> None:
    """Raise InputError where the parameters do not fit into memory, which a system may promise all the same."""
    needed, available = 4 * _VECTORS * network.layout.size, available_memory()
    if needed > available:
        what = f"{network.layout.size:,} parameters, their gradient and momentum take {needed / 1e9:,.1f} GB"
        how = "smaller images (data.size), or pooling before dense layers, make them fewer"
        raise InputError(f"the network does not fit into memory: {what}, and {available / 1e9:,.1f} are free; {how}")


def _begin(config: Config, preprocessing: Preprocessing) -> _Start:
    """Build the start of a new run."""
    network = build_network(config, preprocessing)
    state = first_state(config, network)
    state.run_id = new_run_id()
    notes = transfer(config.model, network, state).lines() if config.model.init_from else []
    return network, state, fingerprint_with(network), notes


def _go_on(config: Config, place: Place, resume: Resume, splits: Splits, preprocessing: Preprocessing) -> _Start:
    """Build the start of a run that goes on from a checkpoint, and check that it may."""
    network, state = unpack(resume.payload, str(resume.path))
    own = fingerprint_with(network)
    check_resumable(resume, network, config, splits, own, state.has_ended(config.train))
    if resume.payload.preprocessing != preprocessing:
        raise InputError(f"{resume.path}: $.payload.preprocessing: not that of the training data; it was changed")
    # A checkpoint of an earlier version has none: it gets the same one each time that it is resumed, as a kill may come
    # after the best checkpoint was written with it, and before the newest was.
    state.run_id = state.run_id or state.digest[:32]
    if resume.origin.begins_at(place):
        check_new(place)
    else:
        check_newest(resume, check_resumed(resume.path, place, state.run_id))
    if state.epoch < config.train.epochs and state.out_of(config.train.patience):
        notes = [f"out of patience after epoch {state.epoch}; more train.patience goes on with it"]
        return network, state, own, notes
    return network, state, own, []


def fingerprint_with(network: Network) -> Fingerprint:
    """Return the fingerprint of this process for the network, with the digests of the user's layers."""
    return {**fingerprint(network.libraries), **user_layer_digests(network.layers)}


def _check_steps(resume: Resume, work: Training, state: TrainState) -> None:
    """Raise InputError where the position in the checkpoint cannot be one of this run."""
    expected = state.epoch * work.steps_per_epoch + state.index
    if state.step != expected or state.index > work.steps_per_epoch:
        raise InputError(
            f"{resume.path}: $.payload.state: {work.steps_per_epoch} steps an epoch make epoch {state.epoch}, "
            f"index {state.index} not step {state.step}; the file was changed"
        )


def _try_once(work: Training, state: TrainState) -> None:
    """Compute one gradient here: a fault of a user's layer shows at once, instead of costing all workers."""
    first = Step(Kind.TRAIN, 0, 0)
    work.compute(first, 0, work.prepare(first, 0), state.parameters, np.empty_like(state.parameters))
