"""Readers give back what was written; validation holds out its share; test data must agree with training."""

import gzip
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from cnnpar.config.data import Data
from cnnpar.data.dataset import Dataset, Splits
from cnnpar.data.load import load_splits
from cnnpar.errors import InputError
from tests.helpers.data_files import load_test

# Each example writes over the files of the one before.
rewrites = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
grey = hnp.arrays(
    np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 5), st.integers(1, 5)), elements=st.integers(0, 255)
)


def labels_for(images: NDArray[Any]) -> NDArray[np.int64]:
    """Return labels without gaps, 0 to 2 if there are enough images."""
    return np.arange(len(images)) % 3


def write_csv(path: Path, images: NDArray[Any], labels: Iterable[int], separator: str = ",") -> Path:
    rows = [separator.join(map(str, [label, *image.ravel()])) for image, label in zip(images, labels, strict=True)]
    path.write_text("".join(row + "\n" for row in rows))
    return path


def write_idx(path: Path, array: NDArray[Any]) -> Path:
    data = struct.pack(f">I{array.ndim}I", 0x800 + array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def whole(train: Path | str, **others: Any) -> Dataset:
    return load_splits(Data(train=str(train), validation=0.0, **others)).train


def assert_same(found: Dataset, images: NDArray[Any], labels: NDArray[Any]) -> None:
    assert found.images.shape == images.shape
    assert np.array_equal(found.images, images)
    assert np.array_equal(found.labels, labels)
    assert found.class_names == tuple(str(label) for label in range(labels.max() + 1))
    assert found.images.flags.c_contiguous


@given(grey)
@rewrites
def test_csv_is_read_as_it_was_written(tmp_path: Path, images: NDArray[Any]) -> None:
    labels = labels_for(images)
    path = write_csv(tmp_path / "a.csv", images, labels)
    assert_same(whole(path, shape=images.shape[1:]), images[..., np.newaxis], labels)


@given(grey, st.booleans(), st.booleans())
@rewrites
def test_idx_is_read_as_it_was_written(tmp_path: Path, images: NDArray[Any], packed: bool, dotted: bool) -> None:
    names = ("a-images.idx3-ubyte", "a-labels.idx1-ubyte") if dotted else ("images-idx3-ubyte", "labels-idx1-ubyte")
    labels = labels_for(images)
    path = write_idx(tmp_path / (names[0] + (".gz" if packed else "")), images)
    write_idx(tmp_path / names[1], labels)
    assert_same(whole(path), images[..., np.newaxis], labels)


# A last axis above 4 may be one of pixels, behind channels that come first: those are refused.
shapes = hnp.array_shapes(min_dims=3, max_dims=4, max_side=5).filter(lambda shape: len(shape) == 3 or shape[3] <= 4)


@given(hnp.arrays(np.uint8, shapes), st.booleans(), st.booleans())
@rewrites
def test_npz_is_read_as_it_was_written(tmp_path: Path, images: NDArray[Any], fortran: bool, column: bool) -> None:
    labels = labels_for(images)
    x = np.asfortranarray(images) if fortran else images
    np.savez(tmp_path / "a.npz", x=x, y=(labels[:, np.newaxis] if column else labels).astype(np.uint8))
    expected = images if images.ndim == 4 else images[..., np.newaxis]
    assert_same(whole(tmp_path / "a.npz"), expected, labels)


PLAIN = "0,1,2,3,4\n1,5,6,7,255\n"


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
        PLAIN.rstrip(),
        PLAIN + "\n  \n\r\n",
        PLAIN.replace("\n", "\n\n"),
        "\ufeff" + PLAIN,
        PLAIN.replace(",", ", "),
        PLAIN.replace(",", " ,\t"),
        "label,pixel1,pixel2,pixel3,pixel4\n" + PLAIN,
        "label,0,1,2,3\n" + PLAIN,
        '\ufeff"label","a","b","c","d"\r\n\r\n' + PLAIN,
        "# label, pixels\n" + PLAIN,
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "A.CSV"])
def test_variants_of_csv_are_read_alike(tmp_path: Path, name: str, text: str) -> None:
    data = text.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    found = whole(tmp_path / name)
    assert found.images.reshape(2, 4).tolist() == [[1, 2, 3, 4], [5, 6, 7, 255]]
    assert found.image_shape == (2, 2, 1)
    assert found.labels.tolist() == [0, 1]


def test_labels_above_255_are_read(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", np.zeros((300, 1), dtype=np.uint8), range(300))
    assert len(whole(path).class_names) == 300


def test_unpacked_file_with_the_name_of_a_gz_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_text(PLAIN)
    assert len(whole(tmp_path / "a.csv.gz")) == 2


def test_a_colour_csv_takes_its_shape_from_the_settings(tmp_path: Path) -> None:
    images = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)
    path = write_csv(tmp_path / "a.csv", images, [0, 1])
    assert np.array_equal(whole(path, shape=(2, 2, 3)).images, images)


