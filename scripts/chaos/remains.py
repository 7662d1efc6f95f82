"""What must not be left of a run after it has ended or its Ray has died, and files that it must not change."""

import time
from collections.abc import Iterable
from pathlib import Path

from scripts.chaos.processes import Process, left_in_shm, marked

GONE_SECONDS = 10.0  # for all that belonged to a run, or to its Ray, to be gone
_SESSIONS = "cnnpar-ray-*"  # private directories of its Rays, one each

Content = dict[str, bytes | None]  # of files, by their paths


class Remains:
    """Processes, directories and files that belong to one run, or are beside it."""

    def __init__(self, folder: Path) -> None:
        """Begin to look. `folder` is the run's alone."""
        self._folder = folder
        self._in_shm = {path.name for path in Path("/dev/shm").iterdir()}
        self._dead: list[tuple[float, str, list[Process]]] = []  # from when on, after what, and what must be gone
        self._unchanged: dict[Path, Content] = {}

    def expect_gone(self, processes: Iterable[Process], after: str) -> None:
        """Expect these processes to be gone some seconds from now."""
        self._dead.append((time.monotonic(), after, list(processes)))

    def late(self) -> list[str]:
        """Name the processes that should have gone by now; each once."""
        now = time.monotonic()
        due = [entry for entry in self._dead if now - entry[0] > GONE_SECONDS]
        self._dead = [entry for entry in self._dead if entry not in due]
        return [
            f"{GONE_SECONDS:g} s after {after}: {one.title[:80]}" for _, after, left in due for one in left if one.alive
        ]

    def sessions(self) -> list[Path]:
        """List the private directories of Rays that there are."""
        return sorted(self._folder.glob(_SESSIONS))

    def left(self, workers: Iterable[Process]) -> list[str]:
        """Name what is left after the run's end: processes, `workers` among them, directories, shared memory."""
        found = {one for _, _, left in self._dead for one in left} | {*marked(self._folder), *workers}
        return [
            *(f"orphan: {one.title[:80]}" for one in found if one.alive),
            *(f"left: {path}" for path in self.sessions()),
            *(f"left in /dev/shm: {name}" for name in left_in_shm(self._in_shm)),
        ]

    def protect(self, path: Path, like: Path | None = None) -> None:
        """Expect a file, or all files of a folder, to stay as they are now, or as those at `like` are now."""
        self._unchanged[path] = _content(like or path)

    def changed(self) -> list[str]:
        """Name the protected files and folders that are not as they were."""
        return [f"changed: {path}" for path, content in self._unchanged.items() if _content(path) != content]


def _content(path: Path) -> Content:
    """Read a file, or all that is in a folder: bytes, and None for what is no file."""
    found = path.rglob("*") if path.is_dir() else [path]
    return {
        str(file.relative_to(path)): file.read_bytes() if file.is_file() and not file.is_symlink() else None
        for file in found
    }
