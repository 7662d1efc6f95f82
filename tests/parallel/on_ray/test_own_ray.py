"""A Ray of a run's own, for real: its death, its private directory, a second account, and what is left in the end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

import pytest

from cnnpar.config.sections import Engine
from cnnpar.parallel.on_ray import launcher as launcher_module
from cnnpar.parallel.on_ray import session as session_module
from cnnpar.parallel.on_ray.environment import meant_address
from cnnpar.parallel.on_ray.launcher import RayLauncher
from cnnpar.parallel.on_ray.session import end_abandoned
from cnnpar.parallel.server import Server
from cnnpar.parallel.start import start
from tests.helpers.limits import HANGING
from tests.helpers.made_runs import At, fail, made_run, step_until, trained

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("in_time")]

STRANGER = 65534  # a user id that is nobody's who runs this
PARTS = ("RuntimeEnvAgent", "DashboardAgent", "raylet/raylet", "gcs_server", "on_ray.control")
HARMLESS = "monitor.py"


@pytest.fixture(autouse=True)
def not_attached(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a Ray of its own also where other tests have attached this process to theirs."""
    monkeypatch.setattr(launcher_module, "_attached_to", lambda settings: (meant_address(settings), None))


@contextmanager
def own_ray(
    warn: Callable[[str], None], transport: Literal["direct", "ray"] = "direct"
) -> Iterator[tuple[Server, RayLauncher]]:
    """Give a server with two workers on a Ray of its own, and its launcher."""
    _, work, data = made_run()
    settings = Engine(workers=2, transport=transport, deadline_floor=60.0)
    server = start(settings, work, data, warn, lambda: False)
    launcher = server._transport._launcher  # type: ignore[attr-defined]
    try:
        yield server, launcher
    finally:
        server.close()


def processes(launcher: RayLauncher, part: str = "") -> list[int]:
    """List the processes of its Ray, which are in the control process's session, by a part of their command lines."""
    assert launcher._control is not None
    session, found = launcher._control._process.pid, []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(folder.name)) == session and part in (folder / "cmdline").read_text():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that has ended may wait for its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def kill(launcher: RayLauncher, part: str) -> None:
    """Kill the process of its Ray that has this in its command line, and wait until that is noticed."""
    os.kill(processes(launcher, part)[0], signal.SIGKILL)
    if part != HARMLESS:
        with launcher._changed:
            assert launcher._changed.wait_for(lambda: not launcher._up, HANGING)


@pytest.mark.parametrize("transport", ["direct", "ray"])
def test_a_run_outlives_each_process_of_its_ray(alone: str, transport: Literal["direct", "ray"]) -> None:
    settings, work, _ = made_run()
    notes: list[str] = []
    with own_ray(notes.append, transport) as (server, launcher):
        deeds = {2 * number + 1: partial(kill, launcher, part) for number, part in enumerate((*PARTS, HARMLESS))}
        assert trained(settings, work, server, At(deeds)).digest == alone
        assert server.exact
        step_until(server, lambda: server.workers == 2)
        last = processes(launcher)
        assert last
    assert len([text for text in notes if text.endswith("starting it again")]) == len(PARTS)
    assert not any(map(alive, last))


def test_without_ray_the_run_goes_on_in_this_process(alone: str) -> None:
    settings, work, _ = made_run()
    notes: list[str] = []
    with own_ray(notes.append) as (server, launcher):

        def ruin() -> None:
            launcher._environment["PYTHONHOME"] = "/nonexistent"  # no Python starts with it
            kill(launcher, "on_ray.control")

        assert trained(settings, work, server, At({3: ruin})).digest == alone
        assert server.workers == 1
    assert notes[-2].endswith("the run goes on in this process, without Ray")
    assert notes[-1] == f"worker {notes[-1].split()[1]} has come"


def test_the_directory_is_private_and_ends_with_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / ("long" * 40)))
    common = Path("/tmp/ray")
    before = common.stat().st_mtime_ns if common.exists() else None
    with own_ray(fail) as (_, launcher):
        assert launcher._control is not None
        session = launcher._control._session
        assert session is not None
        assert list(session.temporary.glob("session_*/sockets/*"))
        assert session.directory.stat().st_mode & 0o777 == 0o700
    assert not session.directory.exists()
    assert (common.stat().st_mtime_ns if common.exists() else None) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be a second account")
def test_a_second_account_can_neither_plant_links_nor_sockets() -> None:
    with own_ray(fail) as (_, launcher):
        assert launcher._control is not None
        session = launcher._control._session
        assert session is not None
        (ray,) = session.temporary.glob("session_2*")
        attempts = {
            "a link among the logs": f"ln -s /etc/hostname {ray}/logs/planted",
            "a socket's place": f"mv {ray}/sockets/raylet {ray}/sockets/taken",
            "a look": f"ls {ray}",
            "the whole directory": f"mv {session.directory} {session.directory}-taken",
        }

        def succeeds(attempt: str) -> bool:
            command = ["/bin/sh", "-c", attempts[attempt]]
            return (
                subprocess.run(command, user=STRANGER, group=STRANGER, capture_output=True, check=False).returncode == 0
            )

        assert not [attempt for attempt in attempts if succeeds(attempt)]
        session.directory.chmod(0o755)  # Ray's own directories would not keep anybody out
        assert succeeds("a look")
        assert succeeds("a link among the logs")


def test_what_a_killed_run_leaves_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control process shuts its Ray down; when that is killed too, the next start does."""
    monkeypatch.setattr(session_module.Session, "end", lambda self: os.close(self.lock))  # as if this were killed
    with own_ray(fail) as (_, launcher):
        assert launcher._control is not None
        left, session = processes(launcher), launcher._control._session
        assert session is not None
        end_abandoned()
        assert all(map(alive, left)), "it is not abandoned"
        launcher._closing = True
        launcher._control.kill()
        launcher._thread.join()
    assert session.directory.exists()
    end_abandoned()
    assert not session.directory.exists()
    assert not any(map(alive, left))


def test_shared_code_is_not_run_and_streams_may_be_closed(tmp_path: Path) -> None:
    """Run the command, as installed, in a folder where others have put modules, without standard streams."""
    ran = tmp_path / "ran"
    for name in ("json", "cnnpar", "numpy", "cloudpickle", "secrets"):
        (tmp_path / f"{name}.py").write_text(f"open({str(ran)!r}, 'a').write('{name} '); raise ImportError")
    code = (
        "import sys; sys.path[:0] = sys.argv.pop(1).split(); from cnnpar.cli.programs import main_train; main_train()"
    )
    command = [sys.executable, "-P", "-c", code, str(Path.cwd()), "--workers", "2", "--epochs", "1", "--run-dir", "r"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command], cwd=tmp_path, env=environment, check=False
    )
    assert not ran.exists(), ran.read_text()
    assert done.returncode == 0


def test_a_ray_ends_with_its_run_while_a_forked_process_lives() -> None:
    code = """
import os, signal, sys
from tests.parallel.on_ray.test_own_ray import own_ray
with own_ray(lambda text: None) as (server, launcher):
    if os.fork() == 0:
        sys.stdin.read()  # with all descriptors of the run
        os._exit(0)
    print(launcher._control._process.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    run = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    control = int(run.stdout.readline())
    until = time.monotonic() + HANGING
    while alive(control) and time.monotonic() < until:
        os.sched_yield()
    assert not alive(control)
    run.communicate()
