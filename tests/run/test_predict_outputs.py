"""Outputs of `cnnpar predict`: the table, `--top`, `--proba`, `--out`, and submissions for Kaggle."""

import csv
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cnnpar
from tests.helpers.commands import call
from tests.helpers.predicted import answers, digits, train_on_digits, write_csv
from tests.helpers.tiny_runs import ROOT

X, Y = digits(150)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predict") / "r"
    train_on_digits(folder)
    return folder


@pytest.fixture
def here(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, beside the model `r`, with labelled samples in `test.csv`."""
    monkeypatch.chdir(tmp_path)
    Path("r").symlink_to(run)
    write_csv(Path("test.csv"), X, ("label", Y.tolist()))
    return tmp_path


def rows(path: str) -> list[list[str]]:
    with Path(path).open(newline="") as file:
        return list(csv.reader(file))


def names(probabilities: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> list[str]:
    return [str(index) for index in probabilities.argmax(axis=1)]


def test_a_file_has_the_accuracy_of_cnnpar_test(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("cnnpar-test", "r", "test.csv", "--json") == 0
    accuracy = json.loads(capsys.readouterr().out)["accuracy"]
    assert call("cnnpar", "predict", "r", "test.csv", "--out", "p.csv") == 0
    assert capsys.readouterr().out == "150 samples predicted, written to p.csv\n"
    header, *found = rows("p.csv")
    assert header == ["input", "class", "probability"]
    assert [row[0] for row in found] == [f"test.csv: row {number}" for number in range(1, 151)]
    assert np.mean([row[1] == str(label) for row, label in zip(found, Y, strict=True)]) == accuracy
    wanted = cnnpar.load("r").probabilities(X)
    assert [float(row[2]) for row in found] == wanted.max(axis=1).tolist()


def test_top_and_proba_are_columns_of_a_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = cnnpar.load("r").probabilities(X)
    assert call("cnnpar", "predict", "r", "test.csv", "--out", "p.csv", "--proba") == 0
    header, *found = rows("p.csv")
    assert header[3:] == [f"probability_{number}" for number in range(10)]
    assert [[float(cell) for cell in row[3:]] for row in found] == wanted.tolist()
    assert call("cnnpar", "predict", "r", "test.csv", "--out", "p.csv", "--overwrite", "--top", 3) == 0
    header, *found = rows("p.csv")
    assert header == ["input", "class", "probability", "class_2", "probability_2", "class_3", "probability_3"]
    order = np.argsort(-wanted, axis=1)[:, :3]
    assert [row[1::2] for row in found] == order.astype(str).tolist()
    assert [[float(cell) for cell in row[2::2]] for row in found] == np.take_along_axis(wanted, order, 1).tolist()
    capsys.readouterr()
    assert [one["top"][2]["class"] for one in answers(capsys, "r", "test.csv", "--top", 3)] == [row[5] for row in found]


def test_a_json_file_is_what_is_printed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answers(capsys, "r", "test.csv")
    assert call("cnnpar", "predict", "r", "test.csv", "--out", "p.json") == 0
    assert json.loads(Path("p.json").read_text()) == {"predictions": found, "failed": []}


def test_a_table_fits_a_terminal_and_keeps_names_in_pipes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = Path("a" * 60) / ("b" * 60 + ".png")
    long.parent.mkdir()
    Image.fromarray(X[0, ..., 0]).save(long)
    assert call("cnnpar", "predict", "r", long, "test.csv", "--top", 2) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert {len(line) for line in (head, *lines)} == {len(str(long)) + len("  class  probability")}
    assert [line.rsplit(maxsplit=2)[0].rstrip() for line in lines[:2]] == [str(long)] * 2
    main, terminal = pty.openpty()
    command = [sys.executable, "-m", "cnnpar", "predict", "r", str(long), "test.csv", "--top", "2"]
    with subprocess.Popen(command, stdout=terminal, env={**os.environ, "PYTHONPATH": str(ROOT)}) as process:
        os.close(terminal)
        shown = b""
        try:
            while piece := os.read(main, 1 << 16):
                shown += piece
        except OSError:  # the terminal's other end was closed
            pass
    os.close(main)
    assert process.returncode == 0
    lines = shown.decode().splitlines()
    assert len(lines) == 1 + 2 * 151
    assert {len(line) for line in lines} == {80}
    assert lines[1].startswith("..." + "b" * 40)
    assert lines[2].startswith(" " * 60)


def test_odd_names_of_files_are_kept(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("new").mkdir()
    odd = ['a,"b".png', "line\nend.png", "\u6570.png", os.fsdecode(b"\xff.png")]
    for name in odd:
        Image.fromarray(X[0, ..., 0]).save(f"new/{name}")
    files = sorted(f"new/{name}" for name in odd)
    assert call("cnnpar", "predict", "r", "new", "--out", "p.csv") == 0
    with Path("p.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        assert [row[0] for row in csv.reader(file)] == ["input", *files]
    capsys.readouterr()
    assert [one["file"] for one in answers(capsys, "r", "new")] == files
    assert call("cnnpar", "predict", "r", "new") == 0
    assert len(capsys.readouterr().out.splitlines()) == 5


def test_submissions_number_rows_and_name_pictures(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = names(cnnpar.load("r").probabilities(X))
    assert call("cnnpar", "predict", "r", "test.csv", "--submission", "--out", "s.csv") == 0
    assert Path("s.csv").read_text() == "ImageId,Label\n" + "".join(f"{i},{name}\n" for i, name in enumerate(wanted, 1))
    ids = [f'{number}, "{number}"' for number in range(150)]
    write_csv(Path("ids.csv"), X, ("image_id", ids))
    assert call("cnnpar", "predict", "r", "ids.csv", "--submission", "--out", "ids-out.csv") == 0
    assert rows("ids-out.csv") == [["image_id", "label"], *map(list, zip(ids, wanted, strict=True))]
    assert Path("ids-out.csv").read_text().splitlines()[1] == f'"0, ""0""",{wanted[0]}'
    Path("new").mkdir()
    for number in range(3):
        Image.fromarray(X[number, ..., 0]).save(f"new/{number}.png")
    assert call("cnnpar", "predict", "r", "new", "--submission", "--out", "pictures.csv") == 0
    assert rows("pictures.csv") == [["id", "label"], *([f"{number}.png", wanted[number]] for number in range(3))]


def test_a_sample_gives_header_ids_and_order(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = cnnpar.load("r").probabilities(X[:3])
    Path("new").mkdir()
    for number, name in enumerate("abc"):
        Image.fromarray(X[number, ..., 0]).save(f"new/{name}.png")
    Path("like.csv").write_text("Id,Category\nc,0\na,0\n")
    assert call("cnnpar", "predict", "r", "new", "--like", "like.csv", "--out", "s.csv") == 0
    assert rows("s.csv") == [["Id", "Category"], ["c", names(wanted)[2]], ["a", names(wanted)[0]]]
    Path("like.csv").write_text("Id,9,0\na.png,.5,.5\nc,.5,.5\n")  # probabilities of classes
    assert call("cnnpar", "predict", "r", "new", "--like", "like.csv", "--out", "chances.csv") == 0
    assert rows("chances.csv") == [
        ["Id", "9", "0"],
        *([own, str(wanted[place, 9]), str(wanted[place, 0])] for own, place in (("a.png", 0), ("c", 2))),
    ]
    np.save("rows.npy", X[:3])
    Path("like.csv").write_text("n,y\n7,0\n5,0\n6,0\n")
    assert call("cnnpar", "predict", "r", "rows.npy", "--like", "like.csv", "--out", "rows.csv") == 0
    assert rows("rows.csv")[1:] == [["7", names(wanted)[2]], ["5", names(wanted)[0]], ["6", names(wanted)[1]]]
    capsys.readouterr()
    Path("like.csv").write_text("n,y\nc,0\na,zero\nb,0\n")
    assert call("cnnpar", "predict", "r", "rows.npy", "--like", "like.csv", "--out", "named.csv") == 0
    assert rows("named.csv")[1:] == [["c", names(wanted)[0]], ["a", names(wanted)[1]], ["b", names(wanted)[2]]]
    one, other = capsys.readouterr().err.splitlines()
    assert one == "like.csv: 'zero' is no class of the model, whose classes are '0', '1', '2', ..."
    assert other.startswith("like.csv: the rows have no ids, and 'c' is no number of a row: the first id gets")


@pytest.mark.parametrize(("first", "second"), [("a/1.png", "b/1.png"), ("a/1", "b/1"), ("new/a/1.png", "new/b/1.png")])
def test_ids_may_be_the_ends_of_paths(here: Path, capsys: pytest.CaptureFixture[str], first: str, second: str) -> None:
    wanted = names(cnnpar.load("r").probabilities(X[:3]))
    for number, name in enumerate(("a/1.png", "b/1.png", "b/2.png")):
        (here / "new" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(X[number, ..., 0]).save(here / "new" / name)
    Path("like.csv").write_text(f"id,y\n{second},0\n{first},0\n")
    assert call("cnnpar", "predict", "r", "new", "--like", "like.csv", "--out", "s.csv") == 0
    assert rows("s.csv")[1:] == [[second, wanted[1]], [first, wanted[0]]]
    assert capsys.readouterr().err == "like.csv: asks for 2 ids; 1 answers are left out\n"
    Path("like.csv").write_text("id,y\n1.png,0\n")
    assert call("cnnpar", "predict", "r", "new", "--like", "like.csv", "--out", "t.csv") == 2
    wrong = "like.csv: the id '1.png' may be 'new/a/1.png', 'new/b/1.png'; nothing was written"
    assert capsys.readouterr().err == f"cnnpar: error: {wrong}\n"


def test_what_is_wrong_with_many_is_said_three_times(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("new").mkdir()
    for number in range(9):
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(f"new/{number}.png")
    Path("new/10.png").write_bytes(b"")
    assert call("cnnpar", "predict", "r", "new") == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.startswith("cnnpar: error: new/") for line in lines] == [True] * 4 + [False]
    assert lines[-1].startswith("cnnpar: error: 6 other inputs: is 4 x 4 x 1 uint8, and the model takes 8 x 8 x 1")
    assert call("cnnpar", "predict", "r", "new", "test.csv", "--json") == 1
    assert len(json.loads(capsys.readouterr().out)["failed"]) == 10


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("--top 0", "--top 0: expected 1 or more"),
        ("--top 11", "--top 11: the model has 10 classes"),
        ("--top 2 --proba", "--top and --proba: the latter has every class; give one of them"),
        ("--out absent/p.csv", "--out absent/p.csv: no such folder; make absent first"),
        ("--out p.txt", "--out p.txt: unknown ending; expected FILE.csv or FILE.json"),
        ("--out test.csv --overwrite", "--out test.csv: is an input; choose another name"),
        ("--out own.csv", "--out own.csv: is there already; --overwrite replaces it"),
        ("--out own.csv --overwrite", "--out own.csv: is there, and no output of this kind; choose another name"),
        ("--out own.csv --overwrite --submission", "--out own.csv: is there, and no output of this kind;"),
        ("--overwrite", "--overwrite: goes with --out FILE"),
        ("--submission", "--submission: goes with --out FILE.csv"),
        ("--submission --out p.json", "--submission: goes with --out FILE.csv"),
        ("--submission --out p.csv --proba", "--submission: has one answer for each id; leave --top and --proba out"),
        ("rows.npy ids.csv --submission --out p.csv", "--submission: ids.csv: row 1 goes by id, and inputs before by"),
        ("a/1.png b/1.png --submission --out p.csv", "--submission: b/1.png has the id '1.png', and so has an input"),
        ("--like absent.csv --out p.csv", "absent.csv: cannot be read: No such file or directory"),
        ("--like own.csv --out p.csv", "own.csv: its columns are 'mine'; expected an id and a label, or an id and"),
        ("--like like.csv --out p.csv", "like.csv: asks for 2 answers, and there are 150 rows without ids; nothing"),
        ("ids.csv --like like.csv --out p.csv", "like.csv: asks for 1 ids that no answer has, such as '7'; nothing"),
        ("--like twice.csv --out p.csv", "twice.csv: the id '1' is there twice"),
    ],
)
def test_a_wrong_output_is_one_line_and_writes_nothing(
    here: Path, capsys: pytest.CaptureFixture[str], line: str, what: str
) -> None:
    Path("own.csv").write_text("mine\n")
    Path("like.csv").write_text("id,y\n1,0\n7,0\n")
    Path("twice.csv").write_text("id,y\n1,0\n1,0\n")
    np.save("rows.npy", X[:2])
    write_csv(Path("ids.csv"), X[:2], ("id", [1, 2]))
    for name in "ab":
        Path(name).mkdir()
        Image.fromarray(X[0, ..., 0]).save(f"{name}/1.png")
    before = sorted(Path().iterdir())
    inputs = [] if line.startswith(("rows", "ids", "a/")) else ["test.csv"]
    assert call("cnnpar", "predict", "r", *inputs, *line.split()) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"cnnpar: error: {what}")
    assert sorted(Path().iterdir()) == before
    assert Path("own.csv").read_text() == "mine\n"


def test_only_what_begins_alike_is_replaced(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = {"mine.csv": "# mine: input,class,probability\n", "ids.csv": "image_id,label\na,1\n"}
    np.save("rows.npy", X[:2])
    for name, content in mine.items():
        Path(name).write_text(content)
        for options in ((), ("--submission",)):
            assert call("cnnpar", "predict", "r", "rows.npy", *options, "--out", name, "--overwrite") == 2
            assert Path(name).read_text() == content
    for options in ((), ("--submission",)):
        for more in ((), ("--overwrite",)):
            assert call("cnnpar", "predict", "r", "rows.npy", *options, "--out", f"{len(options)}.csv", *more) == 0


def test_nothing_is_written_where_nothing_is_answered(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("cnnpar", "predict", "r", "absent.png", "--out", "p.csv") == 2
    assert capsys.readouterr() == ("", "cnnpar: error: absent.png: no such file; expected a picture\n")
    assert not Path("p.csv").exists()
    assert call("cnnpar", "predict", "r", "absent.png", "test.csv", "--out", "p.csv") == 1
    assert len(rows("p.csv")) == 151
