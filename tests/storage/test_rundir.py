"""Run directories: no file is overwritten, none is made before an error, and `--resume` finds the right checkpoint."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cnnpar.errors import InputError
from cnnpar.storage.find import find_checkpoint, newest_in
from cnnpar.storage.lock import locked
from cnnpar.storage.rundir import (
    CONFIG_HEAD,
    Place,
    RunFiles,
    check_new,
    check_resumed,
    new_run,
    resumed_run,
)

ID = "a" * 32


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(path: str) -> Path:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).touch()
    return Path(path)


def everything() -> set[str]:
    return {str(path) for path in Path().rglob("*")}


def test_runs_without_run_dir_are_numbered() -> None:
    names = [str(new_run(Place(name="digits")).directory) for _ in range(3)]
    assert names == ["runs/digits-1", "runs/digits-2", "runs/digits-3"]


def test_run_directory_is_made_with_parents_or_taken_if_empty() -> None:
    for _ in range(2):
        files = new_run(Place(Path("a/b"), Path("c/d.json")))
    assert (files.directory, files.model, files.previous) == (Path("a/b"), Path("c/d.json"), Path("c/d.prev.json"))
    assert files.best == Path("a/b/best.json")
    assert everything() == {"a", "a/b", "c"}


@pytest.mark.parametrize(
    ("name", "way"),
    [("model.json", "; --resume 'my run' goes on"), ("metrics.jsonl", ".*--resume FILE --run-dir 'my run' goes on")],
)
def test_directory_of_a_run_is_refused_with_the_way_to_resume(name: str, way: str) -> None:
    touch(f"my run/{name}")
    with pytest.raises(InputError, match=f"^my run: holds a run already{way}"):
        new_run(Place(Path("my run")))


@pytest.mark.parametrize("make", [touch, lambda name: Path(name).symlink_to("nowhere")], ids=["file", "broken link"])
def test_an_existing_to_path_file_is_not_overwritten(make: Callable[[str], object]) -> None:
    make("m.json")
    with pytest.raises(InputError, match=r"^m\.json: exists already"):
        new_run(Place(None, Path("m.json")))
    assert everything() == {"m.json"}


@pytest.mark.parametrize(
    ("run_dir", "to_path", "what"),
    [
        ("file", None, "file: is no folder"),
        ("file/a/b", None, "file: is no folder"),
        (None, "file/m.json", "file: is no folder"),
        (None, "folder", "folder: is no file"),
        (None, "/dev/null", "/dev/null: exists already"),
        ("x" * 300, None, "File name too long"),
        (None, "x" * 300, "File name too long"),
        ("a", "a/best.json", "a/best.json: the run keeps something else"),
        ("a", "a/../a/metrics.jsonl", "the run keeps something else"),
        ("loop", None, "symbolic links"),
    ],
)
def test_impossible_places_are_refused_before_anything_is_made(
    run_dir: str | None, to_path: str | None, what: str
) -> None:
    touch("file")
    Path("folder").mkdir()
    Path("loop").symlink_to("loop")
    before = everything()
    place = Place(Path(run_dir) if run_dir else None, Path(to_path) if to_path else None)
    with pytest.raises(InputError, match=what):
        check_new(place)
    with pytest.raises(InputError, match=what):
        new_run(place)
    assert everything() == before


def test_a_file_named_runs_is_refused() -> None:
    touch("runs")
    with pytest.raises(InputError, match=r"^runs: is no folder"):
        new_run(Place())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused() -> None:
    Path("closed").mkdir(mode=0o500)
    with pytest.raises(InputError, match=r"^closed: cannot write there"):
        new_run(Place(Path("closed/run")))


def test_a_directory_in_use_is_refused_for_new_and_resumed_runs() -> None:
    model = touch("run/model.json")
    with locked(Path("run"), pytest.fail):
        for check in (lambda: check_new(Place(Path("run"))), lambda: check_resumed(model, Place(), ID)):
            with pytest.raises(InputError, match=r"^run: another run is under way there"):
                check()
        check_resumed(model, Place(Path("elsewhere")), ID)
    check_resumed(model, Place(), ID)


def test_a_resumed_run_writes_beside_its_checkpoint() -> None:
    for name in ("model.json", "model.prev.json", "best.json"):
        touch(f"a/{name}")
    for name in ("model.json", "model.prev.json", "best.json"):
        assert resumed_run(Path("a", name), Place(), ID) == RunFiles.at(Path("a"), None)
    assert resumed_run(touch("m.json"), Place(Path("b"), Path("m.json")), ID) == RunFiles.at(Path("b"), Path("m.json"))
    assert resumed_run(Path("a/best.json"), Place(Path("new")), ID) == RunFiles.at(Path("new"), None)


@pytest.mark.parametrize(
    ("run_dir", "to_path"), [("b", None), (None, "b/model.json"), (None, None)], ids=["run_dir", "to_path", "beside"]
)
def test_a_resumed_run_does_not_overwrite_another(run_dir: str | None, to_path: str | None) -> None:
    touch("b/model.json")
    checkpoint = touch("b/copy.json" if run_dir is to_path is None else "a/model.json")
    with pytest.raises(InputError, match=r"^b/model\.json: is of another run than"):
        resumed_run(checkpoint, Place(Path(run_dir) if run_dir else None, Path(to_path) if to_path else None), ID)


def test_a_device_is_refused_as_to_path() -> None:
    with pytest.raises(InputError, match="/dev/null"):
        resumed_run(touch("a/model.json"), Place(None, Path("/dev/null")), ID)


def test_resume_finds_files_directories_and_the_newest_run() -> None:
    touch("runs/a-1/model.json")
    touch("runs/b-1/model.json")
    os.utime("runs/a-1/model.json", (2e9, 2e9))
    assert find_checkpoint("", None, None) == Path("runs/a-1/model.json")
    assert find_checkpoint("", Path("runs/b-1"), None) == Path("runs/b-1/model.json")
    assert find_checkpoint("", Path("runs/b-1"), touch("m.json")) == Path("m.json")
    assert find_checkpoint("runs/b-1", None, None) == Path("runs/b-1/model.json")
    assert find_checkpoint("runs/b-1/", Path("runs/a-1"), None) == Path("runs/b-1/model.json")
    assert find_checkpoint("m.json", None, None) == Path("m.json")
    touch("model.json")
    assert find_checkpoint("", None, None) == Path("model.json")


@pytest.mark.parametrize(
    ("resume", "run_dir", "place"),
    [
        ("", None, "here or in runs/"),
        ("", "a", "at a/model.json"),
        ("a", None, "at a/model.json"),
        ("b", None, "at b"),
        ("x" * 300, None, "too long"),
    ],
)
def test_resume_without_a_checkpoint_says_where_it_looked(resume: str, run_dir: str | None, place: str) -> None:
    Path("a").mkdir()
    with pytest.raises(InputError, match=place):
        find_checkpoint(resume, Path(run_dir) if run_dir else None, None)


def test_a_folder_that_is_no_run_names_the_newest_below() -> None:
    assert newest_in(Path("gone")) == Path("gone")
    touch("runs/b/model.json")
    assert newest_in(Path("runs/b")) == Path("runs/b/model.json")
    os.utime(touch("runs/a/model.json"), (2e9, 2e9))
    with pytest.raises(InputError, match=r"^runs: no run's directory \(no model\.json in it\); did you mean runs/a\?$"):
        newest_in(Path("runs"))
    with pytest.raises(InputError, match=r"no checkpoint at runs/model\.json; .* directory; did you mean runs/a\?$"):
        find_checkpoint("runs", None, None)
    with pytest.raises(InputError, match=r"^\.: no run's directory \(no model\.json in it\)$"):
        newest_in(Path())


def test_a_directory_with_metrics_of_another_run_is_refused() -> None:
    checkpoint = touch("a/model.json")
    touch("b/metrics.jsonl")
    Path("b/config.toml").write_bytes(CONFIG_HEAD + b"# run id: " + b"b" * 32 + b"\n[train]\n")
    with pytest.raises(InputError, match=r"^b: holds another run than a/model\.json"):
        check_resumed(checkpoint, Place(Path("b")), ID)
    assert check_resumed(checkpoint, Place(Path("b")), "b" * 32).directory == Path("b")


@pytest.mark.parametrize("to_path", ["", ".", "/", "run/.running", "run/.best.json.tmp", "n" * 241 + ".json"])
def test_a_to_path_that_cannot_be_one_is_refused(to_path: str) -> None:
    with pytest.raises(InputError, match=r"is no name of a file|keeps something else|the name is too long"):
        check_new(Place(Path("run"), Path(to_path)))
    assert everything() == set()
