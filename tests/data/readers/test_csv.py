"""CSV as its writers make it, Kaggle, OpenML, pandas, numpy, spreadsheets: the right values, or refused."""

import csv
import io
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cnnpar.config.data import Data
from cnnpar.data.dataset import Splits
from cnnpar.data.load import load_splits
from cnnpar.data.readers import csv_file
from tests.helpers.data_files import load_error, load_test

N, SIDE = 12, 5
IMAGES = np.random.default_rng(0).integers(0, 256, (N, SIDE * SIDE))
LABELS = np.arange(N) % 3
PIXELS = [f"pixel{number}" for number in range(SIDE * SIDE)]
ANIMALS = np.array(["dog", "cat", "a bird, small"])[LABELS]


def written(folder: Path, header: list[str], *columns: Any, name: str = "a.csv", **dialect: Any) -> Path:
    """Write columns (N,) or (N, P) side by side with Python's `csv`, below a header unless it is empty."""
    stream = io.StringIO()
    writer = csv.writer(stream, **dialect)
    wide = [np.asarray(column).reshape(N, -1).tolist() for column in columns]
    writer.writerows([header] * bool(header))
    writer.writerows(chain(*row) for row in zip(*wide, strict=True))
    (folder / name).write_text(stream.getvalue(), encoding="utf-8", newline="")
    return folder / name


def splits(path: Path, **settings: Any) -> Splits:
    return load_splits(Data(train=str(path), **{"validation": 0.0} | settings))


def assert_read(path: Path, understood: str, images: NDArray[Any] = IMAGES, **settings: Any) -> None:
    """Assert that images and labels are read, and what is said of the columns."""
    found = splits(path, **settings)
    assert found.understood.endswith(f", {understood}")
    np.testing.assert_array_equal(found.train.images.reshape(N, -1), images)
    assert found.train.images.dtype == (images.dtype if images.dtype == np.float32 else np.uint8)
    assert found.train.labels.tolist() == LABELS.tolist()
    assert found.train.class_names == ("0", "1", "2")


def test_label_is_found_by_the_usual_names(tmp_path: Path) -> None:
    for name in ("label", "Class", "TARGET", "y", "digit", "species", "emotion"):
        path = written(tmp_path, [*PIXELS, name], IMAGES, LABELS)
        assert_read(path, f"label in column 26 '{name}'")
    path = written(tmp_path, ["class", *PIXELS], LABELS, IMAGES)
    assert_read(path, "label in column 1 'class'")
    path = written(tmp_path, [*PIXELS[:7], "y", *PIXELS[7:]], IMAGES[:, :7], LABELS, IMAGES[:, 7:])
    assert_read(path, "label in column 8 'y'")
    path = written(tmp_path, [*PIXELS, "kind of thing"], IMAGES, LABELS)
    assert_read(path, "label in column 26 'kind of thing'")


def test_label_column_is_taken_as_the_settings_say(tmp_path: Path) -> None:
    path = written(tmp_path, [], IMAGES, LABELS)
    assert_read(path, "label in column 26", label="last")
    path = written(tmp_path, [], LABELS, IMAGES)
    assert_read(path, "label in column 1", label="first")
    assert_read(path, "label in column 1")
    path = written(tmp_path, ["Kind", "label", *PIXELS], LABELS, LABELS[::-1], IMAGES)
    for name in ("Kind", "kind"):
        assert_read(path, "label in column 1 'Kind', column 2 'label' left out", label=name)
    assert "data.label is 'sort', which is the name of no column; the names are 'Kind', 'label'" in load_error(
        path, label="sort"
    )
    path = written(tmp_path, [], LABELS, IMAGES)
    assert "data.label is 'sort', but there is no header" in load_error(path, label="sort")


def test_two_usual_names_are_asked_about(tmp_path: Path) -> None:
    path = written(tmp_path, ["class", "label", *PIXELS], LABELS, LABELS, IMAGES)
    assert "which column is the label, 'class', 'label'? data.label = NAME says it" in load_error(path)


