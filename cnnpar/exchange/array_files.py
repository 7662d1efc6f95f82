"""Files of named arrays, .safetensors and .npz, with cnnpar's facts about them in one entry, as JSON.

The entry is `cnnpar`: of the metadata of a .safetensors file, or an array of text in an .npz file. Reading runs no
code and unpickles nothing; what is damaged or not what it claims raises InputError.
"""

import hashlib
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from errno import EFBIG
from io import BytesIO
from pathlib import Path
from tokenize import TokenError
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import Struct
from numpy.lib import format as npy
from numpy.typing import NDArray

from cnnpar.errors import InputError, reason
from cnnpar.exchange.extras import required
from cnnpar.exchange.trained import Facts
from cnnpar.files import read_regular
from cnnpar.nn.shapes import Array
from cnnpar.text import is_plain, one_line, shown

ENTRY = "cnnpar"
_LARGEST = 16 << 30  # bytes; the largest network, in float64, fits in
_PACKED = 16  # times smaller than its arrays an .npz may be, from _SMALL bytes on: no weights pack like that
_SMALL = 64 << 20
_LONGEST_NAME = 1000  # characters; four levels of layers within layers, and more
_FAULTS = (
    *(EOFError, ValueError, TypeError, KeyError, OverflowError, RuntimeError, SyntaxError, TokenError),
    *(MemoryError, NotImplementedError, zipfile.BadZipFile, zlib.error),
)
# Of the types of .safetensors those that numpy has, besides BF16, which is the upper half of a float32.
_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "BOOL": "?", "I8": "i1", "U8": "u1"} | {
    f"{kind}{8 * size}": f"<{kind.lower()}{size}" for kind in "IU" for size in (2, 4, 8)
}


class ArrayFile(NamedTuple):
    """Content of a file of arrays."""

    path: Path
    arrays: Mapping[str, NDArray[Any]]
    facts: Facts | None  # None: the file says nothing about them
    sha256: str  # of the whole file, as `sha256sum` prints it


class _Header(Struct, frozen=True):
    """The part of a .safetensors header that its library does not return with the arrays."""

    metadata: dict[str, str] = msgspec.field(name="__metadata__", default={})


def is_array_file(path: Path) -> bool:
    """Tell by its name whether a file is one of arrays."""
    return path.suffix.lower() in _READERS


def encode_safetensors(arrays: Mapping[str, Array], facts: Facts) -> bytes:
    """Return the bytes of a .safetensors file. Raises InputError where its package is not installed."""
    required("safetensors", "a .safetensors file")
    from safetensors.numpy import save

    # One entry: the library writes several in an order that differs from process to process.
    return bytes(save(dict(arrays), {ENTRY: msgspec.json.encode(facts).decode()}))


def encode_npz(arrays: Mapping[str, Array], facts: Facts) -> bytes:
    """Return the bytes of an .npz file."""
    file = BytesIO()
    members: dict[str, Any] = {ENTRY: np.array(msgspec.json.encode(facts).decode()), **arrays}
    np.savez(file, **members)
    return file.getvalue()


def read(path: Path) -> ArrayFile:
    """Read a .safetensors or .npz file. Raises InputError, which names it."""
    try:
        content = read_regular(path, _LARGEST, follow=True)
    except OSError as error:
        large = "larger than any network" if error.errno == EFBIG else reason(error)
        raise InputError(f"{path}: cannot be read: {large}") from error
    except MemoryError as error:
        raise InputError(f"{path}: does not fit into memory") from error
    arrays, said = _READERS[path.suffix.lower()](path, content)
    for name in arrays:
        if len(name) > _LONGEST_NAME or not is_plain(name):
            raise InputError(f"{path}: {shown(name)} is no name of an array of weights")
    return ArrayFile(path, arrays, _facts(path, said), hashlib.sha256(content).hexdigest())


def _read_safetensors(path: Path, content: bytes) -> tuple[dict[str, NDArray[Any]], str | None]:
    """Return the arrays of a .safetensors file, and the text of its entry, if it has one."""
    safetensors = required("safetensors", f"{path}: a .safetensors file")
    try:
        tensors = dict(safetensors.deserialize(content))
        length = int.from_bytes(content[:8], "little")
        metadata = msgspec.json.decode(content[8 : 8 + length], type=_Header).metadata
        return {name: _tensor(name, **tensor) for name, tensor in tensors.items()}, metadata.get(ENTRY)
    except (safetensors.SafetensorError, *_FAULTS) as error:
        raise InputError(f"{path}: not a whole .safetensors file: {one_line(reason(error))}") from error


def _tensor(name: str, dtype: str, shape: list[int], data: bytes) -> NDArray[Any]:
    """Return an array of a .safetensors file. Raises ValueError for a type that numpy does not have."""
    if dtype not in _TYPES:
        raise ValueError(f"{shown(name)} is {dtype}, a type that is not read here")
    array: NDArray[Any] = np.frombuffer(data, _TYPES[dtype]).reshape(shape)
    return (array.astype("<u4") << 16).view("<f4") if dtype == "BF16" else array


def _read_npz(path: Path, content: bytes) -> tuple[dict[str, NDArray[Any]], str | None]:
    """Return the arrays of an .npz file, and the text of its entry, if it has one."""
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Python 2 and of odd escapes; what is wrong raises an error
            members = archive.infolist()
            if sum(member.file_size for member in members) > max(_SMALL, _PACKED * len(content)):
                raise ValueError("its arrays are packed as no weights can be")
            if any(member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for member in members):
                raise ValueError("packed in another way than numpy packs")
            arrays = {}
            for member in members:
                name = member.filename.removesuffix(".npy")
                if name in arrays:
                    raise ValueError(f"the array {shown(name)} is there twice")
                with archive.open(member) as file:
                    arrays[name] = npy.read_array(file, allow_pickle=False)
        said = arrays.pop(ENTRY, None)
        return arrays, None if said is None else str(said)
    except _FAULTS as error:
        raise InputError(f"{path}: not a whole .npz of plain arrays: {one_line(reason(error))}") from error


def _facts(path: Path, said: str | None) -> Facts | None:
    """Return the facts in the text of an entry. Raises InputError where they are none, or name an unknown layout."""
    try:
        return None if said is None else msgspec.json.decode(said, type=Facts)
    except msgspec.DecodeError as error:
        raise InputError(f"{path}: its entry `{ENTRY}` says nothing that is known: {one_line(str(error))}") from error


_READERS: dict[str, Callable[[Path, bytes], tuple[dict[str, NDArray[Any]], str | None]]] = {
    ".safetensors": _read_safetensors,
    ".npz": _read_npz,
}
