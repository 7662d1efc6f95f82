"""A run's state as the bytes of one JSON file, and back: complete, and checked to the last number.

`{"sha256": ..., "payload": {...}}`, the digest over the payload's bytes as they stand in the file. Reading runs no
code and imports nothing by name: fields, types, layer types and sizes are a closed list, and whatever does not fit
is an error that names the place.
"""

import hashlib
import math
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from msgspec import Struct

from cnnpar import config, optim
from cnnpar.data.preprocessing import Preprocessing
from cnnpar.errors import DivergedError, InputError
from cnnpar.nn.network import Network, Sums
from cnnpar.state import EpochRecord, TrainState, Vector

FORMAT = "cnnpar checkpoint"
VERSION = 1
MAXIMUM_BYTES = 64 << 30  # the largest network, and two more such vectors of an optimizer


class Array(Struct, frozen=True, forbid_unknown_fields=True):
    """A named float32 array: base64 of its little-endian bytes, or a flat list of numbers."""

    name: str
    dtype: Literal["float32"]
    shape: tuple[int, ...]
    data: bytes | list[float]


class Position(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the run is: all of `TrainState` that is no array and no history."""

    epoch: config.Count
    index: config.Count
    step: config.Count
    seed: config.Count
    samples: config.Count
    seconds: config.NonNegative
    seconds_before: config.NonNegative
    epoch_loss: float
    epoch_correct: config.Count
    epoch_count: config.Count
    best: EpochRecord | None
    exact: bool
    weights_sha256: str


class Payload(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything to go on with a run, or to predict, without any other file but the samples."""

    format: str
    version: int
    config: config.Config
    network: list[dict[str, Any]]
    preprocessing: Preprocessing
    state: Position
    parameters: list[Array]
    buffers: list[Array]
    optimizer: list[Array]
    history: list[EpochRecord]
    fingerprint: dict[str, str]
    data_fingerprint: str


class _Header(Struct, frozen=True):
    """What tells whether the rest can be read."""

    format: str
    version: int


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    sha256: str
    payload: msgspec.Raw


def pack(
    settings: config.Config,
    network: Network,
    preprocessing: Preprocessing,
    state: TrainState,
    fingerprint: Mapping[str, str],
    data_fingerprint: str,
) -> Payload:
    """A copy of the state that later steps leave alone. Raises DivergedError that names an array that is not finite."""
    views = network.layout.views
    for kind, vector in {"weights": state.parameters, **state.optimizer}.items():
        bad = [name for name, view in views(vector).items() if not np.isfinite(view).all()]
        if bad:
            raise DivergedError(
                f"step {state.step}: {kind} of {bad[-1]} are not finite; try a lower optimizer.learning_rate "
                f"(now {settings.optimizer.learning_rate:.4g}); the last checkpoint, if any, is good"
            )
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
        ),
        parameters=[_pack_array(name, view) for name, view in views(state.parameters).items()],
        buffers=[],
        optimizer=[
            _pack_array(f"{kind}/{name}", view)
            for kind, vector in state.optimizer.items()
            for name, view in views(vector).items()
        ],
        history=list(state.history),
        fingerprint=dict(fingerprint),
        data_fingerprint=data_fingerprint,
    )


def unpack(payload: Payload, source: str) -> tuple[Network, TrainState]:
    """The network and the state of a payload. Raises InputError that names `source` and the place in it."""
    place = f"{source}: $.payload"
    preprocessing = payload.preprocessing
    try:
        network = Network.from_tables(payload.network, preprocessing.image_shape, len(preprocessing.class_names))
    except InputError as error:
        raise InputError(f"{place}.network: {error}") from error
    shapes = {entry.name: entry.shape for entry in network.layout.entries}
    kinds = list(optim.init(payload.config.optimizer, 0))
    optimizer_shapes = {f"{kind}/{name}": shape for kind in kinds for name, shape in shapes.items()}
    _check_shapes(payload.parameters, shapes, f"{place}.parameters")
    _check_shapes(payload.buffers, {}, f"{place}.buffers")
    _check_shapes(payload.optimizer, optimizer_shapes, f"{place}.optimizer")
    flat = _flatten(payload.optimizer, f"{place}.optimizer").reshape(len(kinds), network.layout.size)
    position = payload.state
    _check_position(position, payload, f"{place}.state")
    state = TrainState(
        parameters=_flatten(payload.parameters, f"{place}.parameters"),
        optimizer={kind: np.array(row) for kind, row in zip(kinds, flat, strict=True)},
        epoch=position.epoch,
        index=position.index,
        step=position.step,
        samples=position.samples,
        seconds=position.seconds,
        seconds_before=position.seconds_before,
        sums=Sums(position.epoch_loss, position.epoch_correct, position.epoch_count),
        exact=position.exact,
        history=list(payload.history),
    )
    if state.digest != position.weights_sha256:
        raise InputError(f"{place}.state.weights_sha256: is not the digest of the parameters; the file was changed")
    return network, state


