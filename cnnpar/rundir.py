"""The files of a run: their names, and how a new run gets a directory of its own."""

import os
from dataclasses import dataclass
from pathlib import Path

from cnnpar.errors import InputError


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
        return self.model.with_suffix(".prev.json")

    @property
    def best(self) -> Path:
        """The checkpoint of the best validation accuracy."""
        return self.directory / "best.json"

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


def new_run(directory: Path | None, to_path: Path | None, name: str) -> RunFiles:
    """Make the directory of a new run: the one asked for, or the first free `runs/<name>-<n>`.

    Raises InputError when it holds a run already, or cannot be made or written to.
    """
    try:
        if directory is None:
            directory = _numbered(Path("runs"), name)
        else:
            directory.mkdir(parents=True, exist_ok=True)
        if to_path is not None:
            to_path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{error.filename}: cannot make the run directory: {error.strerror}") from error
    files = RunFiles.at(directory, to_path)
    if files.model.exists() or files.metrics.exists():
        raise InputError(
            f"{directory if files.metrics.exists() else files.model}: holds a run already; "
            f"--resume {files.model} goes on with it, another --run-dir or --to-path starts anew"
        )
    require_writable(files)
    return files


def require_writable(files: RunFiles) -> None:
    """Raises InputError now rather than after the first hour."""
    for folder in {files.directory, files.model.parent}:
        if not os.access(folder, os.W_OK | os.X_OK):
            raise InputError(f"{folder}: cannot write there; choose another --run-dir or --to-path")


def find_checkpoint(resume: str, directory: Path | None) -> Path:
    """The checkpoint that `--resume [FILE|DIR]` means; "" is the run directory, this folder, or the newest run.

    Raises InputError when there is none.
    """
    if resume:
        path = Path(resume)
        path = path / "model.json" if path.is_dir() else path
        if not path.exists():
            raise InputError(f"--resume {resume}: {path} does not exist")
        return path
    if directory is not None:
        candidates = [directory / "model.json"]
    else:
        newest = sorted(Path("runs").glob("*/model.json"), key=lambda path: path.stat().st_mtime, reverse=True)
        candidates = [Path("model.json"), *newest]
    for path in candidates:
        if path.exists():
            return path
    raise InputError(f"--resume: no checkpoint at {', '.join(map(str, candidates[:1]))} or in runs/; name the file")


def _numbered(parent: Path, name: str) -> Path:
    """A directory that did not exist before; two runs started at once get two."""
    parent.mkdir(exist_ok=True)
    number = 1
    while True:
        directory = parent / f"{name}-{number}"
        try:
            directory.mkdir()
        except FileExistsError:
            number += 1
        else:
            return directory
