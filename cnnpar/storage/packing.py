"""Pack the state of a run into a checkpoint's payload and unpack it, with every part checked against the network."""

from collections.abc import Mapping

import numpy as np

from cnnpar import optim
from cnnpar.config.sections import Config
from cnnpar.data.pixels import MOST_FLOAT
from cnnpar.data.preprocessing import SMALLEST_STD, Preprocessing
from cnnpar.errors import DivergedError, InputError
from cnnpar.nn.network import Network
from cnnpar.nn.sums import Sums
from cnnpar.nn.tables import layers_from_tables
from cnnpar.storage.arrays import Array, flatten
from cnnpar.storage.checkpoint import FORMAT, VERSION, Payload
from cnnpar.storage.position import Position, check_position
from cnnpar.text import shown
from cnnpar.training.advice import against_divergence
from cnnpar.training.state import TrainState

_BOUNDS = {"uint8": (0.0, 255.0), "uint16": (0.0, 65535.0), "float32": (-MOST_FLOAT, MOST_FLOAT)}


def pack(
    settings: Config,
    network: Network,
    preprocessing: Preprocessing,
    state: TrainState,
    fingerprint: Mapping[str, str],
    data_fingerprint: str,
) -> Payload:
    """Copy the state into a payload, which later steps do not change.

    Raises DivergedError, which names step and array, if a parameter, EMA or optimizer array is not finite.
    """
    views = network.layout.views
    average = {} if state.ema is None else {"EMA weights": state.ema}
    for kind, vector in {"weights": state.parameters, **average, **state.optimizer}.items():
        bad = [name for name, view in views(vector).items() if not np.isfinite(view).all()]
        if bad:
            raise DivergedError(
                f"step {state.step}: {kind} of {bad[-1]} are not finite; {against_divergence(settings, state)}; the "
                f"last checkpoint, if any, is good"
            )
    arrays = [Array.of(name, view) for name, view in views(state.parameters).items()]  # parameters, then buffers
    return Payload(
        format=FORMAT,
        version=VERSION,
        config=settings,
        network=network.tables(),
        preprocessing=preprocessing,
        state=Position(
            epoch=state.epoch,
            index=state.index,
            step=state.step,
            seed=settings.train.seed,
            samples=state.samples,
            seconds=state.seconds,
            seconds_before=state.seconds_before,
            epoch_loss=state.sums.loss,
            epoch_correct=state.sums.correct,
            epoch_count=state.sums.count,
            best=state.best,
            exact=state.exact,
            weights_sha256=state.digest,
            skipped_steps=state.skipped,
            initial_sha256=state.initial_sha256,
            run_id=state.run_id,
        ),
        parameters=arrays[: len(network.layout.parameters)],
        buffers=arrays[len(network.layout.parameters) :],
        optimizer=[
            Array.of(f"{kind}/{name}", view)
            for kind, vector in state.optimizer.items()
            for name, view in views(vector).items()
        ],
        history=list(state.history),
        fingerprint=dict(fingerprint),
        data_fingerprint=data_fingerprint,
        average=[Array.of(name, view) for vector in average.values() for name, view in views(vector).items()],
    )


def unpack(payload: Payload, source: str) -> tuple[Network, TrainState]:
    """Build the network and the state of a payload. Raises InputError, which names `source` and the place in it."""
    place = f"{source}: $.payload"
    for name, text in {**payload.fingerprint, "": payload.data_fingerprint}.items():
        if not (name + text).isprintable():
            raise InputError(f"{place}.fingerprint: {shown(name + text)} is no text of this program")
    network = _build_network(payload, place)
    shapes = {entry.name: entry.shape for entry in network.layout.parameters}
    buffer_shapes = {entry.name: entry.shape for entry in network.layout.buffers}
    kinds = list(optim.init(payload.config.optimizer, 0))
    optimizer_shapes = {f"{kind}/{name}": shape for kind in kinds for name, shape in shapes.items()}
    averaged = bool(payload.config.train.ema_decay)
    average_shapes = {**shapes, **buffer_shapes} if averaged else {}
    expected = {
        "parameters": shapes,
        "buffers": buffer_shapes,
        "optimizer": optimizer_shapes,
        "average": average_shapes,
    }
    flat = {}
    for name, arrays in expected.items():
        try:
            flat[name] = flatten(getattr(payload, name), arrays)
        except ValueError as error:
            raise InputError(f"{place}.{name}{error}") from error
    rows = flat["optimizer"].reshape(len(kinds), network.layout.trained)  # a row for each vector of the optimizer
    position = payload.state
    state = TrainState(
        parameters=np.concatenate([flat["parameters"], flat["buffers"]]),
        optimizer={kind: np.array(row) for kind, row in zip(kinds, rows, strict=True)},
        ema=flat["average"] if averaged else None,
        epoch=position.epoch,
        index=position.index,
        step=position.step,
        skipped=position.skipped_steps,
        samples=position.samples,
        seconds=position.seconds,
        seconds_before=position.seconds_before,
        sums=Sums(position.epoch_loss, position.epoch_correct, position.epoch_count),
        initial_sha256=position.initial_sha256,
        run_id=position.run_id,
        exact=position.exact,
        history=list(payload.history),
        best_by=payload.config.train.best_by,
    )
    check_position(position, payload.history, payload.config, state.best, place)
    if state.digest != position.weights_sha256:
        raise InputError(f"{place}.state.weights_sha256: is not the digest of the parameters; the file was changed")
    return network, state


def _build_network(payload: Payload, place: str) -> Network:
    """Build the network. Raises InputError unless `network`, `config` and `preprocessing` describe the same one."""
    preprocessing = payload.preprocessing
    shape, classes = preprocessing.image_shape, len(preprocessing.class_names)
    if len(set(preprocessing.class_names)) < classes:
        raise InputError(f"{place}.preprocessing.class_names: a name occurs twice")
    # No run writes a mean or standard deviation outside of its pixels' bounds.
    lowest, highest = _BOUNDS[preprocessing.pixels]
    if not all(lowest <= mean <= highest for mean in preprocessing.mean):
        raise InputError(f"{place}.preprocessing.mean: not within {lowest:g} to {highest:g}")
    if not all(SMALLEST_STD <= std <= highest for std in preprocessing.std):
        raise InputError(f"{place}.preprocessing.std: not within {SMALLEST_STD:g} to {highest:g}")
    try:
        model = payload.config.model
        network = Network.from_tables(
            payload.network, shape, classes, loss=payload.config.loss, freeze=model.freeze, kernels=model.kernels
        )
    except InputError as error:
        raise InputError(f"{place}.network: {error}") from error
    try:
        same = tuple(layers_from_tables(payload.config.model.layers, shape, classes)) == network.layers
    except InputError as error:
        raise InputError(f"{place}.config.model.layers: {error}") from error
    if not same:
        raise InputError(f"{place}.config.model.layers: is another network than $.payload.network")
    return network
