"""The embedded digits, and MNIST from a folder or from a mirror on this machine."""

import gzip
import hashlib
import http.server
import struct
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnpar.config.data import Data
from cnnpar.data.load import load_splits
from cnnpar.data.readers import named
from cnnpar.errors import InputError
from tests.helpers.commands import call
from tests.helpers.data_files import load_test


def test_digits_agree_with_scikit_learn() -> None:
    datasets: Any = pytest.importorskip("sklearn.datasets")
    digits = datasets.load_digits()
    found = load_splits(Data(validation=0.0))
    test = np.arange(1797) % 5 == 4
    assert found.test is not None
    for part, chosen in ((found.train, ~test), (found.test, test)):
        assert np.array_equal(part.images[..., 0], np.rint(digits.images[chosen] * 255 / 16))
        assert np.array_equal(part.labels, digits.target[chosen])


def test_embedded_digits_are_complete_and_below_50_kb() -> None:
    found = load_splits(Data())
    assert found.train.image_shape == (8, 8, 1)
    assert found.train.class_names == tuple("0123456789")
    assert found.validation is not None
    assert found.test is not None
    assert len(found.train) + len(found.validation) + len(found.test) == 1797
    assert found.train.images.max() == 255
    assert named._DIGITS.stat().st_size < 50_000


def test_digits_can_be_loaded_as_test_data() -> None:
    found = load_test("digits", (8, 8, 1), tuple("0123456789"))
    assert len(found) == 359
    with pytest.raises(InputError, match="digits: images are 8 x 8 x 1, but training had 28 x 28 x 1"):
        load_test("digits", (28, 28, 1), tuple("0123456789"))


def idx_files() -> dict[str, bytes]:
    """Return by name the four packed IDX files of MNIST, with twelve and four pictures."""
    files = {}
    for prefix, count in (("train", 12), ("t10k", 4)):
        images = np.arange(count * 6, dtype=np.uint8).tobytes()
        labels = bytes(label % 3 for label in range(count))
        files[f"{prefix}-images-idx3-ubyte.gz"] = struct.pack(">4I", 0x803, count, 2, 3) + images
        files[f"{prefix}-labels-idx1-ubyte.gz"] = struct.pack(">2I", 0x801, count) + labels
    return {name: gzip.compress(data, mtime=0) for name, data in files.items()}


@pytest.mark.parametrize("packed", [True, False])
def test_mnist_is_taken_from_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool) -> None:
    monkeypatch.setenv("CNNPAR_DATA", str(tmp_path))
    (tmp_path / "mnist").mkdir()
    for name, data in idx_files().items():
        path = tmp_path / "mnist" / name
        if packed:
            path.write_bytes(data)
        else:
            path.with_suffix("").write_bytes(gzip.decompress(data))
    found = load_splits(Data(name="mnist", validation=0.0))
    assert found.test is not None
    assert (len(found.train), len(found.test)) == (12, 4)
    assert found.train.images[1].ravel().tolist() == [6, 7, 8, 9, 10, 11]


def test_data_folder_without_a_file_of_mnist_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNNPAR_DATA", str(tmp_path))
    (tmp_path / "mnist").mkdir()
    with pytest.raises(InputError, match="mnist: has no train-images-idx3-ubyte or train-images"):
        load_splits(Data(name="mnist"))


class Mirror(http.server.SimpleHTTPRequestHandler):
    """A file server of one folder, without log lines, that records the requested paths."""

    asked: list[str]

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class calls it so)
        self.asked.append(self.path)


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield a folder that is served on this machine as MNIST's only mirror; the cache is a temporary folder."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    Mirror.asked = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Mirror, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}/"
    monkeypatch.setattr(named, "_MNIST_MIRRORS", (address + "gone/", address))
    monkeypatch.delenv("CNNPAR_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield folder
    server.shutdown()
    thread.join()
    server.server_close()


def test_mnist_is_downloaded_once(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = idx_files()
    for name, data in files.items():
        (mirror / name).write_bytes(data)
    for part in named._MNIST_FILES.values():
        for name in part:
            monkeypatch.setitem(part, name, hashlib.md5(files[name]).hexdigest())
    found = load_splits(Data(name="mnist", validation=0.0))
    assert len(found.train) == 12
    asked = len(Mirror.asked)
    assert load_splits(Data(name="mnist", validation=0.0)).fingerprint == found.fingerprint
    assert len(Mirror.asked) == asked


def test_download_with_a_wrong_checksum_is_refused_and_removed(mirror: Path) -> None:
    for name, data in idx_files().items():
        (mirror / name).write_bytes(data)  # not MNIST
    with pytest.raises(
        InputError, match=r"train-images-idx3-ubyte\.gz cannot be downloaded \(MD5 .*CNNPAR_DATA"
    ) as caught:
        load_splits(Data(name="mnist"))
    assert "\n" not in str(caught.value)
    assert not list((mirror.parent / "cache").rglob("*.gz"))


def test_failed_download_gives_an_error_that_says_what_to_do(mirror: Path) -> None:
    with pytest.raises(InputError, match=r"404.*put the four files of MNIST into a folder") as caught:
        load_splits(Data(name="mnist"))
    assert "\n" not in str(caught.value)


def test_without_a_network_the_failure_is_one_line(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(named, "_MNIST_MIRRORS", ("http://127.0.0.1:1/", "http://127.0.0.2:1/"))
    assert call("cnnpar-train", "mnist", "--workers", 0) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "mnist: train-images-idx3-ubyte.gz cannot be downloaded (no connection to 127.0.0.2); put the four" in err


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("--set model.layers=[{type='dense'}]", "layer 1 (dense1): needs a vector, but its input is (28, 28, 1)"),
        ("--set model.layers=[{type='flatten'},{type='dense',units=9}]", "but 10 classes need (10,)"),
        ("--set augment.saturation=0.5", "augment.saturation"),
        ("--set loss.class_weights=[1,2]", "2 numbers, but there are 10 classes"),
        ("--run-dir full", "full: holds a run already"),
    ],
)
def test_what_mnist_decides_is_checked_before_its_download(
    mirror: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    line: str,
    what: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("full").mkdir()
    Path("full/model.json").touch()
    assert call("cnnpar-train", "mnist", "--workers", 0, *line.split()) == 2
    assert what in capfd.readouterr().err
    assert Mirror.asked == []


def test_mnist_of_ones_own_may_have_another_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNNPAR_DATA", str(tmp_path))
    (tmp_path / "mnist").mkdir()
    assert named.awaited("mnist") is named.awaited("digits") is None
