"""The control process as the run starts it: what it imports, what it inherits, and what a failed start leaves."""

import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cnnpar.config.sections import Engine
from cnnpar.errors import InputError, RunError
from cnnpar.parallel.direct.samples import Samples
from cnnpar.parallel.on_ray import launcher as launcher_module
from cnnpar.parallel.on_ray import session as session_module
from cnnpar.parallel.on_ray.process import ControlProcess
from cnnpar.parallel.start import start
from tests.helpers.made_runs import fail, made_run

pytestmark = pytest.mark.usefixtures("in_time")

_ORDER: Any = None  # is not sent: the channel is closed
ENDED = "the process that talks to Ray was ended with exit code 0"


@pytest.fixture(autouse=True)
def unattached(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make nothing of the cluster that other tests have attached this process to."""
    monkeypatch.setattr(launcher_module, "_attached_to", lambda settings: (settings.address, None))


def descriptors() -> Counter[str]:
    """Name what this process has open of the kinds that a start opens: of pipes and sockets each has its own name."""
    names = (str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.exists())
    return Counter(name for name in names if name.startswith(("pipe:", "socket:", "/memfd:", "anon_inode:", "/tmp/")))


def begun_and_ended() -> str:
    """Start a control process, close its channel, and return the reason of its end: 0 if it came as far as to look."""
    samples = Samples.of(made_run()[2])
    process = ControlProcess(None, samples, os.environ)
    try:
        process.channel.close()
        with pytest.raises(OSError, match="closed"):
            process.begin(_ORDER)
        return process.why_ended()
    finally:
        process.end()
        samples.memory.close()


@contextmanager
def closed_standard_streams() -> Iterator[None]:
    kept = [os.dup(number) for number in range(3)]
    os.closerange(0, 3)
    try:
        yield
    finally:
        for number, descriptor in enumerate(kept):
            os.dup2(descriptor, number)
            os.close(descriptor)


def test_nothing_is_imported_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path.cwd())  # "" may be where cnnpar is imported from
    for name in ("json", "cnnpar", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(3)")
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if folder])
    monkeypatch.chdir(tmp_path)
    assert begun_and_ended() == ENDED


def test_it_starts_where_standard_streams_are_closed() -> None:
    with closed_standard_streams():
        reason = begun_and_ended()
    assert reason == ENDED


def test_it_starts_in_a_folder_that_was_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(Path(folder).absolute()) for folder in sys.path] + ["", b"bytes"])
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert begun_and_ended() == ENDED


def test_a_process_that_cannot_start_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    _, work, data = made_run()
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with tempfile.TemporaryDirectory(prefix="p", dir="/tmp") as name:
        monkeypatch.setattr(session_module, "_bases", lambda: [Path(name)])
        before = descriptors()
        with pytest.raises(RunError, match="cannot start a process for Ray: No such file"):
            start(Engine(workers=1, start_timeout=0.1), work, data, lambda _: None, lambda: False)
        assert not list(Path(name).iterdir())
    assert not descriptors() - before


def test_a_start_that_is_refused_gives_the_samples_memory_back() -> None:
    _, work, data = made_run()
    before = descriptors()
    with pytest.raises(InputError, match="expected `auto` or HOST:PORT"):
        start(Engine(workers=1, address="nonsense"), work, data, fail, lambda: False)
    assert not descriptors() - before


def test_standard_streams_that_were_closed_are_no_files_of_a_run() -> None:
    code = (
        "import os; from cnnpar.cli.console import _keep_standard_streams as keep; keep();"
        "assert {os.readlink(f'/proc/self/fd/{number}') for number in range(3)} == {'/dev/null'}"
    )
    done = subprocess.run(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", code], check=False)
    assert done.returncode == 0
