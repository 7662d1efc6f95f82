"""Export a trained network to a file that other programs open; the ending of its name says what is written."""

import json
import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple

import msgspec

from cnnpar.errors import InputError, RunError, reason
from cnnpar.exchange.array_files import encode_npz, encode_safetensors
from cnnpar.exchange.extras import required
from cnnpar.exchange.layouts import LAYOUTS, twins
from cnnpar.exchange.trained import Facts, Trained
from cnnpar.nn.shapes import Array
from cnnpar.storage.atomic import write


class Exported(msgspec.Struct, frozen=True):
    """What was written, and what opens it."""

    file: str
    bytes: int
    layout: str
    parameters: int  # numbers, those of buffers included
    weights_sha256: str
    opened_by: str  # Python
    scale: float  # data.scale of the run

    def __str__(self) -> str:
        """Return the line for people, and one on the scale of the images, if the run had one."""
        kind = _kind(Path(self.file))
        size = f"{self.bytes / 1e6:.1f} MB" if self.bytes >= 1e6 else f"{self.bytes / 1e3:.1f} kB"
        line = f"{self.file}: {size}, layout {self.layout}; opened by {self.opened_by}"
        if kind.package and not find_spec(kind.package):
            line += f" (pip install {kind.package})"
        return line if self.scale == 1 else f"{line}\n{kind.scaled} data.scale = {self.scale:g}"


class _Kind(NamedTuple):
    """A kind of file: the layouts that it may have, the first one by default."""

    layouts: tuple[str, ...]
    encode: Callable[[Trained, Any, str], bytes]  # of the network, the layout, and the stem of the file's name
    opened_by: Callable[[str, str], str]  # of the file and the layout
    scaled: str = "multiply images, before mean and std, by"  # data.scale
    package: str = ""  # that opens it, and is not needed to write it


def export(trained: Trained, file: Path, layout: str | None = None, overwrite: bool = False) -> Exported:
    """Write a network to `file`, atomically, in `layout`, or that which is usual for its kind.

    Raises InputError for an ending or a layout that there is not, for layers that the kind of file cannot hold, and for
    a file that is there and not to be overwritten; RunError where the file cannot be written.
    """
    layout = _check_target(file, layout, overwrite)
    kind = _kind(file)
    content = kind.encode(trained, layout, file.stem)
    write_whole(file, content)
    opened_by = kind.opened_by(json.dumps(str(file), ensure_ascii=False), layout)
    facts = trained.weights.size, trained.weights_sha256, opened_by, trained.scale
    return Exported(str(file), len(content), layout, *facts)


def _kind(file: Path) -> _Kind:
    """Return the kind of a file by the ending of its name. Raises InputError where there is none."""
    kind = _KINDS.get(file.suffix.lower())
    if kind is None:
        raise InputError(f"{file}: expected a name that ends in {' or '.join(_KINDS)}")
    return kind


def _check_target(file: Path, layout: str | None, overwrite: bool) -> str:
    """Return the layout that a file will have, `layout` or the default of its kind.

    Raises InputError for an ending or a layout that there is not, and where the file could not be written, or exists
    and `overwrite` is false.
    """
    kind = _kind(file)
    if layout is not None and layout not in kind.layouts:
        raise InputError(f"--layout {layout}: the layout of {file.suffix} files is {' or '.join(kind.layouts)}")
    check_writable(file, overwrite)
    return layout or kind.layouts[0]


def check_writable(file: Path, overwrite: bool) -> None:
    """Raise InputError where a file could not be written, or exists and `overwrite` is false."""
    if file.is_dir():
        raise InputError(f"{file}: is a folder")
    if os.path.lexists(file) and not overwrite:
        raise InputError(f"{file}: exists already; --overwrite replaces it")
    if not file.parent.is_dir():
        raise InputError(f"{file}: there is no folder {file.parent}")
    try:
        TemporaryFile(dir=file.parent).close()  # has no name where the system can do without
    except OSError as error:
        raise InputError(f"{file}: cannot write in its folder: {reason(error)}") from error


def write_whole(file: Path, content: bytes) -> None:
    """Write a file atomically. Raises RunError where that fails; what was there before stays then."""
    try:
        write(file, content)
    except OSError as error:
        raise RunError(f"{file}: cannot be written: {reason(error)}") from error


def _onnx(trained: Trained, layout: Any, name: str) -> bytes:
    required("onnx", "an .onnx file")
    from cnnpar.exchange.onnx_model import encode

    return encode(trained, layout, name)


def _in_layout(trained: Trained, layout: Any) -> dict[str, Array]:
    """Return the arrays by the names, and with the axes, that they have in a layout."""
    arrays = trained.arrays()
    return {twin.name: twin.written(arrays[name]) for name, twin in twins(trained.network, layout).items()}


def _safetensors(trained: Trained, layout: Any, _: str) -> bytes:
    return encode_safetensors(_in_layout(trained, layout), Facts.of(trained, layout))


def _npz(trained: Trained, layout: Any, _: str) -> bytes:
    return encode_npz(_in_layout(trained, layout), Facts.of(trained, layout))


def _opens_safetensors(file: str, layout: str) -> str:
    if layout == "torch":
        return f"module.load_state_dict(safetensors.torch.load_file({file}))"
    return f"safetensors.numpy.load_file({file})"


_KINDS = {
    ".onnx": _Kind(
        ("nhwc", "nchw"),
        _onnx,
        lambda file, _: f"onnxruntime.InferenceSession({file})",
        "images go in as float32, with the values of your files; the model multiplies them by",
        "onnxruntime",
    ),
    ".safetensors": _Kind(LAYOUTS, _safetensors, _opens_safetensors),
    ".npz": _Kind(LAYOUTS, _npz, lambda file, _: f"numpy.load({file})"),
}
