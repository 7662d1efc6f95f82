"""The files of a run: their names, and how a new run gets a directory of its own."""

import contextlib
import itertools
import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from cnnpar.errors import InputError, reason
from cnnpar.storage.lock import require_free

_PARENT = Path("runs")  # of runs that are not told where to be


@dataclass(frozen=True)
class Place:
    """Where the files of a run are wanted."""

    run_dir: Path | None = None  # None: `runs/<name>-<n>` of a new run, beside its checkpoint of one that goes on
    to_path: Path | None = None  # the newest checkpoint, elsewhere
    name: str = "run"
    may_have_begun: bool = False  # `run_dir` may hold what a start that came to no checkpoint has left


@dataclass(frozen=True)
class RunFiles:
    """Where the files of one run are."""

    directory: Path
    model: Path  # newest checkpoint

    @classmethod
    def at(cls, directory: Path, to_path: Path | None) -> "RunFiles":
        """The files of a run in that directory; `to_path` puts the newest checkpoint elsewhere."""
        return cls(directory, to_path or directory / "model.json")

    @property
    def previous(self) -> Path:
        """The checkpoint before the newest."""
        return self.model.with_name(self.model.name.removesuffix(".json") + ".prev.json")

    @property
    def best(self) -> Path:
        """The checkpoint of the best validation accuracy."""
        return self.directory / "best.json"

    @property
    def checkpoints(self) -> list[Path]:
        """All of them, without links."""
        return [path.resolve() for path in (self.model, self.previous, self.best)]

    @property
    def metrics(self) -> Path:
        """One JSON object a line."""
        return self.directory / "metrics.jsonl"

    @property
    def picture(self) -> Path:
        """Training and validation accuracy over the epochs."""
        return self.directory / "accuracy.png"

    @property
    def config(self) -> Path:
        """The configuration as resolved."""
        return self.directory / "config.toml"


def check_new(place: Place) -> None:
    """Raises InputError, before anything is made, when `new_run` would."""
    directory, to_path = place.run_dir, place.to_path
    if directory is not None:
        require_free(directory)
        shown = shlex.quote(str(directory))
        if exists(directory / "model.json"):
            raise InputError(
                f"{directory}: holds a run already; --resume {shown} goes on with it, another --run-dir starts anew"
            )
        if exists(directory / "metrics.jsonl") and not place.may_have_begun:
            raise InputError(
                f"{directory}: holds a run already, whose checkpoint is elsewhere (--resume FILE --run-dir {shown}) or "
                f"was never written (--resume auto starts it anew)"
            )
    if to_path is not None and exists(to_path) and not to_path.is_dir():
        raise InputError(
            f"{to_path}: exists already; if it is a checkpoint, --resume {shlex.quote(str(to_path))} as well goes on "
            f"with it, another --to-path starts anew"
        )
    _check(RunFiles.at(directory or _PARENT, to_path))


def new_run(place: Place) -> RunFiles:
    """Make the directory of a new run: the one asked for, or the first free `runs/<name>-<n>`.

    Raises InputError when it holds a run already, or cannot be made or written to.
    """
    check_new(place)
    return _made(RunFiles.at(place.run_dir or _numbered(place.name), place.to_path))


def check_resumed(checkpoint: Path, place: Place) -> RunFiles:
    """Raises InputError, before anything is made, when `resumed_run` would."""
    files = RunFiles.at(place.run_dir or checkpoint.parent, place.to_path)
    require_free(files.directory)
    if checkpoint.resolve() not in files.checkpoints and exists(files.model):
        raise InputError(
            f"{files.model}: is of another run than {checkpoint} and would be overwritten; "
            f"choose another --run-dir or --to-path"
        )
    _check(files)
    return files


def resumed_run(checkpoint: Path, place: Place) -> RunFiles:
    """The files of a run that goes on: beside its checkpoint, unless another place is asked for.

    Raises InputError when they would overwrite another run, or cannot be written.
    """
    return _made(check_resumed(checkpoint, place))


def find_checkpoint(resume: str, directory: Path | None, to_path: Path | None) -> Path:
    """The checkpoint that `--resume [FILE|DIR]` means; "" is that of --to-path or --run-dir, this folder's, or the
    newest run's.

    Raises InputError when there is none.
    """
    if resume:
        candidates = [newest_in(Path(resume))]
    elif to_path is not None:
        candidates = [to_path]
    elif directory is not None:
        candidates = [directory / "model.json"]
    else:
        newest = sorted(_PARENT.glob("*/model.json"), key=lambda path: path.stat().st_mtime, reverse=True)
        candidates = [Path("model.json"), *newest]
    for path in candidates:
        if exists(path):
            return path
    place = "here or in runs/" if len(candidates) > 1 or candidates == [Path("model.json")] else f"at {candidates[0]}"
    raise InputError(f"--resume: no checkpoint {place}; name the file or the run's directory")


def newest_in(path: Path) -> Path:
    """The newest checkpoint in a run's directory; a path that is none is a checkpoint itself."""
    return path / "model.json" if exists(path) and path.is_dir() else path


def _made(files: RunFiles) -> RunFiles:
    try:
        for folder in (files.directory, files.model.parent):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{error.filename}: cannot make the run directory: {reason(error)}") from error
    return files


def _check(files: RunFiles) -> None:
    """Raises InputError now rather than after the first hour: the folders can be made and written to."""
    if exists(files.model) and not files.model.is_file():
        raise InputError(f"{files.model}: is no file; --to-path names the file of the newest checkpoint")
    others = (files.best, files.metrics, files.picture, files.config)
    if files.model.resolve() in [path.resolve() for path in others]:
        raise InputError(f"{files.model}: the run keeps something else under that name; choose another --to-path")
    for folder in (files.directory, files.model.parent):
        while not exists(folder):
            folder = folder.parent
        if not folder.is_dir():
            raise InputError(f"{folder}: is no folder; choose another --run-dir or --to-path")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise InputError(f"{folder}: cannot write there; choose another --run-dir or --to-path")


def exists(path: Path) -> bool:
    """Whether there is something, be it a broken link. Raises InputError where that cannot be said."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise InputError(f"{path}: {reason(error)}; choose another path") from error
    return True


def _numbered(name: str) -> Path:
    """A directory that did not exist before; two runs started at once get two."""
    try:
        _PARENT.mkdir(exist_ok=True)
        for number in itertools.count(1):
            with contextlib.suppress(FileExistsError):
                directory = _PARENT / f"{name}-{number}"
                directory.mkdir()
                break
    except OSError as error:
        raise InputError(f"{error.filename}: cannot make the run directory: {reason(error)}; give --run-dir") from error
    return directory
