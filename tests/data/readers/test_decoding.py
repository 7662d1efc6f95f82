"""Decoding on all cores: the same data from any number of processes, which end with the one that started them."""

import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnpar.config.data import Data
from cnnpar.data.dataset import Splits
from cnnpar.data.load import load_splits
from cnnpar.data.readers import decoder, decoding
from cnnpar.data.readers.fitting import Look
from cnnpar.errors import InputError, RunError
from tests.helpers.cached_data import files_in
from tests.helpers.data_files import write_picture
from tests.helpers.limits import HANGING
from tests.helpers.tiny_runs import ROOT

PICTURES = 150


@pytest.mark.slow
def test_no_file_is_taken_far_ahead_of_a_slow_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow, small = tmp_path / "slow.png", tmp_path / "small.png"
    Image.new("L", (8000, 8000)).save(slow)
    write_picture(small)
    monkeypatch.setattr(decoding, "ALONE", 0)
    monkeypatch.setattr(decoding, "usable_cores", lambda: 2)
    monkeypatch.setattr(decoding, "_MOST_FILES", 8)
    files = [str(small)] * 2000
    files[500] = str(slow)  # both processes run by then
    done, ahead = set[int](), 0

    def take(run: decoder.Run) -> None:
        nonlocal ahead
        done.update(range(run.first, run.first + run.count))
        first = next(index for index in range(len(files) + 1) if index not in done)
        ahead = max(ahead, run.first + run.count - first)

    decoding.read_all(iter(files), len(files), Look((8, 8)), lambda: "pixels", take)
    assert len(done) == len(files)
    assert 8 < ahead <= 128


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures in two classes, of several kinds and sizes; in each class one that is broken."""
    rng = np.random.default_rng(0)
    for number in range(PICTURES):
        kind, mode = [("jpg", "RGB"), ("png", "RGBA"), ("gif", "P"), ("webp", "RGB")][number % 4]
        path = tmp_path / "pictures" / "ab"[number % 2] / f"{number:03}.{kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (8 + number % 5, 9, 3), np.uint8)
        Image.fromarray(pixels).convert(mode).save(path)
    for name in ("a/100.jpg", "b/101.png"):
        (tmp_path / "pictures" / name).write_bytes(b"\xff\xd8\xff broken")
    return tmp_path / "pictures"


def load(folder: Path, processes: int, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Splits:
    monkeypatch.setattr(decoding, "usable_cores", lambda: processes)
    monkeypatch.setattr(decoding, "ALONE", 0.0)
    monkeypatch.setattr(decoding._Processes, "ready", lambda *_: True)  # so that this process decodes none
    return load_splits(Data(train=str(folder), validation=0.0, **settings))


WISHES: dict[str, Any] = {"size": (7, 6), "channels": 3, "on_bad": "skip"}


def test_number_of_processes_leaves_data_and_notes_unchanged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNNPAR_CACHE", "off")
    one, three = (load(folder, processes, monkeypatch, **WISHES) for processes in (1, 3))
    assert len(one.train) == PICTURES - 2
    assert one.fingerprint == three.fingerprint
    assert one.notes == three.notes
    assert "2 of 150 pictures cannot be read and are left out: a/100.jpg, b/101.png" in one.notes[0]


@pytest.mark.parametrize(
    "others",
    [
        {},
        {"size": (4, 4)},
        pytest.param({"channels": 1}, marks=pytest.mark.slow),
        pytest.param({"on_bad": "skip"}, marks=pytest.mark.slow),
    ],
)
def test_number_of_processes_leaves_errors_unchanged(
    folder: Path, monkeypatch: pytest.MonkeyPatch, others: dict[str, Any]
) -> None:
    errors = []
    for processes in (1, 3):
        with pytest.raises(InputError) as caught:
            load(folder, processes, monkeypatch, **others)
        errors.append(str(caught.value))
    assert errors[0] == errors[1]


@pytest.mark.slow
def test_cached_pictures_are_those_of_the_same_settings(
    folder: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for settings in (WISHES, WISHES | {"fit": "crop"}, WISHES | {"background": "red"}, WISHES | {"size": (6, 7)}):
        before = len(files_in(cache_folder))
        first, second = (load(folder, processes, monkeypatch, **settings) for processes in (3, 1))
        assert len(files_in(cache_folder)) == before + 1
        with monkeypatch.context() as patch:
            patch.setenv("CNNPAR_CACHE", "off")
            truth = load(folder, 1, patch, **settings)
        for found in (first, second):
            assert found.fingerprint == truth.fingerprint
            assert found.notes == truth.notes


def test_changed_or_exchanged_pictures_are_other_data(
    folder: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load(folder, 3, monkeypatch, **WISHES)
    one, other = folder / "a" / "000.jpg", folder / "b" / "133.png"
    kept = one.read_bytes()
    shutil.copy(other, one)
    other.write_bytes(kept)
    assert load(folder, 3, monkeypatch, **WISHES).fingerprint != before.fingerprint


def children() -> set[int]:
    """The processes that this one started and has not waited for; zombies too."""
    own = (file.read_text().split() for file in Path("/proc/self/task").glob("*/children"))
    return {int(pid) for pids in own for pid in pids}


def test_a_process_that_is_killed_is_an_error_and_none_is_left(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = children()  # of other tests in this process
    killed: list[int] = []
    receive = decoding._Process.receive

    def killing(process: decoding._Process, take: decoding.Take) -> None:
        if not killed:
            killed.append(process._process.pid)
            assert children() > before
            os.kill(killed[0], signal.SIGKILL)
            process._process.wait()
            while process.pending:  # what it has sent before; then the next order cannot be sent
                receive(process, take)
        else:
            receive(process, take)

    monkeypatch.setattr(decoding._Process, "receive", killing)
    with pytest.raises(RunError, match="the process that decoded it was ended by SIGKILL; there may be too little"):
        load(folder, 3, monkeypatch, **WISHES)
    assert killed
    assert children() <= before


LOAD = """
import sys
from cnnpar.config.data import Data
from cnnpar.data.load import load_splits
from cnnpar.data.readers import decoding
decoding.ALONE, decoding.usable_cores = 0.0, lambda: 3
decoding._Processes.ready = lambda *_: True
began = decoding._Processes.read
def read(others, *rest):
    print(*[process._process.pid for process in others._processes], flush=True)
    sys.stdin.read(1)  # until it is told to go on
    began(others, *rest)
