"""A run's state as the bytes of one JSON file, and back: complete, and checked to the last number.

`{"sha256": ..., "payload": {...}}`, the digest over the payload's bytes as they stand in the file. Reading runs no
code and imports nothing by name: fields, types, layer types and sizes are a closed list, and whatever does not fit
is an error that names the place. It takes time and memory in proportion to the file, whatever the file claims.
"""

import hashlib
import os
import stat
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw, Struct

from cnnpar.config.sections import Config
from cnnpar.data.preprocessing import Preprocessing
from cnnpar.errors import InputError, reason
from cnnpar.storage.arrays import Array
from cnnpar.storage.json_check import check_json
from cnnpar.storage.position import Position
from cnnpar.text import plain, shown
from cnnpar.training.state import EpochRecord

FORMAT = "cnnpar checkpoint"
VERSION = 1
MAXIMUM_BYTES = 64 << 30  # the largest network, and two more such vectors of an optimizer
_LONGEST_SETTINGS = 1 << 20  # bytes; the most layers with the longest names take a third of it


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


def read(path: str | Path) -> Payload:
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
        raise InputError(f"{path}: cannot read the checkpoint: {reason(error)}") from error
    except MemoryError as error:
        raise InputError(f"{path}: does not fit into memory") from error
