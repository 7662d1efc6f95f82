"""Files of arrays as their writers make them: MedMNIST's .npz, CIFAR's binaries, SVHN's .mat, IDX by all its names."""

import gzip
import pathlib
import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy.io import savemat

from cnnpar.config.data import Data
from cnnpar.data.dataset import Splits
from cnnpar.data.load import load_splits
from cnnpar.errors import InputError
from tests.helpers.costs import read_cheaply
from tests.helpers.data_files import load_error, load_test

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (20, 6, 5), np.uint8)
Y = np.arange(20) % 3
COLOUR = RNG.integers(0, 256, (20, 32, 32, 3), np.uint8)


def splits(path: Path, **others: Any) -> Splits:
    return load_splits(Data(train=str(path), **{"validation": 0.0} | others))


@pytest.fixture(autouse=True)
def without_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNNPAR_CACHE", "off")


MEDMNIST = ("train_images", "train_labels", "val_images", "val_labels", "test_images", "test_labels")
KERAS = ("x_train", "y_train", "x_val", "y_val", "x_test", "y_test")


@pytest.mark.parametrize("names", [MEDMNIST, KERAS, [name.capitalize() for name in KERAS]])
def test_an_npz_has_parts_of_its_own(tmp_path: Path, names: tuple[str, ...]) -> None:
    arrays: list[Any] = [X, Y[:, np.newaxis], X[:6], Y[:6, np.newaxis], X[3:9], Y[3:9, np.newaxis]]
    np.savez(tmp_path / "a.npz", **dict(zip(names, arrays, strict=True)))
    found = splits(tmp_path / "a.npz", validation=0.25)
    assert len(found.train) == 20  # nothing is held out
    assert found.validation is not None
    assert found.test is not None
    for part, images, labels in ((found.train, X, Y), (found.validation, X[:6], Y[:6]), (found.test, X[3:9], Y[3:9])):
        np.testing.assert_array_equal(part.images[..., 0], images)
        assert part.labels.tolist() == labels.tolist()
    assert splits(tmp_path / "a.npz").validation is None


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("x", "y"), "arrays 'x' and 'y'"),
        (("ids", "X", "Y", "x2"), "arrays 'X' and 'Y', not 'ids', 'x2'"),
        (("x", "y", "images", "labels"), "arrays 'images' and 'labels', not 'x', 'y'"),
        (("data", "target"), "arrays 'data' and 'target'"),
        (MEDMNIST, "arrays 'train_images' and 'train_labels'"),
        (("images", "labels", *"abcde"), "arrays 'images' and 'labels', not 'a', 'b', 'c', 'd', ..."),
    ],
)
def test_the_arrays_that_are_taken_and_left_are_said(tmp_path: Path, names: tuple[str, ...], said: str) -> None:
    arrays = {name: Y if name.lower() in ("y", "labels", "target") or name.endswith("_labels") else X for name in names}
    np.savez(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type, unused-ignore]
    assert splits(tmp_path / "a.npz").understood == f"3 classes (0, 1, 2), 6 x 5 grey, {said}"
    savemat(tmp_path / "a.mat", arrays)
    assert splits(tmp_path / "a.mat").understood == f"3 classes (0, 1, 2), 6 x 5 grey, {said}"


