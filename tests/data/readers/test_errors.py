"""Bad data files: each fault gives an error of one line that names the file, the place, and what was expected."""

import gzip
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnpar.config.data import Data
from cnnpar.data.dataset import PixelType, Traits
from cnnpar.data.load import load_splits, load_test_set
from cnnpar.errors import InputError
from tests.helpers.data_files import CSV_ROW, IDX_IMAGES, IDX_LABELS, X, Y, load_error, load_test, npy_header

BAD_CSV: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "no samples; expected lines of label,pixel"),
    "only blank lines": ("\n \n\r\n", "no samples"),
    "only a header": ("label,a,b,c,d\n", "no samples"),
    "pixel far above 255": (
        "label,a,b,c,d\n0,1,1,1,99999999999999999999\n",
        "line 2, column 5: '99999999999999999999' is",
    ),
    "pixel longer than any": (
        CSV_ROW + "0,1,1,1," + "9" * 5000 + "\n",
        "line 2, column 5: '99999999999999999999...' is",
    ),
    "text in a pixel": ("0,1,x,3,4\n", "line 1, column 3: 'x' is no pixel"),
    "nothing in a pixel": (CSV_ROW + "0,1,,3,4\n", "line 2, column 3: '' is no pixel"),
    "comma at the end": (CSV_ROW + "0,1,2,3,4,\n", "line 2, column 6: '' is no pixel"),
    "nan in a pixel": (CSV_ROW + "0,1,nan,3,4\n", "line 2, column 3: 'nan' is no pixel"),
    "quote over lines": (CSV_ROW + '0,1,"2\n",3,4\n', "line 2, column 3: '\"2' is no pixel"),
    "comment after a row": (CSV_ROW + "0,1,2,3,4 # and more\n", "line 2, column 5: '4 # and more' is no pixel"),
    "zero byte": (CSV_ROW + "0,1,\0,3,4\n", "line 2, column 3: '\\x00' is no pixel"),
    "digits of another script": (CSV_ROW + "0,1,٣,3,4\n", "line 2, column 3: '٣' is no pixel"),
    "text in a label": (CSV_ROW + "cat,1,2,3,4\n", "line 2, column 1: 'cat' is no label (a whole number)"),
    "float in a label": (CSV_ROW + "1.5,1,2,3,4\n", "line 2, column 1: '1.5' is no label (a whole number)"),
    "infinite pixel": (CSV_ROW + "0,1,2,-inf,4\n", "line 2, column 4: '-inf' is no pixel (a number, up to 1e+09)"),
    "huge pixel": (CSV_ROW + "\n0,1,0.5,2e9,4\n", "line 3, column 4: '2e9' is no pixel (a number, up to 1e+09)"),
    "inexact pixel": (CSV_ROW + "0,1,16777217,3,4\n", "line 2: whole numbers beyond 16,777,216 are not exact"),
    "separator beside a pixel": (CSV_ROW + "0,\x1e2,x,3,4\n", "line 2, column 3: 'x' is no pixel"),
    "nothing in a label": (",1,2,3,4\n", "line 1, column 1: '' is no label"),
    "label of 30 digits": (
        CSV_ROW + "9" * 30 + ",1,2,3,4\n",
        "line 2, column 1: '99999999999999999999...' is no label",
    ),
    "label below 0": (CSV_ROW + "\n-1,1,2,3,4\n", "line 3, column 1: label -1 is below 0"),
    "gap in the labels": (CSV_ROW + "1,1,2,3,4\n5,1,2,3,4\n", "label 2 never occurs, but 5 does"),
    "labels from 1": ("1,1,2,3,4\n2,1,2,3,4\n", "label 0 never occurs, but 2 does"),
    "row too short": (CSV_ROW * 9 + "0,1,2,3\n", "line 10: 4 columns, but the first row has 5"),
    "row too long": (CSV_ROW + "0,1,2,3,4,5\n" + CSV_ROW, "line 2: 6 columns, but the first row has 5"),
    "no square": ("0,1,2,3\n", "line 1: 3 pixels are no square image; set data.shape = [height, width]"),
    "one column": ("label\n0\n", "line 2: no comma; expected label,pixel"),
    "short header": ("label;a\n0;1;2;3;4\n", "line 2: 5 columns, but the header has 2"),
    "decimal comma": (
        "0;0,5;0,25;1;0\n1;1;0;0;0\n",
        "line 1, column 2: '0,5' has a decimal comma; write decimals with",
    ),
    "bytes that are no text": (b"\xff\xfe0\0,\0001\0\n\0" * 3, "line 2, column 1"),
}