def test_pixel_columns_are_never_taken_for_labels(tmp_path: Path) -> None:
    dark = IMAGES.copy()
    dark[:, 0] = 0
    for images, why in ((dark, "has one value"), (IMAGES, "does less"), (IMAGES > 160, "does less")):
        message = load_error(written(tmp_path, [], images.astype(int), LABELS))
        assert f"the last column looks like labels, of 3 classes, and the first {why}; data.label = " in message
    message = load_error(written(tmp_path, [], IMAGES / 255, LABELS))
    assert "column 1: " in message
    assert 'is no label (a whole number); data.label says which column has it: "last"' in message
    rare = np.zeros((100, 26), np.int64)
    rare[:, 25], rare[:2, 0] = np.arange(100) % 10, 1
    np.savetxt(tmp_path / "b.csv", rare, "%d", ",")
    assert "the last column looks like labels, of 10 classes, and the first does less" in load_error(tmp_path / "b.csv")
    many = np.stack([np.arange(512) % 256, *[np.full(512, 7)] * 24, np.arange(512) % 10], axis=1)
    np.savetxt(tmp_path / "c.csv", many, "%d", ",")
    assert "the last column looks like labels, of 10 classes, and the first does less" in load_error(tmp_path / "c.csv")
    assert splits(tmp_path / "c.csv", label="first").train.labels.max() == 255


def test_labels_in_front_of_few_grey_levels_are_not_refused(tmp_path: Path) -> None:
    grey = np.zeros((300, 26), np.int64)
    grey[:, 0], grey[:40, 25] = np.arange(300) % 10, np.arange(40) % 17  # scikit-learn's digits have 0 to 16
    for pixels in (grey[:, 25], grey[:, 25] > 3):
        grey[:, 25] = pixels
        np.savetxt(tmp_path / "a.csv", grey, "%d", ",")
        assert splits(tmp_path / "a.csv").train.labels.tolist() == grey[:, 0].tolist()


def test_index_columns_are_left_out(tmp_path: Path) -> None:
    files = [f"img_{number}.png" for number in range(N)]
    for name, values in (("", range(N)), ("Unnamed: 0", range(N)), ("id", range(7, 7 + N)), ("image_id", files)):
        path = written(tmp_path, [name, "label", *PIXELS], list(values), LABELS, IMAGES)
        title = f"column 1 '{name}'" if name else "column 1"
        assert_read(path, f"label in column 2 'label', {title} left out")
    path = written(tmp_path, ["label", *PIXELS, "filename"], LABELS, IMAGES, files)
    assert_read(path, "label in column 1 'label', column 27 'filename' left out")
    shuffled = [7 * number % N + 480 for number in range(N)]
    first_columns: list[list[Any]] = [[*range(N)], [*range(1, N + 1)], files, [*range(8001, 8001 + N)], shuffled]
    for values in first_columns:
        path = written(tmp_path, [], values, LABELS, IMAGES)
        assert_read(path, "label in column 2, column 1 left out")
    path = written(tmp_path, ["id", *PIXELS], LABELS, IMAGES)  # not distinct, so no index
    assert_read(path, "label in column 1 'id'")