@given(
    hnp.arrays(
        st.sampled_from(["u1", "<u2", ">u2", "<f4", ">f4", "<f8", ">f8", "<f2", "i4", "?"]),
        hnp.array_shapes(min_dims=3, max_dims=4, max_side=4),
        elements={"allow_nan": False, "allow_infinity": False, "min_value": 0, "max_value": 1},
    ),
    st.booleans(),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pixels_of_an_npz_are_those_of_the_array(tmp_path: Path, images: NDArray[Any], fortran: bool) -> None:
    labels = np.array([f"class {number % 3}" for number in range(len(images))])
    np.savez(tmp_path / "a.npz", x=np.asfortranarray(images) if fortran else images, y=labels)
    found = splits(tmp_path / "a.npz").train
    np.testing.assert_array_equal(found.images, images.reshape(*images.shape[:3], -1).astype(found.images.dtype))
    assert [found.class_names[label] for label in found.labels] == labels.tolist()
    kinds = {"u1": "uint8", "u2": "uint16", "b1": "uint8", "i4": "uint8"}
    assert found.images.dtype == kinds.get(images.dtype.str[1:], "float32")


def test_the_scale_brings_pixels_of_an_npz_to_bytes(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=X / 255, y=np.array([b"a", b"b"] * 10))
    found = splits(tmp_path / "a.npz", scale=255).train
    np.testing.assert_array_equal(found.images[..., 0], X)
    assert found.images.dtype == np.uint8
    assert found.class_names == ("a", "b")


def write_cifar(file: Path, labels: list[NDArray[Any]], images: NDArray[Any]) -> None:
    pixels = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(np.column_stack([*labels, pixels]).astype(np.uint8).tobytes())


def write_cifar_10(folder: Path) -> Path:
    for number in range(1, 11):  # ten, so that the order is not that of text
        part = slice(2 * number - 2, 2 * number)
        write_cifar(folder / f"data_batch_{number}.bin", [Y[part]], COLOUR[part])
    write_cifar(folder / "test_batch.bin", [Y[:5]], COLOUR[:5])
    return folder


def test_binary_files_of_cifar_10_are_read_in_order(tmp_path: Path) -> None:
    folder = write_cifar_10(tmp_path / "cifar-10-batches-bin")
    found = splits(folder)
    np.testing.assert_array_equal(found.train.images, COLOUR)
    assert found.train.labels.tolist() == Y.tolist()
    assert found.train.class_names == ("0", "1", "2")
    assert "CIFAR-10's binary files" in found.understood
    (folder / "batches.meta.txt").write_text("airplane\nautomobile\nbird\n\n")
    found = splits(folder)
    assert found.train.class_names == ("airplane", "automobile", "bird")
    assert found.test is not None
    np.testing.assert_array_equal(found.test.images, COLOUR[:5])
    one = splits(folder / "data_batch_2.bin", labels="as they are")
    np.testing.assert_array_equal(one.train.images, COLOUR[2:4])
    assert one.test is None
    assert load_test(folder / "test_batch.bin", (32, 32, 3), found.train.class_names).labels.tolist() == Y[:5].tolist()


@pytest.mark.parametrize(("label", "names"), [("", ("apple", "baby", "bear")), ("coarse", ("fish", "flowers"))])
def test_cifar_100_has_fine_and_coarse_classes(tmp_path: Path, label: str, names: tuple[str, ...]) -> None:
    for name in ("train.bin", "test.bin"):
        write_cifar(tmp_path / name, [Y % 2, Y], COLOUR)
    (tmp_path / "fine_label_names.txt").write_text("apple\nbaby\nbear\n")
    (tmp_path / "coarse_label_names.txt").write_text("fish\nflowers\n")
    found = splits(tmp_path, label=label)
    np.testing.assert_array_equal(found.train.images, COLOUR)
    assert found.train.class_names == names
    assert found.train.labels.tolist() == (Y % 2 if label else Y).tolist()
    assert f"CIFAR-100's {label or 'fine'} classes" in found.understood
    assert found.test is not None


def test_faults_of_cifar_files_are_named(tmp_path: Path) -> None:
    folder = write_cifar_10(tmp_path / "cifar")
    (folder / "batches.meta.txt").write_text("cat\ndog\n")
    assert "has label 2, and batches.meta.txt only 2 names" in load_error(folder)
    (folder / "batches.meta.txt").write_text("cat\ncat\ndog\n")
    with pytest.raises(InputError, match=r"batches\.meta\.txt: has a name twice"):
        splits(folder)
    (folder / "batches.meta.txt").unlink()
    (folder / "data_batch_3.bin").write_bytes(bytes(3000))
    with pytest.raises(InputError, match=r"data_batch_3\.bin: 3,000 bytes are no records of CIFAR, of 3,073 bytes"):
        splits(folder)


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "sprung",)

    content = pickle.dumps({"data": Trap()}, protocol=2)
    (tmp_path / "cifar").mkdir()
    (tmp_path / "100").mkdir()
    for name in ("cifar/data_batch_1", "cifar/batches.meta", "100/train", "100/meta", "a.pkl", "a.pickle", "samples"):
        (tmp_path / name).write_bytes(content)
    for name in ("cifar", "cifar/data_batch_1", "100", "100/train"):
        message = load_error(tmp_path / name)
        assert "a pickle, which can run any program, so it is never opened" in message
        assert 'take the "binary version" of CIFAR' in message
    for name in ("a.pkl", "a.pickle", "samples"):
        assert 'np.savez("data.npz", x=images, y=labels)' in load_error(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


def test_lines_that_convert_pickles_of_cifar_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "data_batch_1"
    pixels = COLOUR.transpose(0, 3, 1, 2).reshape(20, -1)
    file.write_bytes(pickle.dumps({b"data": pixels, b"labels": Y.tolist()}))
    _, _, lines = load_error(file).partition("or convert it: ")
    monkeypatch.chdir(tmp_path)
    exec(lines, {"pickle": pickle, "np": np, "pathlib": pathlib, "FILE": file})
    found = splits(tmp_path / "train.npz").train
    np.testing.assert_array_equal(found.images, COLOUR)
    assert found.labels.tolist() == Y.tolist()


@pytest.mark.parametrize("packed", [True, False])
def test_svhn_counts_the_digit_0_as_10(tmp_path: Path, packed: bool) -> None:
    digits = np.arange(20) % 10
    labels = np.where(digits == 0, 10, digits).astype(np.uint8)[:, np.newaxis]
    path = tmp_path / "train_32x32.mat"
    savemat(path, {"X": np.moveaxis(COLOUR, 0, -1), "y": labels}, do_compression=packed)
    found = splits(path)
    np.testing.assert_array_equal(found.train.images, COLOUR)
    assert found.train.images.flags.c_contiguous
    assert found.train.labels.tolist() == digits.tolist()
    assert found.train.class_names == tuple("0123456789")
    assert "label 10 is the digit 0, as in SVHN" in found.understood
    test = tmp_path / "test_32x32.mat"
    savemat(test, {"X": np.moveaxis(COLOUR[1:4], 0, -1), "y": labels[1:4]})
    assert load_test(test, (32, 32, 3), found.train.class_names).labels.tolist() == [1, 2, 3]


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32", "float64", "int16", "bool"])
@pytest.mark.parametrize("last", [True, False])
def test_arrays_of_mat_files_keep_their_numbers(tmp_path: Path, kind: str, last: bool) -> None:
    images = X.astype(kind)
    arrays = {"images": np.moveaxis(images, 0, -1) if last else images, "labels": Y / 1.0}
    savemat(tmp_path / "a.mat", arrays)
    found = splits(tmp_path / "a.mat").train
    np.testing.assert_array_equal(found.images[..., 0], images)
    assert found.labels.tolist() == Y.tolist()


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"a": X}, "holds a; expected x_train and y_train, or"),
        ({}, "holds nothing; expected"),
        ({"x": X, "y": Y[:-1]}, "`x` is of 20 x 6 x 5, and there are 19 labels; expected as many images, on the first"),
        ({"x": X, "y": np.eye(20)}, "`y`: labels are of shape (20, 20); expected one for each image; one-hot rows"),
        ({"x": X, "y": Y + 0.5}, "`y`: sample 0 (counted from 0): 0.5 is no label"),
        ({"x": X, "y": Y.astype(np.uint64) + 2**63}, "`y`: sample 2 (counted from 0): label 9223372036854775810 is be"),
        ({"x": X, "y": Y + 1}, "label 0 never occurs"),
        ({"x": X, "y": np.array([{}] * 20)}, "`y` is a cell array of 1 x 20; expected a plain array of numbers"),
        ({"x": {"images": X}, "y": Y}, "`x` is a struct of 1 x 1; expected a plain array"),
        ({"x": X, "y": np.array(["a", "b"] * 10)}, "`y` is a text of 20 x 1; expected a plain array"),
        ({"x": X + 1j, "y": Y}, "`x` is a complex array of 20 x 6 x 5; expected a plain"),
        ({"x": np.zeros((20, 3, 9, 9)), "y": Y}, "the channels come first"),
    ],
)  # fmt: skip
def test_fault_of_a_mat_file_is_named(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    savemat(tmp_path / "a.mat", arrays)
    assert words in load_error(tmp_path / "a.mat")


def test_matlab_7_3_is_refused_by_name(tmp_path: Path) -> None:
    head = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + struct.pack("<H2s", 0x0200, b"IM")
    (tmp_path / "a.mat").write_bytes(head.ljust(512, b"\0") + b"\x89HDF\r\n\x1a\n" + bytes(100))
    assert "of MATLAB 7.3 (HDF5), which is not read; save it by save(FILE, '-v7')" in load_error(tmp_path / "a.mat")
    for content in (b"", b"text", bytes(200), head[10:100]):
        (tmp_path / "a.mat").write_bytes(content)
        assert "no .mat file of versions 5 to 7; save it by save(FILE, '-v7')" in load_error(tmp_path / "a.mat")
    savemat(tmp_path / "a.mat", {"x": X[0], "y": Y}, format="4")
    assert "no .mat file of versions 5 to 7" in load_error(tmp_path / "a.mat")


@pytest.mark.slow
def test_mat_file_unpacks_no_further_than_it_says(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    savemat(path, {"x": np.zeros((2, 100, 150), np.uint8), "y": np.arange(2)}, do_compression=True)
    data = path.read_bytes()
    size = int.from_bytes(data[132:136], "little")
    array = zlib.decompress(data[136 : 136 + size])
    shape, length = struct.pack("<3i", 2, 100, 150), struct.pack("<2I", 2, 30_000)
    assert shape in array
    assert length in array

    def rewrite(changed: bytes) -> str:
        packer = zlib.compressobj(1)
        packed = packer.compress(changed) + packer.compress(bytes(150_000_000)) + packer.flush()
        path.write_bytes(data[:132] + struct.pack("<I", len(packed)) + packed + data[136 + size :])
        return read_cheaply(path, validation=0.0)

    assert rewrite(array) == ""  # what is behind it is not unpacked
    longer = array.replace(length, struct.pack("<2I", 2, 150_000_000))
    assert "`x` is of 2 x 100 x 150, and holds 150,000,000 bytes of uint8" in rewrite(longer)
    absurd = array.replace(shape, struct.pack("<3i", 2, 50_000, 40_000)).replace(
        length, struct.pack("<2I", 2, 4_000_000_000)
    )
    assert "bytes cannot be unpacked to 4,000,000,000" in rewrite(absurd)


def write_idx(path: Path, array: NDArray[Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    kind = 0x0C if array.dtype == ">i4" else 0x08
    data = struct.pack(f">I{array.ndim}I", (kind << 8) + array.ndim, *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


NAMES = [
    ("emnist-letters-train-images-idx3-ubyte.gz", "emnist-letters-train-labels-idx1-ubyte.gz"),
    ("train-images.idx3-ubyte", "train-labels.idx1-ubyte"),
    ("train-images.idx3-ubyte", "train-labels-idx1-ubyte"),
    ("train-images-idx3-ubyte", "train-labels.idx1-ubyte.gz"),
    ("train-images-idx3-ubyte/train-images-idx3-ubyte", "train-labels-idx1-ubyte/train-labels-idx1-ubyte"),
    ("train-images.idx3-ubyte/train-images.idx3-ubyte", "train-labels.idx1-ubyte/train-labels.idx1-ubyte"),
    ("train-images-idx3-ubyte/train-images.idx3-ubyte", "train-labels-idx1-ubyte/train-labels.idx1-ubyte"),
    ("qmnist-train-images-idx3-ubyte.gz", "qmnist-train-labels-idx2-int.gz"),
]


@pytest.mark.parametrize(("images", "labels"), NAMES)
def test_idx_labels_are_found_by_all_usual_names(tmp_path: Path, images: str, labels: str) -> None:
    write_idx(tmp_path / images, X)
    columns = np.column_stack([Y, *[Y + 7] * 7]).astype(">i4")
    write_idx(tmp_path / labels, columns if "idx2" in labels else Y.astype(np.uint8))
    for path in {tmp_path / images, tmp_path / images.partition("/")[0]}:
        found = splits(path).train
        np.testing.assert_array_equal(found.images[..., 0], X)
        assert found.labels.tolist() == Y.tolist()


@pytest.mark.parametrize("count", [1, 3, 4])
def test_few_grey_images_are_no_channels(tmp_path: Path, count: int) -> None:
    images, labels = np.zeros((count, 8, 8), np.uint8), np.arange(count, dtype=np.uint8)
    write_idx(tmp_path / "images-idx3-ubyte", images)
    write_idx(tmp_path / "labels-idx1-ubyte", labels)
    np.savez(tmp_path / "a.npz", x=images, y=labels)
    savemat(tmp_path / "a.mat", {"x": images, "y": labels})
    for name in ("images-idx3-ubyte", "a.npz", "a.mat"):
        assert splits(tmp_path / name).train.image_shape == (8, 8, 1)


def test_idx_of_four_dimensions_has_channels(tmp_path: Path) -> None:
    write_idx(tmp_path / "images-idx4-ubyte", COLOUR)
    write_idx(tmp_path / "labels-idx1-ubyte", Y.astype(np.uint8))
    np.testing.assert_array_equal(splits(tmp_path / "images-idx4-ubyte").train.images, COLOUR)
    write_idx(tmp_path / "images-idx4-ubyte", COLOUR.transpose(0, 3, 1, 2).copy())
    assert "images are 20 x 3 x 32 x 32; the channels come first" in load_error(tmp_path / "images-idx4-ubyte")


def test_idx_labels_from_1_are_taken_as_they_are(tmp_path: Path) -> None:
    write_idx(tmp_path / "emnist-letters-train-images-idx3-ubyte", X)
    write_idx(tmp_path / "emnist-letters-train-labels-idx1-ubyte", (Y + 1).astype(np.uint8))
    path = tmp_path / "emnist-letters-train-images-idx3-ubyte"
    assert 'data.labels = "as they are" takes the numbers that occur as classes' in load_error(path)
    assert splits(path, labels="as they are").train.class_names == ("1", "2", "3")


def test_a_folder_of_class_folders_may_be_named_idx(tmp_path: Path) -> None:
    from tests.helpers.data_files import write_picture

    for name in ("a", "b"):
        write_picture(tmp_path / "idx-pictures" / name / "1.png")
    assert splits(tmp_path / "idx-pictures").train.class_names == ("a", "b")


@pytest.mark.parametrize("order", "<>")
def test_characters_that_there_are_not_are_refused(tmp_path: Path, order: Any) -> None:
    labels = np.array(["ab", "cd"] * 2, f"{order}U2")
    labels.view(np.dtype(np.uint32).newbyteorder(order))[3] = 0x110000
    np.savez(tmp_path / "a.npz", x=np.zeros((4, 2, 2), np.uint8), y=labels)
    assert "has characters that there are not" in load_error(tmp_path / "a.npz")
