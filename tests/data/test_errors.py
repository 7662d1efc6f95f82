"""Bad input: each fault is one line that names the file, the place, and what was expected; never a traceback."""

import gzip
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnpar.config.sections import Data
from cnnpar.data.load import load_splits, load_test_set
from cnnpar.errors import InputError
from tests.helpers.data_files import IMAGES, LABELS, ROW, X, Y, complaint, header_only

BAD_CSV: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "no samples; expected lines of label,pixel"),
    "only blank lines": ("\n \n\r\n", "no samples"),
    "only a header": ("label,a,b,c,d\n", "no samples"),
    "pixel above 255": (ROW + "1,2,256,3,4\n", "line 2, column 3: '256' is no pixel (a whole number, 0 to 255)"),
    "pixel below 0": (ROW + "\n1,-2,6,3,4\n", "line 3, column 2: '-2' is no pixel"),
    "pixel far above 255": (
        "label,a,b,c,d\n0,1,1,1,99999999999999999999\n",
        "line 2, column 5: '99999999999999999999' is",
    ),
    "pixel longer than any": (ROW + "0,1,1,1," + "9" * 5000 + "\n", "line 2, column 5: '99999999999999999999...' is"),
    "float in a pixel": (ROW * 3 + "0,1,0.5,3,4\n", "line 4, column 3: '0.5' is no pixel"),
    "float that is whole": (ROW + "0,1,2.0,3,4\n", "line 2, column 3: '2.0' is no pixel"),
    "text in a pixel": ("0,1,x,3,4\n", "line 1, column 3: 'x' is no pixel"),
    "nothing in a pixel": (ROW + "0,1,,3,4\n", "line 2, column 3: '' is no pixel"),
    "comma at the end": (ROW + "0,1,2,3,4,\n", "line 2, column 6: '' is no pixel"),
    "nan in a pixel": (ROW + "0,1,nan,3,4\n", "line 2, column 3: 'nan' is no pixel"),
    "quote over lines": (ROW + '0,1,"2\n",3,4\n', "line 2, column 3: '\"2' is no pixel"),
    "comment after a row": (ROW + "0,1,2,3,4 # and more\n", "line 2, column 5: '4 # and more' is no pixel"),
    "zero byte": (ROW + "0,1,\0,3,4\n", "line 2, column 3: '\\x00' is no pixel"),
    "digits of another script": (ROW + "0,1,٣,3,4\n", "line 2, column 3: '٣' is no pixel"),
    "text in a label": (ROW + "cat,1,2,3,4\n", "line 2, column 1: 'cat' is no label (a whole number)"),
    "float in a label": (ROW + "1.0,1,2,3,4\n", "line 2, column 1: '1.0' is no label"),
    "nothing in a label": (",1,2,3,4\n", "line 1, column 1: '' is no label"),
    "label of 30 digits": (ROW + "9" * 30 + ",1,2,3,4\n", "line 2, column 1: '99999999999999999999...' is no label"),
    "label below 0": (ROW + "\n-1,1,2,3,4\n", "line 3, column 1: label -1 is below 0"),
    "gap in the labels": (ROW + "1,1,2,3,4\n5,1,2,3,4\n", "label 2 never occurs, but 5 does"),
    "labels from 1": ("1,1,2,3,4\n2,1,2,3,4\n", "label 0 never occurs, but 2 does"),
    "row too short": (ROW * 9 + "0,1,2,3\n", "line 10: 4 columns, but the first row has 5"),
    "row too long": (ROW + "0,1,2,3,4,5\n" + ROW, "line 2: 6 columns, but the first row has 5"),
    "no square": ("0,1,2,3\n", "line 1: 3 pixels are no square image; set data.shape = [height, width]"),
    "semicolons": ("label;a\n0;1;2;3;4\n", "line 2: no comma; expected label,pixel"),
    "bytes that are no text": (b"\xff\xfe0\0,\0001\0\n\0" * 3, "line 2, column 1"),
}


@pytest.mark.parametrize("fault", BAD_CSV)
@pytest.mark.parametrize("packed", [False, True])
def test_a_fault_of_a_csv_file_is_named_with_line_and_column(tmp_path: Path, fault: str, packed: bool) -> None:
    content, words = BAD_CSV[fault]
    data = content if isinstance(content, bytes) else content.encode()
    path = tmp_path / ("bad.csv.gz" if packed else "bad.csv")
    path.write_bytes(gzip.compress(data) if packed else data)
    assert words in complaint(path)


