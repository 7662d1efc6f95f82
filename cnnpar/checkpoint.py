"""A run's state as the bytes of one JSON file, and back: complete, and checked to the last number.

`{"sha256": ..., "payload": {...}}`, the digest over the payload's bytes as they stand in the file. Reading runs no
code and imports nothing by name: fields, types, layer types and sizes are a closed list, and whatever does not fit
is an error that names the place. It takes time and memory in proportion to the file, whatever the file claims.
"""

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Raw, Struct

from cnnpar import optim
from cnnpar.arrays import Array, flatten
from cnnpar.config.sections import Config
from cnnpar.data.preprocessing import Preprocessing
from cnnpar.errors import DivergedError, InputError
from cnnpar.nn.network import Network
from cnnpar.nn.sums import Sums
from cnnpar.nn.tables import layers_from_tables
from cnnpar.position import Position, check_position
from cnnpar.storage.json_check import check_json
from cnnpar.text import plain, shown
from cnnpar.training.state import EpochRecord, TrainState

FORMAT = "cnnpar checkpoint"
VERSION = 1
MAXIMUM_BYTES = 64 << 30  # the largest network, and two more such vectors of an optimizer
_LONGEST_SETTINGS = 1 << 20  # bytes; the most layers with the longest names take a third of it
_SMALLEST_STD = 1e-9


