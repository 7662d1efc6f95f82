"""Files of weights: other libraries open them, damage and bombs are refused in one line, nothing is unpickled."""

import contextlib
import hashlib
import io
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnpar.errors import InputError
from cnnpar.exchange import array_files
from cnnpar.exchange.export import export
from cnnpar.exchange.layouts import LAYOUTS
from cnnpar.exchange.matching import layout_of, match
from cnnpar.exchange.trained import Facts
from tests.helpers.trained_networks import Tables, made

safetensors = pytest.importorskip("safetensors.numpy")

NETWORK: Tables = [{"type": "conv2d", "channels": 2}, {"type": "batchnorm2d"}, {"type": "flatten"}, {"type": "dense"}]
TRAINED = made(NETWORK, (3, 4, 1))
ENDINGS = (".safetensors", ".npz")


def written(tmp_path: Path, ending: str, layout: str | None = None) -> Path:
    file = tmp_path / f"weights{ending}"
    export(TRAINED, file, layout, overwrite=True)
    return file


def refusal(file: Path) -> str:
    """Return the error of reading a bad file: one line, which names it."""
    with pytest.raises(InputError) as caught:
        array_files.read(file)
    text = str(caught.value)
    assert text.startswith(f"{file}: ")
    assert "\n" not in text
    assert len(text) < 600
    return text


def test_numpy_and_safetensors_open_the_files(tmp_path: Path) -> None:
    arrays = TRAINED.arrays()
    found = safetensors.load_file(written(tmp_path, ".safetensors"))
    with np.load(written(tmp_path, ".npz")) as archive:
        facts = json.loads(str(archive["cnnpar"]))
        assert {*archive.files} == {*arrays, "cnnpar"}
        for name, values in arrays.items():
            assert found[name].tobytes() == archive[name].tobytes() == values.tobytes()
            assert found[name].shape == archive[name].shape == values.shape
    with pytest.importorskip("safetensors").safe_open(tmp_path / "weights.safetensors", "np") as file:
        assert json.loads(file.metadata()["cnnpar"]) == facts
    assert facts["layout"] == "hwio"
    assert facts["class_names"] == ["class 0", "class 1", "class 2", "class 3"]
    assert (facts["image_shape"], facts["mean"], facts["std"]) == ([3, 4, 1], [120.0], [60.0])


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_was_written_is_read_with_its_layout_and_digest(tmp_path: Path, ending: str) -> None:
    for layout in LAYOUTS:
        file = written(tmp_path, ending, layout)
        content = file.read_bytes()
        found = array_files.read(file)
        assert found.sha256 == hashlib.sha256(content).hexdigest()
        assert found.facts == Facts.of(TRAINED, layout)
        taken = match(file, found.arrays, layout_of(found, None, "--layout"), TRAINED.network).taken
        assert {name: values.tobytes() for name, values in taken.items()} == {
            name: values.tobytes() for name, values in TRAINED.arrays().items()
        }
        assert written(tmp_path, ending, layout).read_bytes() == content  # two exports are the same bytes


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, ending: str) -> None:
    content = written(tmp_path, ending).read_bytes()
    file = tmp_path / f"cut{ending}"
    for length in (0, 7, 8, 100, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:length])
        refusal(file)


@pytest.mark.parametrize("ending", ENDINGS)
@given(st.data())
def test_changed_bytes_are_refused_or_read_as_arrays(ending: str, data: st.DataObject) -> None:
    content = bytearray(CONTENT[ending])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InputError):
        arrays, _ = array_files._READERS[ending](Path("file"), bytes(content))
        assert all(isinstance(values, np.ndarray) for values in arrays.values())


