"""Data files of equal sizes, read with and without the cache of decoded data."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from cnnpar.config.data import Data
from cnnpar.data.dataset import Splits
from cnnpar.data.load import load_splits


def write_fixed_size_csv(path: Path, seed: int, rows: int = 30) -> Path:
    """Write rows of a label and nine pixels of three digits each; all seeds give files of one size."""
    rng = np.random.default_rng(seed)
    table = np.column_stack([np.arange(rows) % 3, rng.integers(100, 256, (rows, 9))])
    text = "".join(",".join(map(str, row)) + "\n" for row in table.tolist())
    path.write_bytes(gzip.compress(text.encode(), mtime=0) if path.suffix == ".gz" else text.encode())
    return path


def write_class_folders(path: Path, seed: int) -> Path:
    """Write two class folders of two uncompressed pictures each; all seeds give files of one size."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    for name in ("a/1", "a/2", "b/1", "b/2"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (3, 5), dtype=np.uint8)).save(path / f"{name}.png", compress_level=0)
    return path


def read(path: Path) -> Splits:
    """Read a source of training data, through the cache if there is one."""
    return load_splits(Data(train=str(path)))


def read_without_cache(path: Path) -> Splits:
    """Read a source of training data with the cache off."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CNNPAR_CACHE", "off")
        return read(path)


def files_in(folder: Path) -> list[Path]:
    """Return the sorted contents of a folder, such as a cache's entries; none if it does not exist."""
    return sorted(folder.iterdir()) if folder.exists() else []


def assert_same_data(found: Splits, expected: Splits) -> None:
    """Assert equal fingerprints, and contiguous images that may be written to."""
    assert found.fingerprint == expected.fingerprint
    assert found.train.images.flags.c_contiguous
    assert found.train.images.flags.writeable
