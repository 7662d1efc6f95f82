"""The watch over a start of Ray: it tells when a process that Ray needs has ended, and of no other."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cnnpar.parallel.on_ray.start_watch import StartWatch

pytestmark = [
    pytest.mark.usefixtures("in_time"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds processes in /proc"),
]


@pytest.mark.parametrize("reaped", [False, True])
@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
def test_a_start_of_ray_ends_with_its_processes(name: str, reaped: bool, tmp_path: Path) -> None:
    watch = StartWatch(os.getpid())
    with _child(name, tmp_path) as needed, _child("monitor.py", tmp_path) as other:
        assert watch.death() is None
        _end(other)
        assert watch.death() is None
        _end(needed)
        if reaped:
            needed.wait()
        assert watch.death() == f"Ray has ended as it started (its {name} process is gone)"


def test_a_process_that_ended_before_the_first_look_is_missed(tmp_path: Path) -> None:
    watch = StartWatch(os.getpid())
    with _child("raylet", tmp_path) as needed:
        _end(needed)
        assert watch.death()


def test_the_children_of_another_process_do_not_matter(tmp_path: Path) -> None:
    with _child("raylet", tmp_path) as needed:
        _end(needed)
        assert StartWatch(needed.pid).death() is None


def _child(name: str, folder: Path) -> "subprocess.Popen[bytes]":
    """Start a process of this name, which does nothing until it is killed, or its input is closed."""
    program = folder / name
    shutil.copy("/bin/cat", program)
    return subprocess.Popen([program], stdin=subprocess.PIPE)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process, and wait for its end, but leave it to be waited for."""
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
