"""Files damaged anywhere give data or an error of one line; headers that claim terabytes allocate nothing."""

import gzip
import random
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from cnnpar.config.data import Data
from cnnpar.data.load import load_splits
from cnnpar.errors import InputError
from tests.helpers.data_files import CSV_ROW, IDX_IMAGES, IDX_LABELS, X, Y, npy_header, write_picture


def good_files(folder: Path) -> list[Path]:
    """Write a small good file of each format into `folder` and return their paths."""
    (folder / "a.csv").write_text("label,a,b,c,d\n" + CSV_ROW * 3)
    (folder / "b.csv.gz").write_bytes(gzip.compress((CSV_ROW * 3).encode(), mtime=0))
    np.savez_compressed(folder / "c.npz", x=X, y=Y)
    np.savez(folder / "text.npz", x=X / 255, y=np.array(list("abab")))
    for number, packed in enumerate((True, False)):
        savemat(folder / f"{number}.mat", {"X": np.moveaxis(X, 0, -1), "y": Y[:, np.newaxis]}, do_compression=packed)
    savemat(folder / "4.mat", {"x": X[0], "y": Y[:3]}, format="4")
    (folder / "cifar").mkdir(exist_ok=True)
    (folder / "cifar" / "data_batch_1.bin").write_bytes(bytes(3073))
    (folder / "cifar" / "batches.meta.txt").write_text("cat\ndog\n")
    (folder / "images-idx3-ubyte").write_bytes(IDX_IMAGES)
    (folder / "labels-idx1-ubyte").write_bytes(IDX_LABELS)
    write_picture(folder / "classes" / "0" / "1.png")
    write_picture(folder / "classes" / "1" / "1.jpg")
    return sorted(path for path in folder.rglob("*") if path.is_file())


@given(st.integers(0, 10**6))
@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_files_load_or_give_an_error_of_one_line(tmp_path: Path, seed: int) -> None:
    """Bytes are changed, removed or added anywhere."""
    rng = random.Random(seed)
    path = rng.choice(good_files(tmp_path))
    data = bytearray(path.read_bytes())
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(data) + 1)
        data[place : place + rng.choice([0, 1, 1, 9])] = rng.randbytes(rng.choice([0, 1, 1, 2]))
    path.write_bytes(data)
    source = tmp_path / "classes" if "classes" in path.parts else path
    if path.parent.name == "cifar":
        source = path.parent
    if path.name.startswith("labels"):
        source = tmp_path / "images-idx3-ubyte"
    message = ""
    try:
        load_splits(Data(train=str(source), validation=0.0))
    except InputError as error:
        message = str(error)
    assert "\n" not in message
    assert not message or str(tmp_path) in message


def test_absurd_headers_allocate_nothing(tmp_path: Path) -> None:
    """A process limited to 4 GB of memory gives the error of the file and does not run out of memory."""
    (tmp_path / "a-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x803, *[2**31] * 3) + bytes(100))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("x.npy", npy_header((10**5, 1000, 1000)))
        file.writestr("y.npy", npy_header((10**5,)))
    program = (
        "import resource, sys\n"
        "from cnnpar.config.data import Data\n"
        "from cnnpar.data.load import load_splits\n"
        "from cnnpar.errors import InputError\n"
        "resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        load_splits(Data(train=path))\n"
        "    except InputError as error:\n"
        "        print(error)\n"
    )
    paths = [str(tmp_path / "a-images-idx3-ubyte"), str(tmp_path / "a.npz")]
    lines = subprocess.run(
        [sys.executable, "-c", program, *paths], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert "but there are only 100" in lines[0]
    assert "uint8 of shape (100000,) takes 100,128 bytes, but y.npy has 128" in lines[1]
    assert len(lines) == 2