decoding._Processes.read = read
load_splits(Data(train=sys.argv[1], size=(7, 6), on_bad="skip"))
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGKILL,
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
    ],
)
def test_processes_end_with_the_one_that_started_them(folder: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LOAD, str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "CNNPAR_CACHE": "off"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 3
        os.killpg(parent.pid, number)  # as a terminal's Ctrl-C, to all of its processes
        parent.wait(HANGING)
    deadline = time.monotonic() + HANGING
    while any(map(alive, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_complaints_of_a_codec_are_not_the_users(tmp_path: Path) -> None:
    """libtiff writes to the standard error, of a tag in another type than usual."""
    (tmp_path / "a").mkdir()
    path = tmp_path / "a" / "1.tif"
    Image.new("L", (9, 9)).save(path, compression="tiff_lzw", tiffinfo={0x5000: b"odd"})
    content = path.read_bytes()
    usual, odd = struct.pack("<2H", 278, 4), struct.pack("<2H", 278, 12)  # RowsPerStrip: LONG, DOUBLE
    assert usual in content or struct.pack("<2H", 278, 3) in content
    path.write_bytes(content.replace(usual, odd).replace(struct.pack("<2H", 278, 3), odd))
    code = (
        "import sys; from cnnpar.config.data import Data; from cnnpar.data.load import load_splits\n"
        "try: load_splits(Data(train=sys.argv[1]))\n"
        "except Exception as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "cannot be read as a picture" in done.stdout
    assert done.stderr == ""


def test_processes_import_no_numpy_for_pictures_of_8_bits(folder: Path) -> None:
    code = (
        "import sys; from cnnpar.data.readers.decoder import Order, Reader;"
        "from cnnpar.data.readers.fitting import Look;"
        "print([run.fault for run, _ in Reader(Look()).read(Order(0, 'pixels', [sys.argv[1].encode()]))]);"
        "print([name for name in ('numpy', 'ray') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder / "a" / "000.jpg")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "['']\n[]\n"


def test_runs_of_alike_pictures_come_together(tmp_path: Path) -> None:
    for number in range(6):
        write_picture(tmp_path / f"{number}.png", size=(3 if number < 4 else 5, 2), colour=number)
    (tmp_path / "2.png").write_bytes(b"")
    paths = [os.fsencode(tmp_path / f"{number}.png") for number in [*range(6), 9]]
    read = decoder.Reader(Look()).read(decoder.Order(10, "pixels", paths))
    runs = [(run, bytes(pixels)) for run, pixels in read]
    assert [(run.first, run.count) for run, _ in runs] == [(10, 2), (12, 1), (13, 1), (14, 2), (16, 1)]
    assert runs[0][1] == bytes(6) + bytes([1] * 6)
    assert [len(run.digests) for run, _ in runs] == [64, 32, 32, 64, 0]
    assert [bool(run.fault) for run, _ in runs] == [False, True, False, False, False]
    assert runs[-1][0].refusal == "No such file or directory"
