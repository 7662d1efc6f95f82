"""A locked folder that stays open: files are written into that very one, wherever it is moved to."""

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path

from cnnpar.errors import InputError
from cnnpar.storage.holder import NOTE, take


def open_locked(path: Path, kind: int, option: str, warn: Callable[[str], None]) -> int:
    """Open a folder and lock it (LOCK_EX or LOCK_SH); return its descriptor.

    Raises OSError where there is none, InputError if another process has the lock; see `take`.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        take(descriptor, kind, path, descriptor, NOTE, option, warn)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


class Folder:
    """A folder of a run's files, opened and locked.

    What is written relative to `descriptor` is in the folder that was opened, also after somebody has moved it away and
    put another in its place. The descriptor keeps its number when a folder that was removed is opened anew.
    """

    def __init__(self, path: Path, kind: int, option: str, warn: Callable[[str], None]) -> None:
        """Open and lock a folder, as `open_locked` does."""
        self.path = path
        self.descriptor = open_locked(path, kind, option, warn)
        self._kind = kind
        self._option = option
        self._warn = warn
        self._told = path  # where the folder is, as far as the user knows

    def place(self) -> Path:
        """Return where the folder is now: its path, unless it was moved."""
        if self._at_its_path() or self._removed():
            return self.path
        with contextlib.suppress(OSError):  # a system without /proc
            return Path(f"/proc/self/fd/{self.descriptor}").readlink()
        return self.path

    def require(self, check: Callable[[int], None]) -> bool:
        """Raise OSError while files cannot be in this folder; tell whether it was opened anew.

        One that was moved is written to where it is, and `warn` is told so once. One that was removed is opened anew
        where there is one of the same path that no other run holds, and `check` of its descriptor raises no OSError.
        """
        if self._at_its_path():
            return False
        if not self._removed():
            if (place := self.place()) not in (self._told, self.path):
                self._told = place
                self._warn(f"{self.path}: was moved, and the run goes on writing its files where they are: {place}")
            return False
        try:
            descriptor = open_locked(self.path, self._kind, self._option, self._warn)
        except InputError as error:
            raise OSError(errno.EBUSY, "another run has taken its place") from error
        try:
            check(descriptor)
            os.dup2(descriptor, self.descriptor, inheritable=False)  # at once, as another thread may be writing
        finally:
            os.close(descriptor)
        return True

    def close(self) -> None:
        """Close the folder, which releases its lock."""
        os.close(self.descriptor)

    def _at_its_path(self) -> bool:
        try:
            found = self.path.stat()
        except OSError:
            return False
        return os.path.samestat(found, os.fstat(self.descriptor))

    def _removed(self) -> bool:
        return os.fstat(self.descriptor).st_nlink == 0