def encode(payload: Payload) -> bytes:
    """The whole file's bytes."""
    if payload.config.checkpoint.arrays == "decimal":
        lists = {name: [_decimal(array) for array in getattr(payload, name)] for name in ("parameters", "optimizer")}
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
                f"{source}: $.payload.version: {header.format!r} {header.version}, and this program reads "
                f"{FORMAT!r} {VERSION}"
            )
        return msgspec.json.decode(file.payload, type=Payload)
    except msgspec.ValidationError as error:
        what, _, inner = str(error).partition(" - at `$")
        raise InputError(f"{source}: no checkpoint: {what} - at `{place}{inner.rstrip('`')}`") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{source}: not a whole checkpoint: {error}") from error


def load(path: str | Path) -> Payload:
    """Read a checkpoint file. Raises InputError that names the file and the place in it."""
    path = Path(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe or device might never end
            raise InputError(f"{path}: not a file; a checkpoint is expected")
        if status.st_size > MAXIMUM_BYTES:
            raise InputError(f"{path}: larger than any checkpoint ({MAXIMUM_BYTES >> 30} GiB)")
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot read the checkpoint: {error.strerror or error}") from error
    return decode(content, str(path))


def _pack_array(name: str, array: Vector) -> Array:
    return Array(name, "float32", array.shape, np.ascontiguousarray(array, "<f4").tobytes())


def _decimal(array: Array) -> Array:
    return msgspec.structs.replace(array, data=_shortest(_numbers(array)))


def _numbers(array: Array) -> Vector:
    """The array's elements as a vector of this machine's byte order."""
    if isinstance(array.data, list):
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused as that
            return np.array(array.data, np.float32)
    return np.frombuffer(array.data, "<f4").astype(np.float32, copy=False)


def _shortest(values: Vector) -> list[float]:
    """Each float32 as the double that prints with the fewest digits and still rounds to it."""
    exact = values.tolist()
    short = [float(str(value)) for value in values]
    same = np.array(short).astype(np.float32) == values
    return [a if good else b for a, b, good in zip(short, exact, same, strict=True)]


def _check_position(position: Position, payload: Payload, place: str) -> None:
    """The counters agree with each other and with the history."""
    epochs = [record.epoch for record in payload.history]
    faults = {
        "epoch": epochs != list(range(1, position.epoch + 1)),
        "step": position.step < position.epoch + position.index,
        "seed": position.seed != payload.config.train.seed,
        "epoch_correct": position.epoch_correct > position.epoch_count,
        "epoch_count": (position.epoch_count == 0) != (position.index == 0) or position.epoch_count > position.samples,
    }
    for name, wrong in faults.items():
        if wrong:
            raise InputError(f"{place}.{name}: {getattr(position, name)} does not fit the rest of the checkpoint")


def _check_shapes(arrays: Sequence[Array], expected: Mapping[str, tuple[int, ...]], place: str) -> None:
    """The arrays are exactly those of the network, in its order, each with as much data as its shape says."""
    names = [array.name for array in arrays]
    if names != list(expected):
        odd = [name for name in names if name not in expected or names.count(name) > 1]
        missing = [name for name in expected if name not in names]
        what = f"unexpected {odd[0]!r}" if odd else f"missing {missing[0]!r}" if missing else "wrong order"
        raise InputError(f"{place}: {what}; the network has {', '.join(expected) or 'none'}")
    for position, array in enumerate(arrays):
        if array.shape != expected[array.name]:
            raise InputError(
                f"{place}[{position}].shape: {array.name} is {list(array.shape)}, "
                f"and the network has {list(expected[array.name])}"
            )
        length = len(array.data) if isinstance(array.data, list) else len(array.data) / 4
        if length != math.prod(array.shape):
            raise InputError(
                f"{place}[{position}].data: {length:g} numbers, and the shape {list(array.shape)} has "
                f"{math.prod(array.shape)}"
            )


def _flatten(arrays: Iterable[Array], place: str) -> Vector:
    """All arrays behind one another."""
    parts = [_numbers(array) for array in arrays]
    for position, part in enumerate(parts):
        if not np.isfinite(part).all():
            raise InputError(f"{place}[{position}].data: a number that is not finite")
    return np.concatenate([np.empty(0, np.float32), *parts])
