"""Faults of the files in a run's directory: swapped for another run's, stolen, replaced by links and pipes."""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

import msgspec

from cnnpar.storage.holder import Holder
from scripts.chaos.training_run import Broken, Run, Skipped

_NOTE = ".running"
_REFUSED = "metrics.jsonl", "best.json"  # a run does not start with anything but a file there
_BETWEEN = *_REFUSED, ".model.json.tmp", ".best.json.tmp", "accuracy.png", "config.toml"
_MEANWHILE = "metrics.jsonl", "best.json", ".model.json.tmp", "model.prev.json", "accuracy.png", "config.toml"
_SAVED_SECONDS = 100.0  # for two more checkpoints


def directory_swapped(run: Run, random: Random) -> None:
    """Move the run's directory away and another run's to its place: that run's files must stay as they are."""
    if run.finished is None:
        raise Skipped("there is no other run")
    run.train()
    place, away, other = run.directory, _new(run.directory, "away"), _new(run.directory, "other")
    shutil.copytree(run.finished, other)
    run.remains.protect(place, like=other)

    def swap() -> None:
        place.rename(away)
        time.sleep(random.choice([0.0, random.uniform(0.0, 0.5)]))
        other.rename(place)
        run.directory = away

    run.outlive(swap)
    _wait_for_checkpoints(run)
    _require_unchanged(run)


def note_stolen(run: Run, random: Random) -> None:
    """Remove or replace `.running` while the run trains, and perhaps kill the driver and resume over what is there."""
    run.train()
    note = run.directory / _NOTE
    how = random.choice(["removed", "another's", "link", "pipe"])

    def steal() -> None:
        if how == "removed":
            note.unlink()
        else:
            _plant(run, note, how, random)

    try:
        run.outlive(steal)
        if random.random() < 0.5:
            run.strike(signal.SIGKILL)
            run.end(-signal.SIGKILL)
            run.begin()
            run.train()
    finally:
        _put_back(run, note, None)  # else it would stay when the run ends: it is not the run's
    _require_unchanged(run)


def planted_between_resumes(run: Run, random: Random) -> None:
    """Stop the driver, put a link or a pipe in the place of one of its files, and resume it.

    It must replace that, do without it, or name it and end with exit code 2.
    """
    file = run.directory / random.choice(_BETWEEN)
    run.strike(signal.SIGTERM)
    run.end(143)
    with _planted(run, file, random):
        said = run.log.stat().st_size
        run.begin()
        if file.name not in _REFUSED:
            _wait_for_checkpoints(run)
        elif run.end(2) and f"error: {file}" not in run.log.read_bytes()[said:].decode():
            raise Broken(f"did not name {file}")
    if file.name in _REFUSED:
        run.begin()
    run.recover()
    _require_unchanged(run)


def planted_meanwhile(run: Run, random: Random) -> None:
    """Put a link or a pipe in the place of one of the run's files while it trains."""
    run.train()
    with _planted(run, run.directory / random.choice(_MEANWHILE), random):
        _wait_for_checkpoints(run)
    run.recover()
    _require_unchanged(run)


@contextmanager
def _planted(run: Run, file: Path, random: Random) -> Iterator[None]:
    """Have a link or a pipe in the place of a file while the block runs."""
    kept = file.with_name(f"{file.name}.kept")
    with suppress(FileNotFoundError):
        os.link(file, kept)
    _plant(run, file, random.choice(["link", "pipe"]), random)
    try:
        yield
    finally:
        _put_back(run, file, kept)


def _plant(run: Run, file: Path, how: str, random: Random) -> None:
    """Put a link to a protected file, a pipe, or the note of another run in the place of a file, at once."""
    new = file.with_name(".planted")
    if how == "pipe":
        os.mkfifo(new)
    elif how == "link":
        behind = _new(run.folder / "behind", "behind")
        behind.write_bytes(b"somebody's own file\n" * 100)
        run.remains.protect(behind)
        new.symlink_to(behind)
    else:
        pid = random.choice([1, os.getpid()])
        other = Holder(os.uname().nodename, pid, "2026-01-01 00:00+00:00", f"{random.getrandbits(128):032x}")
        new.write_bytes(msgspec.json.encode(other))
    run.planted = new.lstat()
    new.rename(file)


def _put_back(run: Run, file: Path, kept: Path | None) -> None:
    """Remove what was planted, unless the run has; put back the file that was kept."""
    with suppress(FileNotFoundError):
        if run.planted is not None and os.path.samestat(file.lstat(), run.planted):
            file.unlink()
            if kept is not None:
                kept.rename(file)
    if kept is not None:
        kept.unlink(missing_ok=True)


def _wait_for_checkpoints(run: Run) -> None:
    """Wait until the run has saved two checkpoints."""
    seen: set[int] = set()

    def saved() -> bool:
        with suppress(FileNotFoundError):
            seen.add((run.directory / "model.json").lstat().st_mtime_ns)
        return len(seen) > 2

    run.until(saved, "save its checkpoints", _SAVED_SECONDS, look=0.05)


def _require_unchanged(run: Run) -> None:
    """Raise Broken when a protected file has changed."""
    if changed := run.remains.changed():
        raise Broken("; ".join(changed))


def _new(beside: Path, word: str) -> Path:
    """Choose a path beside another that nothing has."""
    return next(new for number in range(1, 1000) if not (new := beside.with_name(f"{word}-{number}")).exists())
