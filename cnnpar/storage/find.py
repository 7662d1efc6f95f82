"""Find the checkpoint that a path means: a file, or the newest one of a run's directory."""

from pathlib import Path

from cnnpar.errors import InputError
from cnnpar.storage.checkpoint import NoCheckpointError
from cnnpar.storage.lock import MODEL
from cnnpar.storage.rundir import PARENT, exists


def find_checkpoint(resume: str, directory: Path | None, to_path: Path | None) -> Path:
    """Return the checkpoint for `--resume [FILE|DIR]`. Raises InputError if there is none.

    Without an argument ("") it is that of --to-path, else of --run-dir, else of the current folder, else of the newest
    run in `runs`.
    """
    if resume:
        path = Path(resume)
        candidates = [path / MODEL if _is_folder(path) else path]
    elif to_path is not None:
        candidates = [to_path]
    elif directory is not None:
        candidates = [directory / MODEL]
    else:
        candidates = [Path(MODEL), *_newest_first(PARENT)]
    for path in candidates:
        if exists(path):
            return path
    place = "here or in runs/" if len(candidates) > 1 or candidates == [Path(MODEL)] else f"at {candidates[0]}"
    meant = _meant(Path(resume)) if resume else ""
    raise InputError(f"--resume: no checkpoint {place}; name the file or the run's directory{meant}")


def newest_in(path: Path) -> Path:
    """Return the newest checkpoint of a run's directory; a path that is no folder is returned as it is.

    Raises InputError for a folder that is no run's, and names the newest run in it; NoCheckpointError without one.
    """
    if not _is_folder(path):
        return path
    if not exists(path / MODEL):
        meant = _meant(path)
        raise (InputError if meant else NoCheckpointError)(f"{path}: no run's directory (no {MODEL} in it){meant}")
    return path / MODEL


def _is_folder(path: Path) -> bool:
    return exists(path) and path.is_dir()


def _newest_first(folder: Path) -> list[Path]:
    """Return the newest checkpoint of each run in a folder, that of the run which saved last first."""
    return sorted(folder.glob(f"*/{MODEL}"), key=lambda path: path.stat().st_mtime, reverse=True)


def _meant(folder: Path) -> str:
    """Return "; did you mean RUN?" for the newest run in a folder; "" where there is none."""
    return "".join(f"; did you mean {found.parent}?" for found in _newest_first(folder)[:1])