@pytest.mark.parametrize("fault", BAD_CSV)
@pytest.mark.parametrize("packed", [False, True])
def test_fault_of_a_csv_file_is_named_with_its_line(tmp_path: Path, fault: str, packed: bool) -> None:
    content, words = BAD_CSV[fault]
    data = content if isinstance(content, bytes) else content.encode()
    path = tmp_path / ("bad.csv.gz" if packed else "bad.csv")
    path.write_bytes(gzip.compress(data) if packed else data)
    assert words in load_error(path)


def test_csv_row_that_does_not_fit_the_shape_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(CSV_ROW)
    assert "line 1: 4 pixels after the label; expected 2 x 3 = 6" in load_error(tmp_path / "a.csv", shape=(2, 3))


def test_csv_line_that_is_too_long_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnpar.data.readers.csv_lines._LONGEST_LINE", 1000)
    (tmp_path / "a.csv").write_text(CSV_ROW + "0" * 5000)
    assert "line 2 is too long to be a sample" in load_error(tmp_path / "a.csv")


BAD_IDX: dict[str, tuple[bytes, bytes | None, str]] = {
    "wrong magic": (
        b"\x89PNG" + IDX_IMAGES[4:],
        IDX_LABELS,
        "no IDX images: starts with 0x89504e47, expected 0x00000803",
    ),
    "floats": (b"\0\0\x0d\x03" + IDX_IMAGES[4:], IDX_LABELS, "starts with 0x00000d03"),
    "empty": (b"", IDX_LABELS, "no IDX images: starts with 0x00000000"),
    "labels for images": (IDX_LABELS, IDX_LABELS, "an IDX labels file; give the images file"),
    "images for labels": (IDX_IMAGES, IDX_IMAGES, "no IDX labels: starts with 0x00000803, expected 0x00000801"),
    "short header": (IDX_IMAGES[:9], IDX_LABELS, "ends within the IDX header"),
    "short body": (IDX_IMAGES[:-1], IDX_LABELS, "the header says 2 x 3 x 2 = 12 bytes, but there are only 11"),
    "long body": (IDX_IMAGES + b"\0", IDX_LABELS, "the header says 2 x 3 x 2 = 12 bytes, but there are more"),
    "no images": (struct.pack(">4I", 0x803, 0, 28, 28), IDX_LABELS, "no images: the header says 0 x 28 x 28"),
    "no pixels": (struct.pack(">4I", 0x803, 2, 0, 28), IDX_LABELS, "no images: the header says 2 x 0 x 28"),
    "absurd size": (struct.pack(">4I", 0x803, *[2**32 - 1] * 3) + bytes(9), IDX_LABELS, "but there are only 9"),
    "fewer labels": (IDX_IMAGES, struct.pack(">2I", 0x801, 1) + bytes(1), "1 labels, but a-images-idx3-ubyte has 2"),
    "no labels file": (IDX_IMAGES, None, "expected a-labels-idx1-ubyte or a-labels-idx1-ubyte.gz"),
    "gap in the labels": (IDX_IMAGES, IDX_LABELS[:-1] + b"\x02", "label 1 never occurs, but 2 does"),
    "not gzip after all": (b"\x1f\x8bxxxxxxxx", IDX_LABELS, "damaged or truncated gzip file"),
    "truncated gzip": (gzip.compress(IDX_IMAGES)[:-9], IDX_LABELS, "damaged or truncated gzip file"),
    "gzip with a wrong checksum": (
        gzip.compress(IDX_IMAGES)[:-8] + bytes(8),
        IDX_LABELS,
        "damaged or truncated gzip file",
    ),
}