def test_csv_of_pandas_is_read(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(IMAGES, columns=PIXELS).assign(kind=LABELS)
    frame.to_csv(tmp_path / "a.csv")
    assert_read(tmp_path / "a.csv", "label in column 27 'kind', column 1 left out")
    frame.to_csv(tmp_path / "a.csv", index=False)
    assert_read(tmp_path / "a.csv", "label in column 26 'kind'")
    numbered = pandas.DataFrame(np.column_stack([LABELS, IMAGES]))
    numbered.to_csv(tmp_path / "a.csv")
    assert_read(tmp_path / "a.csv", "label in column 2 '0', column 1 left out")
    numbered.to_csv(tmp_path / "a.csv", index=False)
    assert_read(tmp_path / "a.csv", "label in column 1 '0'")
    numbered.to_csv(tmp_path / "a.csv", index=False, header=False)
    assert_read(tmp_path / "a.csv", "label in column 1")
    joined = pandas.concat([pandas.Series(LABELS), pandas.DataFrame(IMAGES)], axis=1)  # 0, 0, 1, 2, ...
    joined.to_csv(tmp_path / "a.csv", index=False)
    assert_read(tmp_path / "a.csv", "label in column 1 '0'")
    (tmp_path / "b.csv").write_text("\n".join([",".join("0" * 26), *(tmp_path / "a.csv").read_text().split("\n")[1:]]))
    pandas.read_csv(tmp_path / "b.csv").to_csv(tmp_path / "a.csv", index=False)  # 0, 0.1, 0.2, ...
    assert_read(tmp_path / "a.csv", "label in column 1 '0'")
    floats = pandas.DataFrame(IMAGES / 255, columns=PIXELS).assign(label=LABELS.astype(float))
    floats.to_csv(tmp_path / "a.csv.xz", index=False)
    assert_read(tmp_path / "a.csv.xz", "label in column 26 'label'", (IMAGES / 255).astype(np.float32))


@pytest.mark.parametrize(
    "dialect",
    [
        {"delimiter": ";"},
        {"delimiter": "\t"},
        {"quoting": csv.QUOTE_ALL},
        {"quoting": csv.QUOTE_NONNUMERIC, "delimiter": ";"},
        {"lineterminator": "\n", "delimiter": "\t", "quoting": csv.QUOTE_ALL},
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.TXT"])
def test_dialects_are_read_alike(tmp_path: Path, dialect: dict[str, Any], name: str) -> None:
    for header in (["label", *PIXELS], []):
        path = written(tmp_path, header, LABELS, IMAGES, name=name, **dialect)
        assert_read(path, f"label in column 1{' ' * bool(header)}{repr('label') * bool(header)}")
        path = written(tmp_path, header and ["label", *PIXELS], ANIMALS, IMAGES, name=name, **dialect)
        assert splits(path).train.class_names == ("a bird, small", "cat", "dog")


def test_csv_of_a_spreadsheet_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, ["Label", *PIXELS], LABELS, IMAGES, delimiter=";")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert_read(path, "label in column 1 'Label'")
    path.write_bytes(b"sep=;\r\n" + path.read_text("utf-8-sig").encode())
    assert_read(path, "label in column 1 'Label'")
    path.write_bytes(
        path.read_text().removeprefix("sep=;\n").replace(";", "\t").encode("utf-16")
    )  # Excel's "Unicode text"
    assert_read(path, "label in column 1 'Label'")


def test_csv_of_numpy_is_read(tmp_path: Path) -> None:
    table = np.column_stack([LABELS, IMAGES])
    np.savetxt(tmp_path / "a.txt", table, "%d")
    assert_read(tmp_path / "a.txt", "label in column 1")
    np.savetxt(tmp_path / "a.csv", table, "%d", ",", header=",".join(["label", *PIXELS]))
    assert_read(tmp_path / "a.csv", "label in column 1 'label'")
    np.savetxt(tmp_path / "a.txt.gz", table)  # 1.000000000000000000e+00
    assert_read(tmp_path / "a.txt.gz", "label in column 1", IMAGES.astype(np.float32))
    assert_read(tmp_path / "a.txt.gz", "label in column 1", IMAGES.astype(np.float32), scale=1)


def test_text_labels_become_classes_sorted_as_text(tmp_path: Path) -> None:
    for header in ([], [*PIXELS, "label"]):
        found = splits(written(tmp_path, header, IMAGES, ANIMALS))
        assert found.train.class_names == ("a bird, small", "cat", "dog")
        assert np.array(found.train.class_names)[found.train.labels].tolist() == ANIMALS.tolist()
        assert "label in column 26" in found.understood
        np.testing.assert_array_equal(found.train.images.reshape(N, -1), IMAGES)


def test_labels_as_they_are_may_have_gaps_and_be_text(tmp_path: Path) -> None:
    mixed = ["7", "A", "7.0", "30"] * 3
    path = written(tmp_path, ["label", *PIXELS], mixed, IMAGES)
    assert "'A' is no label (a whole number); data.labels = \"as they are\" takes text, too" in load_error(path)
    found = splits(path, labels="as they are").train
    assert found.class_names == ("30", "7", "7.0", "A")
    path = written(tmp_path, ["label", *PIXELS], ["7", "9", "7.0", "30"] * 3, IMAGES)
    found = splits(path, labels="as they are").train
    assert found.class_names == ("7", "9", "30")
    assert found.labels.tolist() == [0, 1, 0, 2] * 3


@pytest.mark.parametrize(
    ("cell", "words"),
    [("", "'' is no label"), ("nan", "'nan' is no label"), ("0.5", "'0.5'"), ("x" * 101, "'xxx"), ("a\x1b[2J", "'a")],
)
def test_cell_that_is_no_label_beside_text_is_refused(tmp_path: Path, cell: str, words: str) -> None:
    path = written(tmp_path, [*PIXELS, "label"], IMAGES, [*ANIMALS[:-1], cell])
    assert f"line 13, column 26: {words}" in load_error(path)


def test_text_in_another_encoding_is_no_label(tmp_path: Path) -> None:
    path = written(tmp_path, [*PIXELS, "label"], IMAGES, ["caf\xe9"] * N)
    path.write_bytes(path.read_text().encode("latin-1"))
    assert "line 2, column 26: 'caf\ufffd' is no label (a whole number, or text of up to 100" in load_error(path)


@pytest.mark.parametrize(
    ("cell", "kind"),
    [("300", "uint16"), ("65536", "float32"), ("-2", "float32"), ("0.5", "float32"), ("2.0", "float32")],
)
def test_one_pixel_decides_the_type_of_all(tmp_path: Path, cell: str, kind: str) -> None:
    """The first and the last line of many parts: those before are widened, those after are read wider."""
    rows = np.random.default_rng(0).integers(0, 256, (600, 26)).astype(str)
    rows[:, 0] = np.arange(600) % 3
    for line in (0, 599):
        text = rows.copy()
        text[line, 20] = cell
        np.savetxt(tmp_path / "a.csv", text, "%s", ",")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("cnnpar.data.readers.csv_table._PART", 10_000)
            found = splits(tmp_path / "a.csv").train
        assert found.images.dtype == kind
        np.testing.assert_array_equal(found.images.reshape(600, -1), text[:, 1:].astype(float).astype(np.float32))
        assert found.labels.tolist() == rows[:, 0].astype(int).tolist()


def test_floats_become_bytes_by_a_scale_of_255(tmp_path: Path) -> None:
    path = written(tmp_path, ["label", *PIXELS], LABELS, np.round(IMAGES / 255, 4))
    assert_read(path, "label in column 1 'label'", scale=255)
    assert_read(path, "label in column 1 'label'", np.round(IMAGES / 255, 4).astype(np.float32))


def test_labels_written_as_floats_are_whole_numbers(tmp_path: Path) -> None:
    path = written(tmp_path, ["label", *PIXELS], LABELS.astype(float), IMAGES)
    assert_read(path, "label in column 1 'label'")
    path = written(tmp_path, ["label", *PIXELS], [0, 1, 2, *map(float, LABELS[3:])], IMAGES)
    assert_read(path, "label in column 1 'label'")


def test_missing_labels_are_named(tmp_path: Path) -> None:
    path = written(tmp_path, PIXELS, IMAGES)
    for settings in ({}, {"label": "last"}, {"label": "label"}, {"shape": (5, 5)}):
        message = load_error(path, **settings)
        assert "labels are missing: its 25 columns are as many as the pixels of 5 x 5; add a column" in message
    for header in (PIXELS, []):
        path = written(tmp_path, header, IMAGES, name="test.csv")
        with pytest.raises(
            Exception, match="labels are missing: its 25 columns are as many as the pixels of 5 x 5 x 1"
        ):
            load_test(path, (5, 5, 1), ("0", "1", "2"))
    path = written(tmp_path, ["id", *PIXELS], range(N), IMAGES)
    assert "labels are missing: its 25 columns" in load_error(path)


def test_images_are_read_without_labels(tmp_path: Path) -> None:
    tables: list[tuple[list[str], list[Any]]] = [
        (PIXELS, [IMAGES]),
        ([], [IMAGES]),
        (["id", *PIXELS], [range(N), IMAGES]),
        ([*PIXELS, "label"], [IMAGES, ANIMALS]),
        (["label", *PIXELS], [LABELS, IMAGES]),
        ([], [LABELS, IMAGES]),
    ]
    for header, columns in tables:
        path = written(tmp_path, header, *(list(column) for column in columns))
        (found,) = csv_file.image_parts(path, (SIDE, SIDE, 1), Data())
        np.testing.assert_array_equal(found.images, IMAGES.reshape(N, SIDE, SIDE, 1))
        assert found.images.dtype == np.uint8
        ids = ("id", list(map(str, range(N)))) if "id" in header else ("", None)
        assert (found.id_name, found.ids) == ids


def test_whole_image_in_a_cell_is_refused_with_the_remedy(tmp_path: Path) -> None:
    pixels = [" ".join(map(str, image)) for image in IMAGES]
    path = written(tmp_path, ["emotion", "pixels", "Usage"], LABELS, pixels, ["Training"] * N)  # FER2013
    assert "line 2, column 2 holds a whole image; write each pixel into a column of its own (pandas:" in load_error(
        path
    )


def test_colour_images_are_told_their_shape(tmp_path: Path) -> None:
    images = np.zeros((N, 75), np.int64)
    assert "set data.shape = [height, width] or [height, width, channels], such as [5, 5, 3]" in load_error(
        written(tmp_path, [], LABELS, images)
    )


def test_fault_names_the_column_of_the_label(tmp_path: Path) -> None:
    path = written(tmp_path, [*PIXELS, "label"], IMAGES, [*LABELS[:-1], -1])
    assert "line 13, column 26: label -1 is below 0" in load_error(path)


@pytest.mark.parametrize("order", [[3, 2, 1, 0], [0, 2, 1, 3]])
def test_pixels_that_are_out_of_order_are_refused(tmp_path: Path, order: list[int]) -> None:
    (tmp_path / "a.csv").write_text(",".join(["label", *(f"pixel{number}" for number in order)]) + "\n0,1,2,3,4\n")
    assert f"pixels are out of order: 'pixel{order[-3] if order[0] == 0 else 3}' stands before" in load_error(
        tmp_path / "a.csv"
    )


def test_names_of_pixels_may_have_thousands_of_digits(tmp_path: Path) -> None:
    names = [f"pixel{digits}" for digits in ("007", "10", "9" * 5000, "1" + "0" * 5000)]
    (tmp_path / "a.csv").write_text(",".join(["label", *names]) + "\n0,1,2,3,4\n1,2,3,4,5\n")
    assert load_splits(Data(train=str(tmp_path / "a.csv"), validation=0.0)).train.images.shape[1:] == (2, 2, 1)


@pytest.mark.parametrize(
    "character", ["\u0661", "\u732b", "\ufffd", "\U0001f408", "\U000d000d", "\U0010ffff", "\x1a31\x1a"]
)
@pytest.mark.parametrize("column", [0, 1, 2])
def test_characters_that_are_no_digits_are_refused(tmp_path: Path, column: int, character: str) -> None:
    """numpy 2.4 looks them up beyond the end of a table, which may end the process."""
    row = [f"{number}" for number in range(5)]
    row[column] += character
    text = "label,a,b,c,d\n0,1,2,3,4\n" + ",".join(row) + "\n"
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    assert f"line 3, column {column + 1}: " in load_error(tmp_path / "a.csv")


@pytest.mark.parametrize("space", ["\xa0", "\u3000"])
def test_white_space_of_other_alphabets_is_white_space(tmp_path: Path, space: str) -> None:
    (tmp_path / "a.csv").write_text(
        f"label,a,b,c,d\n{space}0,{space}1,2{space},3,4\n1,5,6,7,8{space}\n", encoding="utf-8"
    )
    found = load_splits(Data(train=str(tmp_path / "a.csv"), validation=0.0)).train
    assert found.images.ravel().tolist() == [*range(1, 9)]
    assert found.labels.tolist() == [0, 1]


def test_labels_of_any_alphabet_are_kept_to_the_letter(tmp_path: Path) -> None:
    names = ["gr\xf6\xdfe", "\u732b", "\u5c71\u7530\u3000\u592a\u90ce", "\U0001f408 a", "\xe9t\xe9"]
    rows = [f"{number},1,2,3,{name}" for number, name in enumerate(names)]
    (tmp_path / "a.csv").write_text("\n".join(["a,b,c,d,class", *rows]) + "\n", encoding="utf-8")
    data = load_splits(Data(train=str(tmp_path / "a.csv"), labels="as they are", validation=0.0)).train
    assert [data.class_names[label] for label in data.labels] == names
