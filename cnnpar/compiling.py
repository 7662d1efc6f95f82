"""Compilation by numba, in which no operation is fused with another or reordered: so the bits are numpy's.

numba itself is imported only when a compiled module is loaded. On its first use on a machine, a module is compiled for
seconds; numba keeps the machine code in files, from which later starts load it. Of processes that need it at the same
time one compiles, and the others wait and load what it has kept.
"""

import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, cast

from cnnpar.errors import reason

Function = TypeVar("Function", bound=Callable[..., Any])

_LOCK = ".cnnpar-compiling"  # file beside those of numba; the system releases the lock when its holder ends
_importing = threading.RLock()  # one thread at a time: numba's own lock and those of Python's imports might cross
_taken: dict[Path, str] = {}  # by file: digest of the sources of functions that its loops take from other files
_given_up = threading.Event()  # set while nobody needs any more what is being loaded


class Told:
    """Those who are told of compiling, and how long it took."""

    def __init__(self, note: Callable[[str], None]) -> None:
        """Begin with nothing compiled; `note` gets lines for people."""
        self.note = note
        self.begun = False
        self.seconds = 0.0  # for which this process has compiled


def _log(line: str) -> None:
    """Tell a script, which has asked for nothing to be told, by Python's log: by default on standard error."""
    import logging  # here, as few processes get this far

    logging.getLogger("cnnpar").warning("cnnpar: %s", line)


_told = [Told(_log)]  # the last one is told


class _NotKept(Exception):  # noqa: N818  # no fault
    """numba has not kept a loop yet; or nobody needs it any more."""


def compiled(module: str) -> Any:
    """Import a module of compiled loops; None without numba, or where it finds no place to keep what it compiles."""
    with _importing:
        return _compiled(module)


@contextmanager
def telling(note: Callable[[str], None]) -> Iterator[Told]:
    """Have `note` told, in a line for people, that something is compiled while the block runs, or cannot be."""
    _told.append(told := Told(note))
    try:
        yield told
    finally:
        _told.remove(told)


@contextmanager
def loading(load: Callable[[], object], note: Callable[[str], None]) -> Iterator[None]:
    """Have a function load compiled loops while the block runs, in a thread; what it raises is raised at the end.

    `note` is told, in lines for people, if that compiles, and how long. After an error in the block it ends soon.
    """

    def run() -> None:
        load()
        if told.seconds:
            note(f"compiled in {told.seconds:.1f} s")

    with telling(note) as told, ThreadPoolExecutor(1, "cnnpar loading") as thread:
        loaded = thread.submit(run)
        try:
            yield
            loaded.result()
        except BaseException:
            _given_up.set()
            loaded.exception()  # waits for it
            raise
        finally:
            _given_up.clear()


@cache
def _compiled(module: str) -> Any:
    if not compiles():
        return None
    try:
        return _import(module)
    except (ImportError, RuntimeError, OSError) as error:
        if str(getattr(error, "name", "")).startswith("cnnpar"):
            raise  # a module of ours is missing: not numba
        what = f"numba can compile nothing here ({reason(error)})"
        how = "NUMBA_CACHE_DIR names a folder where it may keep what it compiles"
        _told[-1].note(f"{what}, and numpy's slower loops are taken; {how}")
        return None


def _import(module: str) -> ModuleType:
    """Import a module, with its loops as numba has kept them, or compiled now, by one process at a time."""
    compiles_here = False

    def refuse(folder: str) -> None:
        raise _NotKept(folder)

    def check(_: str) -> None:
        nonlocal compiles_here
        compiles_here = True
        if _given_up.is_set():
            raise _NotKept

    try:
        with _watched(module, refuse):
            return import_module(module)
    except _NotKept as missing:
        folder = str(missing)
    told, began = _told[-1], time.monotonic()
    if not told.begun:
        told.begun = True
        told.note("compiling, once on this machine")
    with _one_at_a_time(folder), _watched(module, check):
        found = import_module(module)  # from what another process has kept meanwhile, if it has
    if compiles_here:
        told.seconds += time.monotonic() - began
    return found


@contextmanager
def _watched(module: str, compiles: Callable[[str], None]) -> Iterator[None]:
    """Have `compiles` called before numba compiles a loop of a module, with the folder where it keeps them."""
    from numba.core import event

    class Watch(event.Listener):  # type: ignore[misc]  # numba has no types
        def on_start(self, event: Any) -> None:
            dispatcher = event.data["dispatcher"]
            if dispatcher.py_func.__module__ == module:  # and not one of numba's own, or the user's
                compiles(dispatcher.stats.cache_path)

        def on_end(self, event: Any) -> None:
            pass

    with event.install_listener("numba:compile", Watch()):
        yield


@contextmanager
def _one_at_a_time(folder: str) -> Iterator[None]:
    """Keep other processes out of the block that use the same folder, where its file system has locks."""
    try:
        descriptor = os.open(Path(folder) / _LOCK, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError:  # then each process compiles for itself
        yield
        return
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def compiles() -> bool:
    """Tell whether numba is there and compiles: under NUMBA_DISABLE_JIT its loops would run in Python, pixel by pixel.

    Source: numba documentation, "Environment variables": any number but 0 disables it.
    """
    try:
        disabled = int(os.environ.get("NUMBA_DISABLE_JIT", "0"))
    except ValueError:  # numba warns of it, and compiles
        disabled = 0
    return not disabled and find_spec("numba") is not None


def inline(function: Function) -> Function:
    """Mark a function as one that is compiled into those that call it."""
    from numba import njit

    return cast("Function", njit(inline="always", error_model="numpy")(function))


def loop(*signatures: str) -> Callable[[Function], Function]:
    """Compile a function for arguments of these types, now, or take the result from numba's cache."""
    from numba import njit

    def make(function: Function) -> Function:
        made = njit(cache=True, error_model="numpy")(function)
        _forget_older(Path(made.stats.cache_path), Path(function.__code__.co_filename))
        for signature in signatures:
            made.compile(signature)
        made.disable_compile()
        return cast("Function", made)

    return make


def takes_from(file: str, *sources: ModuleType) -> None:
    """Say that the loops of a file take functions from other files, at which numba does not look: it compares one."""
    contents = b"".join(Path(str(source.__file__)).read_bytes() for source in sources)
    _taken[Path(file)] = hashlib.sha256(contents).hexdigest()


def _forget_older(folder: Path, file: Path) -> None:
    """Delete what numba keeps of a file in a folder, if that was compiled with other functions from other files."""
    digest, stamp = _taken.get(file), folder / f".{file.stem}.sources"
    with suppress(OSError):  # no place to write, where numba can keep nothing either
        if digest and (not stamp.exists() or stamp.read_text() != digest):
            for index in folder.glob(f"{file.stem}.*.nbi"):
                index.unlink(missing_ok=True)
            folder.mkdir(parents=True, exist_ok=True)
            stamp.write_text(digest)