class Payload(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything to go on with a run, or to predict, without any other file but the samples."""

    format: str
    version: int
    config: Config
    network: list[dict[str, Any]]
    preprocessing: Preprocessing
    state: Position
    parameters: list[Array]
    buffers: list[Array]
    optimizer: list[Array]
    history: list[EpochRecord]
    fingerprint: dict[str, str]
    data_fingerprint: str
    average: list[Array] = []  # running means of parameters and buffers, where the run keeps them


class _Header(Struct, frozen=True):
    """What tells whether the rest can be read: of which kind it is, and the parts that are of free form."""

    format: str
    version: int
    config: Raw = Raw()
    network: Raw = Raw()


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    sha256: str
    payload: Raw


def pack(
    settings: Config,
    network: Network,
    preprocessing: Preprocessing,
    state: TrainState,
    fingerprint: Mapping[str, str],
    data_fingerprint: str,
) -> Payload:
    """A copy of the state that later steps leave alone. Raises DivergedError that names an array that is not finite."""
    views = network.layout.views
    average = {} if state.average is None else {"running means": state.average}
    for kind, vector in {"weights": state.parameters, **average, **state.optimizer}.items():
        bad = [name for name, view in views(vector).items() if not np.isfinite(view).all()]
        if bad:
            raise DivergedError(
                f"step {state.step}: {kind} of {bad[-1]} are not finite; try a lower optimizer.learning_rate "
                f"(now {settings.optimizer.learning_rate:.4g}); the last checkpoint, if any, is good"
            )
    arrays = [Array.of(name, view) for name, view in views(state.parameters).items()]
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
    """The network and the state of a payload. Raises InputError that names `source` and the place in it."""
    place = f"{source}: $.payload"
    for name, text in {**payload.fingerprint, "": payload.data_fingerprint}.items():
        if not (name + text).isprintable():
            raise InputError(f"{place}.fingerprint: {shown(name + text)} is no text of this program")
    network = _network(payload, place)
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
    rows = flat["optimizer"].reshape(len(kinds), network.layout.trained)
    position = payload.state
    state = TrainState(
        parameters=np.concatenate([flat["parameters"], flat["buffers"]]),
        optimizer={kind: np.array(row) for kind, row in zip(kinds, rows, strict=True)},
        average=flat["average"] if averaged else None,
        epoch=position.epoch,
        index=position.index,
        step=position.step,
        skipped=position.skipped_steps,
        samples=position.samples,
        seconds=position.seconds,
        seconds_before=position.seconds_before,
        sums=Sums(position.epoch_loss, position.epoch_correct, position.epoch_count),
        initial_sha256=position.initial_sha256,
        exact=position.exact,
        history=list(payload.history),
        best_by=payload.config.train.best_by,
    )
    check_position(position, payload.history, payload.config, state.best, place)
    if state.digest != position.weights_sha256:
        raise InputError(f"{place}.state.weights_sha256: is not the digest of the parameters; the file was changed")
    return network, state


def encode(payload: Payload) -> bytes:
    """The whole file's bytes."""
    if payload.config.checkpoint.arrays == "decimal":
        lists: dict[str, Any] = {
            name: [array.decimal() for array in getattr(payload, name)]
            for name in ("parameters", "buffers", "optimizer", "average")
        }
        payload = msgspec.structs.replace(payload, **lists)
    body = msgspec.json.encode(payload)
    return b'{"sha256":"%s","payload":%s}\n' % (hashlib.sha256(body).hexdigest().encode(), body)


def decode(content: bytes, source: str) -> Payload:
    """The payload of a file's bytes. Raises InputError that names `source` and the place in it."""
    place = "$"
    try:
        file = msgspec.json.decode(content, type=_File)
        if hashlib.sha256(file.payload).hexdigest() != file.sha256:
            raise InputError(f"{source}: $.sha256 is not the digest of the payload; the file is damaged")
        place = "$.payload"
        header = msgspec.json.decode(file.payload, type=_Header)
        if (header.format, header.version) != (FORMAT, VERSION):
            raise InputError(
                f"{source}: $.payload.version: {shown(header.format)} {shown(header.version)}, and this program reads "
                f"{FORMAT!r} {VERSION}"
            )
        check_json(content)  # before the parts of free form are read; and only now is it clear which they are
        for name, part in {"config": header.config, "network": header.network}.items():
            if len(part) > _LONGEST_SETTINGS:
                raise InputError(f"{source}: $.payload.{name}: {len(part):,} bytes, more than any network takes")
        return msgspec.json.decode(file.payload, type=Payload)
    except msgspec.ValidationError as error:
        what, _, inner = str(error).partition(" - at `$")
        raise InputError(f"{source}: no checkpoint: {plain(what)} - at `{place}{inner.rstrip('`')}`") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{source}: not a whole checkpoint: {error}") from error
    except ValueError as error:
        raise InputError(f"{source}: {error}") from error


def load(path: str | Path) -> Payload:
    """Read a checkpoint file. Raises InputError that names the file and the place in it."""
    path = Path(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe or device might never end
            raise InputError(f"{path}: not a file; a checkpoint is expected")
        if status.st_size > MAXIMUM_BYTES:
            raise InputError(f"{path}: larger than any checkpoint ({MAXIMUM_BYTES >> 30} GiB)")
        with path.open("rb") as file:
            # The opened file's size: a run may just have replaced the other. The system's own claim 0 and never end.
            content = file.read(os.fstat(file.fileno()).st_size)
        return decode(content, str(path))
    except OSError as error:
        raise InputError(f"{path}: cannot read the checkpoint: {error.strerror or error}") from error
    except MemoryError as error:
        raise InputError(f"{path}: does not fit into memory") from error


def _network(payload: Payload, place: str) -> Network:
    """The network, once it is clear that all of the payload means the same one, and the same images."""
    preprocessing = payload.preprocessing
    shape, classes = preprocessing.image_shape, len(preprocessing.class_names)
    if len(set(preprocessing.class_names)) < classes:
        raise InputError(f"{place}.preprocessing.class_names: a name stands there twice")
    # Of pixels from 0 to 255, and as float32 can tell them apart: nothing else is written.
    if not all(0 <= mean <= 255 for mean in preprocessing.mean):
        raise InputError(f"{place}.preprocessing.mean: not within 0 to 255")
    if not all(_SMALLEST_STD <= std <= 255 for std in preprocessing.std):
        raise InputError(f"{place}.preprocessing.std: not within {_SMALLEST_STD:g} to 255")
    try:
        freeze = payload.config.model.freeze
        network = Network.from_tables(payload.network, shape, classes, loss=payload.config.loss, freeze=freeze)
    except InputError as error:
        raise InputError(f"{place}.network: {error}") from error
    try:
        same = tuple(layers_from_tables(payload.config.model.layers, shape, classes)) == network.layers
    except InputError as error:
        raise InputError(f"{place}.config.model.layers: {error}") from error
    if not same:
        raise InputError(f"{place}.config.model.layers: is another network than $.payload.network")
    return network
