"""Peers of the speed benchmarks: groups of processes that train in another library, and wait while others are measured.

Between two jobs a group's processes are stopped by a signal: a pool of threads that spins for a while, as OpenMP's
does, would take a core from whoever is measured next.
"""

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from typing import Any, NamedTuple

from scripts.harness import ROOT

LAYOUTS = ("channels-last", "channels-first")
VARIANTS = tuple(f"{layout} {mode}" for layout in LAYOUTS for mode in ("eager", "compiled"))


class Group(NamedTuple):
    """A way to train in another library."""

    title: str
    library: str  # that must be installed
    module: str  # the program of each process
    variants: tuple[str, ...]
    processes: int
    threads: int  # of each process

    @property
    def installed(self) -> bool:
        """Say whether the library is there."""
        return importlib.util.find_spec(self.library) is not None


def ddp(processes: int) -> Group:
    """Return PyTorch DDP with gloo, one thread in each process."""
    return Group(f"PyTorch DDP, {processes} processes", "torch", "peer_ddp", VARIANTS, processes, 1)


def torch(threads: int) -> Group:
    """Return PyTorch in one process."""
    return Group(f"PyTorch, {_counted(threads)}", "torch", "peer_ddp", VARIANTS, 1, threads)


def jax(threads: int) -> Group:
    """Return JAX in one process."""
    return Group(f"JAX, {_counted(threads)}", "jax", "peer_jax", LAYOUTS, 1, threads)


def _counted(threads: int) -> str:
    return f"{threads} thread{'s' * (threads > 1)}"


class Peers:
    """The running processes of a group, which are measured together."""

    def __init__(self, group: Group) -> None:
        """Start the processes, and wait until all have imported their library and found each other."""
        self.group = group
        self.idle = 0.0  # CPU seconds spent between jobs
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        environment = {**os.environ, **_environment(group)}
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", f"scripts.bench.{group.module}", *_options(group, rank)],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env=environment,
                text=True,
                bufsize=1,
            )
            for rank in range(group.processes)
        ]
        for process in self._processes:
            self._answer(process)
        self._signal(signal.SIGSTOP)

    def measure(self, name: str, batch: int, variant: str, seconds: float) -> dict[str, Any]:
        """Return `rate` and `rule`, or `error`. Raises RuntimeError when a process died."""
        return self.ask({"action": "measure", "task": name, "batch": batch, "variant": variant, "seconds": seconds})

    def ask(self, job: dict[str, Any]) -> dict[str, Any]:
        """Give all processes a job, and return the answer of the first. Raises RuntimeError when one died."""
        self._signal(signal.SIGCONT)
        answers: list[dict[str, Any]] = []
        for process in self._processes:
            assert process.stdin is not None
            with suppress(BrokenPipeError):  # it died, which reading shows
                print(json.dumps(job), file=process.stdin)
        for process in self._processes:
            answers.append(self._answer(process))
            self.idle += answers[-1]["idle"]
        self._signal(signal.SIGSTOP)
        return answers[0]

    def close(self) -> None:
        """End the processes by closing their input."""
        self._signal(signal.SIGCONT)
        for process in self._processes:
            process.communicate()
        self._log.close()

    def _answer(self, process: "subprocess.Popen[str]") -> dict[str, Any]:
        """Read the next line that a process writes."""
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            self._log.seek(0)
            raise RuntimeError(f"a process of {self.group.title} died:\n{self._log.read()[-2000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _signal(self, number: signal.Signals) -> None:
        for process in self._processes:
            process.send_signal(number)


def _options(group: Group, rank: int) -> list[str]:
    if group.library == "jax":
        return []
    return [f"--rank={rank}", f"--processes={group.processes}", f"--threads={group.threads}"]


def _environment(group: Group) -> dict[str, str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": str(group.threads),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",  # no pool of compilers that stays around
        "NPROC": str(group.threads),  # XLA's
        "JAX_PLATFORMS": "cpu",
    }