def header(**tensors: Any) -> bytes:
    """Return the beginning of a .safetensors file."""
    text = json.dumps(tensors).encode()
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "content",
    [
        (1 << 62).to_bytes(8, "little") + b"{}",  # a header longer than memory
        header(a={"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}) + bytes(64),
        header(a={"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}) + bytes(64),  # a rest that nothing names
        header(a={"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}) + bytes(4),
        header(a={"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}) + bytes(4),
        header(__metadata__={"cnnpar": "{}"}, a={"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}) + bytes(4),
        header(__metadata__={"cnnpar": '{"layout": "oihw"}'}),
        b"\x80\x04\x95" + bytes(30),
    ],
)
def test_hostile_safetensors_are_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "bad.safetensors"
    file.write_bytes(content)
    refusal(file)


def test_a_name_that_would_drive_a_terminal_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "bad.safetensors"
    file.write_bytes(header(**{"a\x1b[2J": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}) + bytes(4))
    assert "\x1b" not in refusal(file)


def test_pickles_and_bombs_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "bad.npz"
    np.savez(file, **{"conv1.weight": np.array([{"a": 1}], object)})  # type: ignore[arg-type]
    assert "Object arrays cannot be loaded" in refusal(file)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", npy_of(np.zeros(30 << 20, np.float32)))
    assert "packed as no weights can be" in refusal(file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.npy", npy_of(np.zeros(4, np.float32)).replace(b"(4,)", b"(%d,)" % (1 << 50)))
    refusal(file)
    file.write_bytes(pickle.dumps({"conv1.weight": [1.0]}))
    refusal(file)


def test_arrays_of_one_name_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "two.npz"
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("a.npy", "a"):
            archive.writestr(name, npy_of(np.zeros(4, np.float32)))
    assert "the array 'a' is there twice" in refusal(file)


def npy_of(values: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npz")
    (tmp_path / "folder.npz").mkdir()
    assert "not a regular file" in refusal(tmp_path / "pipe.npz")
    assert "cannot be read" in refusal(tmp_path / "folder.npz")
    assert "No such file" in refusal(tmp_path / "absent.safetensors")


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F64"])
def test_other_floats_become_float32(tmp_path: Path, dtype: str) -> None:
    values = np.array([1.5, -2.0, 0.25, 96.0], np.float32)
    kinds = {"F16": values.astype("<f2"), "F64": values.astype("<f8"), "BF16": (values.view("<u4") >> 16).astype("<u2")}
    data = kinds[dtype].tobytes()
    file = tmp_path / "a.safetensors"
    tensor = {"dtype": dtype, "shape": [4], "data_offsets": [0, len(data)]}
    file.write_bytes(header(**{"dense1.bias": tensor}) + data)
    found = match(file, array_files.read(file).arrays, "torch", TRAINED.network)
    assert found.taken["dense1.bias"].tobytes() == values.tobytes()


def test_whole_numbers_and_infinite_ones_are_no_weights(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    for values, why in (
        (np.arange(4), "dense1.bias holds int64; weights are floats"),
        (np.array([1, 2, 3, np.nan]), "dense1.bias has a number that is not finite"),
        (np.array([1, 2, 3, 1e300]), "dense1.bias has a number that is not finite"),
    ):
        np.savez(file, **{"dense1.bias": values})  # type: ignore[arg-type]
        with pytest.raises(InputError, match=why):
            match(file, array_files.read(file).arrays, "hwio", TRAINED.network)


def test_a_layout_is_said_by_the_file_or_by_the_option(tmp_path: Path) -> None:
    said = array_files.read(written(tmp_path, ".npz", "torch"))
    np.savez(tmp_path / "a.npz", **{"dense1.bias": np.zeros(4, np.float32)})  # type: ignore[arg-type]
    silent = array_files.read(tmp_path / "a.npz")
    assert layout_of(said, None, "--layout") == layout_of(said, "torch", "--layout") == "torch"
    assert layout_of(silent, "keras", "--layout") == "keras"
    with pytest.raises(InputError, match="--layout hwio: the file says that its layout is torch"):
        layout_of(said, "hwio", "--layout")
    with pytest.raises(InputError, match=r"does not say its layout.*--layout does: one of hwio, torch, keras"):
        layout_of(silent, None, "--layout")


CONTENT = {
    ".safetensors": array_files.encode_safetensors(TRAINED.arrays(), Facts.of(TRAINED, "hwio")),
    ".npz": array_files.encode_npz(TRAINED.arrays(), Facts.of(TRAINED, "hwio")),
}
