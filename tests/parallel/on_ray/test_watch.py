"""The watch over a start of Ray: it tells when a process that Ray needs has ended, and of no other."""

import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cnnpar.parallel.on_ray.watch import watched_start

pytestmark = [
    pytest.mark.usefixtures("in_time"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds processes in /proc"),
]

_SECONDS = 10.0


@pytest.mark.parametrize("reaped", [False, True])
@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
def test_a_start_of_ray_ends_with_its_processes(name: str, reaped: bool, tmp_path: Path) -> None:
    told = threading.Event()
    reasons: list[str] = []

    def report(reason: str) -> None:
        reasons.append(reason)
        told.set()

    with _child(name, tmp_path) as needed, _child("monitor.py", tmp_path) as other, watched_start(report):
        other.kill()
        assert not told.wait(1.0)
        needed.send_signal(signal.SIGKILL)
        if reaped:
            needed.wait()
        assert told.wait(_SECONDS)
    assert reasons == [f"Ray has ended as it started (its {name} process is gone)"]


def test_a_process_that_ends_at_once_is_noticed(tmp_path: Path) -> None:
    told = threading.Event()
    with _child("raylet", tmp_path) as needed:
        needed.kill()
        with watched_start(lambda _: told.set()):
            assert told.wait(_SECONDS)


def _child(name: str, folder: Path) -> "subprocess.Popen[bytes]":
    """Start a process of this name, which does nothing until it is killed, or its input is closed."""
    program = folder / name
    shutil.copy("/bin/cat", program)
    return subprocess.Popen([program], stdin=subprocess.PIPE)