@pytest.mark.parametrize("fault", BAD_IDX)
def test_fault_of_an_idx_file_is_named(tmp_path: Path, fault: str) -> None:
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


def test_error_of_an_unusual_idx_name_gives_the_usual_names(tmp_path: Path) -> None:
    (tmp_path / "pictures.idx").write_bytes(IDX_IMAGES)
    assert "name them *images-idx3* and *labels-idx1*" in load_error(tmp_path / "pictures.idx")


BAD_NPZ: dict[str, tuple[dict[str, Any], str]] = {
    "no arrays": ({}, "holds nothing; expected x_train and y_train, or"),
    "other names": ({"pictures": X, "kinds": Y}, "holds pictures, kinds; expected"),
    "whole floats": ({"x": X, "y": Y.astype(float)}, "or a name; y.astype(int) makes whole numbers of 1.0, 2.0"),
    "no labels": ({"images": X}, "holds images; expected"),
    "objects": (
        {"images": X, "labels": np.array([0, "a", None, 1], dtype=object)},
        "Object arrays cannot be loaded, as they are pickles; save plain ones: np.savez",
    ),
    "float images that are not finite": (
        {"images": X / 2 + np.inf, "labels": Y},
        "`images`: sample 0 (counted from 0) has a pixel of inf",
    ),
    "complex images": ({"images": X + 0j, "labels": Y}, "`images` is complex128 of shape (4, 3, 3); expected uint8"),
    "channels first": (
        {"images": np.zeros((4, 3, 9, 9), np.uint8), "labels": Y},
        "`images` is uint8 of shape (4, 3, 9, 9); the channels come first, and images.transpose(0, 2, 3, 1) puts them",
    ),
    "square rows": (
        {"x": np.zeros((4, 784), np.uint8), "y": Y},
        "images.reshape(-1, 28, 28) makes images of such rows",
    ),
    "flat images": ({"images": X.reshape(4, 9), "labels": Y}, "`images` is uint8 of shape (4, 9); expected"),
    "no images": ({"images": X[:0], "labels": Y[:0]}, "`images` is uint8 of shape (0, 3, 3)"),
    "a number": ({"images": np.uint8(3), "labels": Y}, "`images` is uint8 of shape ()"),
    "fewer labels": ({"x": X, "y": Y[:3]}, "a.npz: 3 labels in `y`, but 4 images in `x`"),
    "one-hot labels": ({"x": X, "y": np.eye(4, 2, dtype=int)}, "`y` is int64 of shape (4, 2)"),
    "one-hot labels of floats": ({"x": X, "y": np.eye(4, 2)}, "; one-hot rows become labels by y.argmax(axis=1)"),
    "label above int64": (
        {"x": X, "y": Y.astype(np.uint64) + 2**63},
        "`y`: sample 1 (counted from 0): label 9223372036854775809 is beyond 2^63 - 1; np.unique(y, return_inverse",
    ),
    "float labels": ({"x": X, "y": Y / 1}, "`y` is float64 of shape (4,)"),
    "empty text labels": ({"x": X, "y": np.array(["a", "b", "", "b"])}, "`y`: sample 2 (counted from 0): '' is no"),
    "label below 0": ({"x": X, "y": Y - 1}, "sample 0 (counted from 0): label -1 is below 0"),
    "gap in the labels": ({"x": X, "y": Y * 2}, "label 1 never occurs, but 2 does"),
}


@pytest.mark.parametrize("fault", BAD_NPZ)
def test_fault_of_an_npz_file_is_named(tmp_path: Path, fault: str) -> None:
    arrays, words = BAD_NPZ[fault]
    np.savez(tmp_path / "a.npz", **arrays)
    assert words in load_error(tmp_path / "a.npz")


