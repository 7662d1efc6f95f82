"""Checkpoint file: encode, decode and read the state of a run as one JSON file.

The file is `{"sha256": ..., "payload": {...}}`, with the digest over the payload's bytes as stored. Reading executes no
code and imports nothing by name: fields, types, layer types and sizes come from closed lists, and all else raises
InputError, which names the place. Time and memory are in proportion to the file's size, whatever the file claims.
"""

import hashlib
from errno import EFBIG, EINVAL, EISDIR, ELOOP, ENOENT, ENOMEM, ENXIO
from pathlib import Path, PurePath
from typing import Any

import msgspec
from msgspec import Raw, Struct

from cnnpar.config.sections import Config
from cnnpar.data.preprocessing import Preprocessing
from cnnpar.errors import InputError, reason
from cnnpar.files import read_regular
from cnnpar.storage.arrays import Array
from cnnpar.storage.json_check import check_json
from cnnpar.storage.position import Position, RunId
from cnnpar.text import one_line, shown
from cnnpar.training.state import EpochRecord

FORMAT = "cnnpar checkpoint"
VERSION = 1
MAXIMUM_BYTES = 64 << 30  # the largest network, with two vectors of that size for an optimizer, fits in
_NO_CHECKPOINT = (ENOENT, ELOOP, EINVAL, ENXIO, EISDIR)  # errors of what is missing, a link, or no regular file
_LONGEST_SETTINGS = 1 << 20  # bytes; the largest allowed network takes a third of that
# Of files that are no JSON, by the endings of their names.
_OTHERS = {
    ".safetensors": "weights for other programs; `cnnpar import` makes a checkpoint of them",
    ".npz": "arrays; if they are weights, `cnnpar import` makes a checkpoint of them",
    ".onnx": "a network for other programs; cnnpar does not read ONNX",
    ".toml": "settings; a checkpoint is a model.json, or a run's directory",
}


class NoCheckpointError(InputError):
    """A file or folder that is no checkpoint, and may be data."""


class Payload(Struct, frozen=True, forbid_unknown_fields=True):
    """Content of a checkpoint: all that is needed, besides the samples, to resume the run or to predict."""

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
    average: list[Array] = []  # EMA of parameters and buffers, if train.ema_decay is set


class _Header(Struct, frozen=True):
    """Fields decoded before the rest: format and version, and the parts of free form, whose length is checked first."""

    format: str
    version: int
    config: Raw = Raw()
    network: Raw = Raw()


class _Owner(Struct, frozen=True):
    """The one field of a position that says whose checkpoint it is."""

    run_id: RunId = ""


class _Owned(Struct, frozen=True):
    """The fields of a payload that say whose it is."""

    format: str
    state: _Owner


class _OwnedFile(Struct, frozen=True):
    """Outermost object of the file, for its owner alone."""

    payload: _Owned


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    """Outermost object of the file."""

    sha256: str
    payload: Raw


def encode(payload: Payload) -> bytes:
    """Return the bytes of the whole file."""
    if payload.config.checkpoint.arrays == "decimal":
        lists: dict[str, Any] = {
            name: [array.decimal() for array in getattr(payload, name)]
            for name in ("parameters", "buffers", "optimizer", "average")
        }
        payload = msgspec.structs.replace(payload, **lists)
    body = msgspec.json.encode(payload)
    return b'{"sha256":"%s","payload":%s}\n' % (hashlib.sha256(body).hexdigest().encode(), body)


def decode(content: bytes, source: str) -> Payload:
    """Return the payload in the bytes of a file.

    Raises InputError, which names `source` and the place in it; NoCheckpointError for what may be data.
    """
    place, kind = "$", PurePath(source).suffix.lower()
    fault: type[InputError] = InputError if content.lstrip()[:1] == b"{" else NoCheckpointError
    if fault is NoCheckpointError and kind in _OTHERS:
        raise (fault if kind == ".npz" else InputError)(f"{source}: no checkpoint, but {_OTHERS[kind]}")
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
        # After the version check, as it holds for this format only; before config and network, whose form is free.
        check_json(content)
        for name, part in {"config": header.config, "network": header.network}.items():
            if len(part) > _LONGEST_SETTINGS:
                raise InputError(f"{source}: $.payload.{name}: {len(part):,} bytes, more than any network takes")
        return msgspec.json.decode(file.payload, type=Payload)
    except msgspec.ValidationError as error:
        what, _, inner = str(error).partition(" - at `$")
        raise fault(f"{source}: no checkpoint: {one_line(what)} - at `{place}{inner.rstrip('`')}`") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise fault(f"{source}: not a whole checkpoint: {error}") from error
    except ValueError as error:
        raise InputError(f"{source}: {error}") from error


def read(path: str | Path) -> Payload:
    """Read a checkpoint file, which may be behind a link. Raises InputError, which names file and place in it."""
    return _decoded(Path(path), None)


def is_whole(path: Path, folder: int | None = None) -> bool:
    """Tell whether there is a checkpoint that can be read; in an opened folder no link is followed to it."""
    try:
        _decoded(path, folder)
    except InputError:
        return False
    return True


def owner(name: str, folder: int) -> str | None:
    """Return the id of the run whose checkpoint is in an opened folder under that name.

    Empty where an earlier version wrote it; None where there is no checkpoint. It need not be whole. Raises OSError for
    a file that cannot be read, and so may be anything.
    """
    try:
        content = read_regular(name, MAXIMUM_BYTES, directory=folder)
    except OSError as error:
        if error.errno in _NO_CHECKPOINT:
            return None
        raise
    except MemoryError as error:
        raise OSError(ENOMEM, "does not fit into memory", name) from error
    try:
        found = msgspec.json.decode(content, type=_OwnedFile).payload
    except (MemoryError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found.state.run_id if found.format == FORMAT else None


def _decoded(path: Path, folder: int | None) -> Payload:
    try:
        if folder is None:
            content = read_regular(path, MAXIMUM_BYTES, follow=True)
        else:
            content = read_regular(path.name, MAXIMUM_BYTES, directory=folder)
        return decode(content, str(path))
    except OSError as error:
        if error.errno == EFBIG:
            raise InputError(f"{path}: larger than any checkpoint ({MAXIMUM_BYTES >> 30} GiB)") from error
        raise InputError(f"{path}: cannot read the checkpoint: {reason(error)}") from error
    except MemoryError as error:
        raise InputError(f"{path}: does not fit into memory") from error