def test_a_csv_row_that_does_not_fit_the_given_shape_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(ROW)
    assert "line 1: 4 pixels after the label; expected 2 x 3 = 6" in complaint(tmp_path / "a.csv", shape=(2, 3))


def test_an_endless_csv_line_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnpar.data.readers.csv_file._LONGEST_LINE", 1000)
    (tmp_path / "a.csv").write_text(ROW + "0" * 5000)
    assert "line 2 is too long to be a sample" in complaint(tmp_path / "a.csv")


BAD_IDX: dict[str, tuple[bytes, bytes | None, str]] = {
    "wrong magic": (b"\x89PNG" + IMAGES[4:], LABELS, "no IDX images: starts with 0x89504e47, expected 0x00000803"),
    "floats": (b"\0\0\x0d\x03" + IMAGES[4:], LABELS, "starts with 0x00000d03"),
    "empty": (b"", LABELS, "no IDX images: starts with 0x00000000"),
    "labels for images": (LABELS, LABELS, "an IDX labels file; give the images file"),
    "images for labels": (IMAGES, IMAGES, "no IDX labels: starts with 0x00000803, expected 0x00000801"),
    "short header": (IMAGES[:9], LABELS, "ends within the IDX header"),
    "short body": (IMAGES[:-1], LABELS, "the header says 2 x 3 x 2 = 12 bytes, but there are only 11"),
    "long body": (IMAGES + b"\0", LABELS, "the header says 2 x 3 x 2 = 12 bytes, but there are more"),
    "no images": (struct.pack(">4I", 0x803, 0, 28, 28), LABELS, "no images: the header says 0 x 28 x 28"),
    "no pixels": (struct.pack(">4I", 0x803, 2, 0, 28), LABELS, "no images: the header says 2 x 0 x 28"),
    "absurd size": (struct.pack(">4I", 0x803, *[2**32 - 1] * 3) + bytes(9), LABELS, "but there are only 9"),
    "fewer labels": (IMAGES, struct.pack(">2I", 0x801, 1) + bytes(1), "1 labels, but a-images-idx3-ubyte has 2"),
    "no labels file": (IMAGES, None, "expected a-labels-idx1-ubyte or a-labels-idx1-ubyte.gz"),
    "gap in the labels": (IMAGES, LABELS[:-1] + b"\x02", "label 1 never occurs, but 2 does"),
    "not gzip after all": (b"\x1f\x8bxxxxxxxx", LABELS, "damaged or truncated gzip file"),
    "truncated gzip": (gzip.compress(IMAGES)[:-9], LABELS, "damaged or truncated gzip file"),
    "gzip with a wrong checksum": (gzip.compress(IMAGES)[:-8] + bytes(8), LABELS, "damaged or truncated gzip file"),
}


@pytest.mark.parametrize("fault", BAD_IDX)
def test_a_fault_of_an_idx_file_is_named(tmp_path: Path, fault: str) -> None:
    images, labels, words = BAD_IDX[fault]
    path = tmp_path / "a-images-idx3-ubyte"
    path.write_bytes(images)
    if labels is not None:
        (tmp_path / "a-labels-idx1-ubyte").write_bytes(labels)
    with pytest.raises(InputError) as caught:
        load_splits(Data(train=str(path)))
    assert words in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "a-"))
    assert "\n" not in str(caught.value)


def test_idx_images_under_an_unusual_name_say_how_to_name_them(tmp_path: Path) -> None:
    (tmp_path / "pictures.idx").write_bytes(IMAGES)
    assert "name them *images-idx3* and *labels-idx1*" in complaint(tmp_path / "pictures.idx")