def test_file_format_leaves_the_fingerprint_unchanged(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (30, 4, 4), dtype=np.uint8)
    labels = labels_for(images)
    np.savez(tmp_path / "a.npz", images=images, labels=labels)
    write_idx(tmp_path / "images-idx3-ubyte", images)
    write_idx(tmp_path / "labels-idx1-ubyte", labels)
    write_csv(tmp_path / "a.csv", images, labels)
    sources = [tmp_path / name for name in ("a.npz", "images-idx3-ubyte", "a.csv")]
    assert len({load_splits(Data(train=str(source))).fingerprint for source in sources}) == 1


def test_fingerprint_covers_all_but_the_test_data() -> None:
    images = np.zeros((4, 2, 2, 1), dtype=np.uint8)
    labels = np.array([0, 1, 0, 1])
    one = images.copy()
    one[3, 1, 1, 0] = 1
    train = Dataset(images, labels, ("0", "1"))
    variants = [
        Splits(train, None, None),
        Splits(train, train, None),
        Splits(Dataset(one, labels, ("0", "1")), None, None),
        Splits(Dataset(images, labels[::-1].copy(), ("0", "1")), None, None),
        Splits(Dataset(images, labels, ("0", "2")), None, None),
        Splits(Dataset(images.reshape(4, 4, 1, 1), labels, ("0", "1")), None, None),
    ]
    fingerprints = [variant.fingerprint for variant in variants]
    assert len(set(fingerprints)) == len(variants)
    assert all(fingerprint.startswith("sha256:") and len(fingerprint) == 71 for fingerprint in fingerprints)
    assert Splits(train, None, train).fingerprint == fingerprints[0]  # test data shape no weights


@given(st.integers(2, 60), st.floats(0, 1, exclude_max=True))
@rewrites
def test_validation_holds_out_its_share_and_loses_no_sample(tmp_path: Path, samples: int, share: float) -> None:
    images = np.arange(samples, dtype=np.uint8).reshape(samples, 1, 1)
    np.savez(tmp_path / "a.npz", images=images, labels=np.arange(samples) % 2)
    settings = Data(train=str(tmp_path / "a.npz"), validation=share)
    wanted = max(1, round(share * samples)) if share else 0
    if wanted == samples:
        with pytest.raises(InputError, match="leaves none to train on"):
            load_splits(settings)
        return
    wanted = min(wanted, samples - 2)  # both classes keep one
    if share and not wanted:
        found = load_splits(settings)
        assert found.validation is None
        assert "each class keeps one to train on" in found.notes[0]
        return
    found = load_splits(settings)
    held_out = found.validation.images.ravel().tolist() if found.validation else []
    assert len(held_out) == wanted
    assert sorted(held_out + found.train.images.ravel().tolist()) == list(range(samples))
    again = load_splits(settings)
    assert again.fingerprint == found.fingerprint


def test_npz_with_test_arrays_gives_test_data(tmp_path: Path) -> None:
    path = tmp_path / "mnist.npz"
    images = np.arange(36, dtype=np.uint8).reshape(4, 3, 3)
    np.savez(path, x_train=images, y_train=[0, 1, 2, 1], x_test=images[::-1], y_test=[1, 2, 1, 0])
    test = load_splits(Data(train=str(path))).test
    assert test is not None
    assert test.images[0].ravel().tolist() == images[3].ravel().tolist()
    other = tmp_path / "other.npz"
    np.savez(other, images=images[:1], labels=[2])
    test = load_splits(Data(train=str(path), test=str(other))).test
    assert test is not None
    assert test.labels.tolist() == [2]


def test_test_data_may_lack_classes_of_the_training_data(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", np.zeros((3, 2, 3), dtype=np.uint8), [2, 2, 0])
    found = load_test(path, (2, 3, 1), ("a", "b", "c", "d"))
    assert found.labels.tolist() == [2, 2, 0]
    assert found.class_names == ("a", "b", "c", "d")
    assert found.image_shape == (2, 3, 1)


def test_dataset_refuses_arrays_of_wrong_shape_or_type() -> None:
    images: Any = np.zeros((2, 3, 3, 1), dtype=np.uint8)
    labels: Any = np.zeros(2, dtype=np.int64)
    for wrong in ((images[0], labels), (images.astype(np.int64), labels), (images, labels[:1]), (images, images)):
        with pytest.raises(ValueError, match="must be"):
            Dataset(wrong[0], wrong[1], ("0",))


def test_csv_line_of_column_numbers_is_a_header(tmp_path: Path) -> None:
    rows = [[1, *range(5, 21)], [0, *range(9, 25)]]
    lines = [",".join(map(str, row)) for row in ([*range(17)], *rows)]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    (tmp_path / "b.csv").write_text("\n".join(lines[1:]))
    found = [
        load_splits(Data(name="", train=str(tmp_path / name), validation=0.0)).train for name in ("a.csv", "b.csv")
    ]
    np.testing.assert_array_equal(found[0].images, found[1].images)
    np.testing.assert_array_equal(found[0].labels, found[1].labels)
