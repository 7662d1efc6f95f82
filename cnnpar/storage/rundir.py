"""Run directory: names of its files, creation for a new run, checks before anything is written."""

import contextlib
import itertools
import os
import re
import shlex
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cnnpar.errors import InputError, reason
from cnnpar.files import opened_folder, read_regular
from cnnpar.storage.atomic import temporary_of
from cnnpar.storage.checkpoint import owner
from cnnpar.storage.holder import NOTE
from cnnpar.storage.lock import BEST, METRICS, MODEL, require_free

PARENT = Path("runs")  # holds the directories of runs without --run-dir
CONFIG = "config.toml"
CONFIG_HEAD = b"# The settings of this run, every one spelled out, written by cnnpar.\n"
_RUN_ID = re.compile(rb"# run id: ([0-9a-f]{32})\n")  # the line behind it
_LONGEST_CONFIG = 1 << 20  # bytes
_LONGEST_NAME = 255  # bytes, on the usual file systems


@dataclass(frozen=True)
class Place:
    """Requested place of a run's files."""

    run_dir: Path | None = None  # None: `runs/<name>-<n>` for a new run, the checkpoint's folder for a resumed one
    to_path: Path | None = None  # file of the newest checkpoint; None: in `run_dir`
    name: str = "run"
    overwrite: bool = False  # a run that is in `run_dir` gives way to the new one


@dataclass(frozen=True)
class RunFiles:
    """Paths of the files of one run, by the names that its folders had when it began."""

    directory: Path
    model: Path  # the newest checkpoint

    @classmethod
    def at(cls, directory: Path, to_path: Path | None) -> "RunFiles":
        """Return the files of a run in a directory; `to_path` is the newest checkpoint's, if elsewhere.

        Raises InputError where that is no name of a file.
        """
        if to_path is not None and not to_path.name:
            raise InputError(f"{shlex.quote(str(to_path))}: is no name of a file; choose another --to-path")
        return cls(directory, to_path or directory / MODEL)

    @property
    def previous(self) -> Path:
        """Path of the checkpoint before the newest."""
        return self.model.with_name(self.model.name.removesuffix(".json") + ".prev.json")

    @property
    def best(self) -> Path:
        """Path of the checkpoint of the best epoch by `train.best_by`."""
        return self.directory / BEST

    @property
    def checkpoints(self) -> list[Path]:
        """Resolved paths of all three checkpoints."""
        return [path.resolve() for path in (self.model, self.previous, self.best)]

    @property
    def metrics(self) -> Path:
        """Path of the measurements, one JSON object a line."""
        return self.directory / METRICS

    @property
    def picture(self) -> Path:
        """Path of the picture of training and validation accuracy over the epochs."""
        return self.directory / "accuracy.png"

    @property
    def config(self) -> Path:
        """Path of the resolved configuration."""
        return self.directory / CONFIG


def check_new(place: Place) -> None:
    """Raise InputError if `new_run` would; creates nothing."""
    directory, to_path = place.run_dir, place.to_path
    if directory is not None:
        require_free(directory)
    if directory is not None and place.overwrite:
        _check_overwritten(RunFiles.at(directory, to_path))
    elif directory is not None:
        shown = shlex.quote(str(directory))
        if exists(directory / MODEL) and _is_regular(directory / MODEL):
            raise InputError(
                f"{directory}: holds a run already; --resume {shown} goes on with it, another --run-dir starts anew"
            )
        if exists(directory / METRICS):
            raise InputError(
                f"{directory}: holds a run already, whose checkpoint is elsewhere: --resume FILE --run-dir {shown} "
                f"goes on with it, another --run-dir starts anew"
            )
        _check_absent(RunFiles.at(directory, to_path).best)
    if to_path is not None and exists(to_path) and not to_path.is_dir():
        raise InputError(
            f"{to_path}: exists already; if it is a checkpoint, --resume {shlex.quote(str(to_path))} as well goes on "
            f"with it, another --to-path starts anew"
        )
    files = RunFiles.at(directory or PARENT, to_path)
    if (directory is not None or to_path is not None) and not place.overwrite:
        _check_absent(files.previous)
    _check_writable(files, [files.metrics] if directory is not None else [])


def new_run(place: Place) -> RunFiles:
    """Create the directory of a new run: the requested one, or the first free `runs/<name>-<n>`.

    Raises InputError if it holds a run already, or cannot be created or written to.
    """
    check_new(place)
    if place.run_dir is not None and place.overwrite:
        _remove_run(RunFiles.at(place.run_dir, place.to_path))
    return _make_folders(RunFiles.at(place.run_dir or _make_numbered(place.name), place.to_path))


def check_resumed(checkpoint: Path, place: Place, run_id: str) -> RunFiles:
    """Return the files that `resumed_run` returns, or raise InputError if it would; creates nothing."""
    files = RunFiles.at(place.run_dir or checkpoint.parent, place.to_path)
    require_free(files.directory)
    if checkpoint.resolve() not in files.checkpoints and exists(files.model):
        raise InputError(
            f"{files.model}: is of another run than {checkpoint} and would be overwritten; "
            f"choose another --run-dir or --to-path"
        )
    owner = _owner_of(files.directory)
    if owner not in ("", run_id) and checkpoint.resolve() not in files.checkpoints:
        raise InputError(f"{files.directory}: holds another run than {checkpoint}; choose another --run-dir")
    _check_writable(files, [files.metrics, files.best, files.previous])
    return files