BAD_NPZ: dict[str, tuple[dict[str, Any], str]] = {
    "no arrays": ({}, "holds nothing; expected x_train and y_train, or"),
    "other names": ({"data": X, "target": Y}, "holds data, target; expected"),
    "no labels": ({"images": X}, "holds images; expected"),
    "objects": ({"images": X, "labels": np.array([0, "a", None, 1], dtype=object)}, "Object arrays cannot be loaded"),
    "float images": ({"images": X / 2, "labels": Y}, "`images` is float64 of shape (4, 3, 3); expected uint8"),
    "flat images": ({"images": X.reshape(4, 9), "labels": Y}, "`images` is uint8 of shape (4, 9); expected"),
    "no images": ({"images": X[:0], "labels": Y[:0]}, "`images` is uint8 of shape (0, 3, 3)"),
    "a number": ({"images": np.uint8(3), "labels": Y}, "`images` is uint8 of shape ()"),
    "fewer labels": ({"x": X, "y": Y[:3]}, "`y` is int64 of shape (3,); expected a whole number for each of 4"),
    "one-hot labels": ({"x": X, "y": np.eye(4, 2, dtype=int)}, "`y` is int64 of shape (4, 2)"),
    "float labels": ({"x": X, "y": Y / 1}, "`y` is float64 of shape (4,)"),
    "text labels": ({"x": X, "y": np.array(list("abab"))}, "`y` is <U1 of shape (4,)"),
    "label below 0": ({"x": X, "y": Y - 1}, "sample 0 (counted from 0): label -1 is below 0"),
    "label above int64": ({"x": X, "y": Y.astype(np.uint64) + 2**63}, "is below 0"),
    "gap in the labels": ({"x": X, "y": Y * 2}, "label 1 never occurs, but 2 does"),
}


@pytest.mark.parametrize("fault", BAD_NPZ)
def test_a_fault_of_an_npz_file_is_named(tmp_path: Path, fault: str) -> None:
    arrays, words = BAD_NPZ[fault]
    np.savez(tmp_path / "a.npz", **arrays)
    assert words in complaint(tmp_path / "a.npz")


@pytest.mark.parametrize("member", [b"", b"text", header_only((10**12, 28, 28)), header_only((10**9, 10**9, 10**9))])
def test_an_npz_whose_members_are_no_whole_arrays_is_an_error(tmp_path: Path, member: bytes) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("images.npy", member)
        file.writestr("labels.npy", member)
    complaint(tmp_path / "a.npz")


@pytest.mark.parametrize("content", [b"", b"PK", b"\x80\x04.", bytes(9)])
def test_what_is_no_npz_at_all_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    assert "cannot be read as an .npz of plain arrays: File is not a zip file" in complaint(tmp_path / "a.npz")


def test_sources_that_are_not_there_or_of_no_known_kind_are_named(tmp_path: Path) -> None:
    assert "no such file or folder" in complaint(tmp_path / "none.csv")
    (tmp_path / "a.parquet").write_text("")
    assert "unknown kind of file; expected .csv, .csv.gz, .npz, IDX images" in complaint(tmp_path / "a.parquet")
    (tmp_path / "a.csv").symlink_to("/proc/self/mem")  # exists, but reading it fails
    assert "cannot be read: " in complaint(tmp_path / "a.csv")


def test_a_shape_that_the_images_do_not_have_is_an_error(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=X, y=Y)
    assert "images are 3 x 3 x 1, but data.shape is 4 x 4" in complaint(tmp_path / "a.npz", shape=(4, 4))


def test_validation_must_leave_something_to_train_on(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(ROW)
    assert "leaves none to train on; set it to 0" in complaint(tmp_path / "a.csv", validation=0.01)


def test_test_data_of_another_shape_or_with_new_labels_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    path.write_text("label,a,b,c,d\n\n" + ROW + "3,1,2,3,4\n")
    for shape, words in (
        ((2, 2, 1), "test.csv: line 4, column 1: label 3 was not in training, which had 0 to 2"),
        ((3, 3, 1), "test.csv: line 3: 4 pixels after the label; expected 3 x 3 x 1 = 9"),
    ):
        with pytest.raises(InputError) as caught:
            load_test_set(str(path), shape, ("0", "1", "2"))
        assert words in str(caught.value)
    np.savez(tmp_path / "test.npz", x=X, y=Y)
    with pytest.raises(InputError, match=r"test\.npz: images are 3 x 3 x 1, but training had 4 x 4 x 1"):
        load_test_set(str(tmp_path / "test.npz"), (4, 4, 1), ("0", "1"))


def test_a_name_that_no_file_can_have_is_an_error_like_others() -> None:
    with pytest.raises(InputError, match="cannot be read: File name too long"):
        load_test_set("x" * 300 + ".csv", (8, 8, 1), ("0", "1"))
