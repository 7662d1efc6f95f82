"""Faults of the disk, and of the run's directory."""

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

from scripts.chaos.training_run import Run, Skipped

_DISK_SIZE = "16m"
_BLOCK = b"\0" * 65536


def directory_away(run: Run, random: Random) -> None:
    """Move the run's directory away, and back later."""
    run.train()
    away = run.directory.with_name("away")
    run.directory.rename(away)
    time.sleep(random.uniform(0.5, 3.0))
    _move_back(away, run.directory)
    run.recover()


def metrics_a_directory(run: Run, random: Random) -> None:
    """Put a directory in the place of metrics.jsonl for a while."""
    run.train()
    metrics, kept = run.directory / "metrics.jsonl", run.directory / "metrics.kept"
    metrics.rename(kept)
    with suppress(FileExistsError):  # it has been made anew meanwhile
        metrics.mkdir()
    time.sleep(random.uniform(0.3, 1.5))
    with suppress(OSError):
        metrics.rmdir()
    kept.replace(metrics)
    run.recover()


def disk_full(run: Run, random: Random) -> None:
    """Fill the disk for a while."""
    run.train()
    with _full(run):
        time.sleep(random.uniform(0.5, 3.0))
    run.recover()


def disk_full_and_driver_killed(run: Run, random: Random) -> None:
    """Fill the disk, and send the driver SIGKILL meanwhile: the last checkpoint must be good."""
    with _full(run):
        time.sleep(random.uniform(0.2, 1.5))
        run.strike(signal.SIGKILL)
        run.end(-signal.SIGKILL)
    run.begin()


def disk_read_only(run: Run, random: Random) -> None:
    """Make the file system read-only for a while."""
    disk = _disk(run)
    run.train()
    run.until(lambda: _remount(disk, "ro"), "close its files for a moment", 30.0)
    try:
        time.sleep(random.uniform(0.5, 3.0))
    finally:
        _remount(disk, "rw")
    run.recover()


def mount(place: Path) -> Path | None:
    """Mount a small disk at a place, which is made; None where mounting is not allowed."""
    place.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_SIZE}", "cnnpar-chaos", str(place)]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError:
        return None
    return place if done.returncode == 0 else None


def _disk(run: Run) -> Path:
    if run.disk is None:
        raise Skipped("mounting is not allowed here")
    return run.disk


def _remount(disk: Path, how: str) -> bool:
    """Try to remount the disk "rw" or "ro"; it cannot become read-only while a file is open for writing."""
    command = ["mount", "-o", f"remount,{how}", str(disk)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@contextmanager
def _full(run: Run) -> Iterator[None]:
    """Fill the disk while the block runs, also the room that the run frees."""
    filler = _disk(run) / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        for _ in range(4):  # more than once: a checkpoint that could not be written leaves room again
            with suppress(OSError):
                while True:
                    file.write(_BLOCK)
            time.sleep(0.05)
    try:
        yield
    finally:
        filler.unlink()


def _move_back(away: Path, directory: Path) -> None:
    """Move the directory back; files of one that was made anew meanwhile are newer, and replace its own."""
    if directory.exists():
        for file in directory.iterdir():
            with suppress(OSError):
                file.replace(away / file.name)
        directory.rmdir()
    away.rename(directory)