def resumed_run(checkpoint: Path, place: Place, run_id: str) -> RunFiles:
    """Return the files of a resumed run, beside its checkpoint unless another place is requested; create the folders.

    Raises InputError if they would overwrite another run, or cannot be written.
    """
    return _make_folders(check_resumed(checkpoint, place, run_id))


def _make_folders(files: RunFiles) -> RunFiles:
    """Create the folders of the files. Raises InputError."""
    try:
        for folder in (files.directory, files.model.parent):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{error.filename}: cannot make the run directory: {reason(error)}") from error
    return files


def _check_overwritten(files: RunFiles) -> None:
    """Raise InputError where a file that a new run would replace is not a run's."""
    with _opened(files.directory) as folder:
        for path in (files.model, files.previous, files.best):
            if folder is not None and exists(path) and owner(path.name, folder) is None:
                raise InputError(f"{path}: is no checkpoint, and stays; choose another --run-dir")


def _remove_run(files: RunFiles) -> None:
    """Remove the checkpoints and the metrics of a run. Raises InputError."""
    for path in (files.metrics, files.best, files.previous, files.model):  # the last one says that there is a run
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise InputError(f"{path}: cannot remove it: {reason(error)}") from error


@contextlib.contextmanager
def _opened(directory: Path) -> Iterator[int | None]:
    """Yield a descriptor of a directory; None if there is none. Raises InputError."""
    if not exists(directory):
        yield None
        return
    try:
        with opened_folder(directory / MODEL) as folder:
            yield folder
    except OSError as error:
        raise InputError(f"{error.filename or directory}: cannot be read: {reason(error)}") from error


def _check_absent(checkpoint: Path) -> None:
    """Raise InputError if a new run would replace a checkpoint that is there."""
    if exists(checkpoint):
        raise InputError(
            f"{checkpoint}: is there already, of another run; move it away, or choose another --run-dir or --to-path"
        )


def _check_writable(files: RunFiles, others: Iterable[Path]) -> None:
    """Raise InputError, before training starts, unless the files can be created and are different ones.

    `others`: those beside the newest checkpoint that may be there; neither links nor pipes are written to.
    """
    if exists(files.model) and not _is_regular(files.model):
        what = "is a link" if files.model.is_symlink() else "is no file"
        raise InputError(f"{files.model}: {what}; --to-path names the file of the newest checkpoint")
    for path in others:
        if exists(path) and not _is_regular(path):
            what = "is a link" if path.is_symlink() else "is no file"
            raise InputError(
                f"{path}: {what}, and a run writes a file there; move it away, or choose another --run-dir"
            )
    for path in (files.model, files.previous, files.best):
        temporary = temporary_of(path)
        if len(os.fsencode(temporary.name)) > _LONGEST_NAME:
            raise InputError(f"{files.model}: the name is too long; choose another --to-path")
        if exists(temporary) and stat.S_ISDIR(temporary.lstat().st_mode):
            raise InputError(f"{temporary}: is a folder, where a run writes; move it away")
    others = (files.best, files.metrics, files.picture, files.config, files.directory / NOTE)
    others += tuple(temporary_of(path) for path in (files.previous, *others))
    if files.model.resolve() in [path.resolve() for path in others]:
        raise InputError(f"{files.model}: the run keeps something else under that name; choose another --to-path")
    for folder in (files.directory, files.model.parent):
        while not exists(folder):
            folder = folder.parent
        if not folder.is_dir():
            raise InputError(f"{folder}: is no folder; choose another --run-dir or --to-path")
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):  # to read is to lock
            raise InputError(f"{folder}: cannot read and write there; choose another --run-dir or --to-path")


def _owner_of(directory: Path) -> str:
    """Return the id of the run whose metrics are in a directory, if a file there says so; else an empty text."""
    if not exists(directory / METRICS):
        return ""
    try:
        config = read_regular(directory / CONFIG, _LONGEST_CONFIG)
    except OSError:
        return ""
    found = _RUN_ID.match(config.removeprefix(CONFIG_HEAD)) if config.startswith(CONFIG_HEAD) else None
    return found[1].decode() if found else ""


def exists(path: Path) -> bool:
    """Tell whether a path exists, even as a broken link. Raises InputError if the system does not say."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise InputError(f"{path}: {reason(error)}; choose another path") from error
    return True


def _is_regular(path: Path) -> bool:
    return stat.S_ISREG(path.lstat().st_mode)


def _make_numbered(name: str) -> Path:
    """Create the first free `runs/<name>-<n>`; runs started at once get different ones. Raises InputError."""
    try:
        PARENT.mkdir(exist_ok=True)
        for number in itertools.count(1):
            with contextlib.suppress(FileExistsError):
                directory = PARENT / f"{name}-{number}"
                directory.mkdir()
                break
    except OSError as error:
        raise InputError(f"{error.filename}: cannot make the run directory: {reason(error)}; give --run-dir") from error
    return directory