@pytest.mark.parametrize("member", [b"", b"text", npy_header((10**12, 28, 28)), npy_header((10**9, 10**9, 10**9))])
def test_npz_with_damaged_members_gives_an_error_of_one_line(tmp_path: Path, member: bytes) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("images.npy", member)
        file.writestr("labels.npy", member)
    load_error(tmp_path / "a.npz")


@pytest.mark.parametrize("content", [b"", b"PK", b"\x80\x04.", bytes(9)])
def test_file_that_is_no_zip_archive_is_refused_as_npz(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    assert "cannot be read as an .npz of plain arrays: File is not a zip file" in load_error(tmp_path / "a.npz")


def test_missing_unknown_and_unreadable_sources_are_named(tmp_path: Path) -> None:
    assert "no such file or folder" in load_error(tmp_path / "none.csv")
    (tmp_path / "a.parquet").write_text("")
    assert "unknown kind of file; expected .csv, .tsv or .txt (also .gz, .zip, .bz2, .xz), .npz, IDX" in load_error(
        tmp_path / "a.parquet"
    )
    (tmp_path / "a.csv").symlink_to("/proc/self/mem")  # exists, but reading it fails
    assert "cannot be read: " in load_error(tmp_path / "a.csv")


def test_data_shape_other_than_that_of_the_images_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=X, y=Y)
    assert "images are 3 x 3 x 1, but data.shape is 4 x 4" in load_error(tmp_path / "a.npz", shape=(4, 4))


def test_validation_share_must_leave_training_data(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(CSV_ROW)
    assert "leaves none to train on; set it to 0" in load_error(tmp_path / "a.csv", validation=0.01)


def test_test_data_of_another_shape_or_label_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    path.write_text("label,a,b,c,d\n\n" + CSV_ROW + "3,1,2,3,4\n")
    for shape, words in (
        ((2, 2, 1), "test.csv: line 4, column 1: label 3 was not in training, which had 0 to 2"),
        ((3, 3, 1), "test.csv: line 3: 4 pixels after the label; expected 3 x 3 x 1 = 9"),
    ):
        with pytest.raises(InputError) as caught:
            load_test(path, shape, ("0", "1", "2"))
        assert words in str(caught.value)
    np.savez(tmp_path / "test.npz", x=X, y=Y)
    with pytest.raises(InputError, match=r"test\.npz: images are 3 x 3 x 1, but training had 4 x 4 x 1"):
        load_test(tmp_path / "test.npz", (4, 4, 1), ("0", "1"))


@pytest.mark.parametrize(
    ("highest", "kind", "wanted", "what"),
    [
        (1, "f4", "uint8", "these go from 0 to 1; write them as the training's were, such as pixels * 255 rounded"),
        (127.5, "f4", "uint8", "these go from 0 to 127.5; write them as the training's were, such as pixels rounded"),
        (-1, "f4", "uint8", "these go from -1 to 0; write them as the training's were"),
        (255, "u1", "float32", "from 0 to 255; write them as the training's were, such as pixels / 255, if its went"),
        (65535, "u2", "uint8", "these go from 0 to 65535; write them as the training's were, such as pixels / 257 r"),
    ],
)
def test_pixels_of_another_type_name_the_way_to_trainings(
    tmp_path: Path, highest: float, kind: str, wanted: PixelType, what: str
) -> None:
    np.savez(tmp_path / "test.npz", x=np.linspace(0, highest, 36).astype(kind).reshape(4, 3, 3), y=Y)
    with pytest.raises(InputError) as caught:
        load_test_set(str(tmp_path / "test.npz"), Data(), Traits((3, 3, 1), wanted, ("0", "1")))
    assert what in str(caught.value)
    assert "data.scale" not in str(caught.value)


def test_file_name_that_is_too_long_gives_an_error() -> None:
    with pytest.raises(InputError, match="cannot be read: File name too long"):
        load_test("x" * 300 + ".csv", (8, 8, 1), ("0", "1"))
