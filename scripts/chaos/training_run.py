"""A training as real processes: followed from outside, and started again whenever its driver has ended."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import tomli_w

from scripts.chaos import records
from scripts.chaos.nodes import Nodes
from scripts.chaos.processes import Process, control_process, descendants, marked, workers
from scripts.chaos.remains import GONE_SECONDS, Remains

ENVIRONMENT = dict(os.environ)  # of all runs; as it was before any cluster was started from here
_LOOK = 0.005  # seconds between looks at how far a run is
_HANG_SECONDS = 150.0  # without a step, or until an end: longer than any limit of the engine's
_REPLACED_SECONDS = 60.0  # for another worker to be there
_DUMPS = re.compile(r"Traceback \(most recent|^\*\*\* SIG|Fatal Python error", re.MULTILINE)


class Broken(Exception):  # noqa: N818
    """The run has not survived a fault."""


class Skipped(Exception):  # noqa: N818
    """A fault is not possible here, or not now."""


class Run:
    """A training with all of its processes, and what was observed of it."""

    def __init__(
        self,
        folder: Path,
        settings: dict[str, Any],
        workers: str,
        transport: str,
        nodes: Nodes | None = None,
        disk: Path | None = None,
        finished: Path | None = None,
    ) -> None:
        """Start it. `folder` is this run's alone; `nodes` is the cluster that it runs on, or None for a Ray of
        its own; `disk` is a mounted one for its files, or None; `finished` is the directory of a run that is done.
        """
        self.folder = folder
        self.disk = disk
        self.directory = (disk or folder) / "run"
        self.finished = finished
        self.planted: os.stat_result | None = None  # status of what a fault has put in a file's place
        self.log = folder / "log"
        self.workers, self.transport = workers, transport
        self._nodes = nodes
        self.steps: list[tuple[float, int]] = []  # moments, and the step that was reached first then
        self.wrong: list[str] = []  # what should not have happened, besides deaths
        self._began = self._stepped = time.monotonic()  # moments of the last start of its driver, and of its last step
        self._before: list[Process] = []  # its processes when a fault was done to its driver
        self.remains = Remains(folder)
        self.directory.mkdir(parents=True)
        (folder / "config.toml").write_text(tomli_w.dumps(settings))
        self.begin()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def begin(self, *more: str) -> None:
        """Start it, or resume it, with `more` options."""
        options = ["--resume", "auto", "--run-dir", self.directory, "--config", self.folder / "config.toml", "--json"]
        options += ["--workers", self.workers, "--transport", self.transport]
        options += ["--address", self._nodes.address] if self._nodes else []
        options += more
        self._began = time.monotonic()
        with (self.folder / "out").open("ab") as out, self.log.open("ab") as log:
            self.driver = subprocess.Popen(
                [sys.executable, "-m", "cnnpar", "train", *map(str, options)],
                cwd=self.folder,  # python -m looks for the package there first
                stdout=out,
                stderr=log,
                env={
                    **ENVIRONMENT,
                    **(self._nodes.environment if self._nodes else {}),
                    "RAY_TMPDIR": str(self.folder),  # for the directories of its Rays, and a mark on its processes
                },
            )

    @property
    def step(self) -> int:
        """Return the furthest step that it has reached."""
        return self.steps[-1][1] if self.steps else 0

    @property
    def all_workers(self) -> list[Process]:
        """List its workers, oldest first."""
        return workers(self._nodes.raylets if self._nodes else [self.driver.pid])

    @property
    def control(self) -> Process:
        """Find its control process. Raises Skipped when there is none now."""
        found = control_process(self.driver.pid)
        if found is None:
            raise Skipped("it has no control process now")
        return found

    @property
    def metrics(self) -> Path:
        """Return the path of its metrics, wherever its directory is now."""
        return self.directory / "metrics.jsonl"

    @property
    def cluster(self) -> Nodes:
        """Return the cluster that it runs on. Raises Skipped when that is a Ray of its own."""
        if self._nodes is None:
            raise Skipped("it is on no cluster of several nodes")
        return self._nodes

    def reach(self, step: int) -> None:
        """Wait until it has reached a step. Raises Broken when it ends before, or hangs."""
        self.until(lambda: self.step >= step, f"reach step {step}")

    def until(
        self, happened: Callable[[], bool], what: str, seconds: float = _HANG_SECONDS, look: float = _LOOK
    ) -> None:
        """Wait until `happened` returns true; ask it every `look` seconds.

        Raises Broken when the run ends before, or `seconds` pass without a step; Skipped when the run is done.
        """
        step, since = self.step, time.monotonic()
        while not happened():
            code = self.driver.poll()
            if code is not None:
                self._require_unfinished(code)
                raise Broken(f"ended with {code} at step {self.step} and did not {what}")
            if self.step > step and seconds == _HANG_SECONDS:
                step, since = self.step, time.monotonic()
            if time.monotonic() - since > seconds:
                raise Broken(f"did not {what} within {seconds:g} s, at step {self.step}")
            time.sleep(look)

    def train(self) -> None:
        """Wait until it does a step after its last start."""
        self.until(lambda: self._stepped > self._began, "do a step")

    def some_worker(self, random: Random) -> Process:
        """Choose one of its workers, once it trains with them."""
        self.train()
        while not (found := self.all_workers):
            self.until(lambda: bool(self.all_workers), "have a worker", _REPLACED_SECONDS, look=0.05)
        return random.choice(found)

    def newcomer(self, random: Random) -> Process:
        """Kill a worker, and return the process that replaces it as soon as Ray has started it."""
        victim = self.some_worker(random)
        before = set(self.all_workers)
        victim.send(signal.SIGKILL)
        while not (new := set(self.all_workers) - before):
            self.until(lambda: bool(set(self.all_workers) - before), "replace a worker", _REPLACED_SECONDS, look=0.02)
        return min(new)

    def strike(self, *signals: signal.Signals) -> None:
        """Note the run's processes, and send signals to the driver; none when it is to end for another reason."""
        self._before = [
            Process.of(self.driver.pid),
            *descendants(self.driver.pid),
            *(self.all_workers if self._nodes else []),
        ]
        for number in signals:
            self.driver.send_signal(number)

    def end(self, *codes: int) -> int:
        """Wait for the driver's end, and return its exit code.

        Raises Broken when it is none of `codes`, Skipped when the run was done before.
        """
        try:
            code = self.driver.wait(_HANG_SECONDS)
        except subprocess.TimeoutExpired:
            raise Broken(f"did not end within {_HANG_SECONDS:g} s") from None
        self.remains.expect_gone(self._before, "its driver")
        if code not in codes:
            self._require_unfinished(code)
            raise Broken(f"ended with {code} instead of {' or '.join(map(str, codes))}")
        return code

    def outlive(self, strike: Callable[[], object], dead: Iterable[Process] = ()) -> None:
        """Do a fault that the driver must outlive, and wait for a step after the death of the processes `dead`.

        Raises Broken when the run ends, hangs, or does any step twice or not at all.
        """
        begin, step = records.end(self.metrics)
        strike()
        dead = list(dead)
        self.until(lambda: not any(one.alive for one in dead), "lose what was killed", GONE_SECONDS, look=0.05)
        done = records.last(self.metrics).step
        self.until(lambda: records.last(self.metrics).step > done, "do a step")
        found = records.steps(self.metrics, begin)
        if found != list(range(step + 1, step + 1 + len(found))):
            raise Broken(f"did not do each step once after step {step}: {found}")

    def recover(self) -> None:
        """Wait until it does a step after a fault that has ended, or resume it when it ended during the fault.

        Then its exit code is 1, as its last checkpoint could not be saved. Raises Broken when it does no step.
        """
        since = time.monotonic()
        while self._stepped < since and self.driver.poll() is None:
            if time.monotonic() - since > _HANG_SECONDS:
                raise Broken(f"did no step within {_HANG_SECONDS:g} s after step {self.step}")
            time.sleep(_LOOK)
        if self.driver.poll() is not None and self.end(0, 1) == 1:
            self.begin()

    def result(self) -> dict[str, Any]:
        """Return its summary, once it has ended with exit code 0."""
        summary: dict[str, Any] = json.loads((self.folder / "out").read_text().splitlines()[-1])
        return summary

    def lost(self, moments: list[float], epoch: int) -> list[float]:
        """Compute the seconds that each of the faults at these moments has cost, up to the next one or the end.

        That is the time that passed, less what as many steps take at the run's usual pace: the median over its
        stretches of `epoch` steps. Steps that are done again do not count.
        """
        epochs = zip(self.steps, self.steps[epoch:], strict=False)
        pace = median((late - early) / (high - low) for (early, low), (late, high) in epochs)
        costs = []
        for begin, end in pairwise([*moments, self.steps[-1][0]]):
            gained = self._step_at(end) - self._step_at(begin)
            costs.append(max(end - begin - pace * gained, 0.0))
        return costs

    def check_leftovers(self) -> None:
        """Note in `wrong` what is left of it some seconds after its end, and tracebacks in its log."""
        ended = time.monotonic()
        while time.monotonic() - ended < GONE_SECONDS and self._left():
            time.sleep(0.1)
        self._over.set()
        self._thread.join()
        self.wrong += [*self._left(), *self.remains.changed()]
        self.wrong += [f"in {self.log}: {dump}" for dump in _DUMPS.findall(self.log.read_text(errors="replace"))]

    def clear(self) -> None:
        """End all that is left of it, and copy its files from its disk."""
        self._over.set()
        for one in {*marked(self.folder), *(self.all_workers if self._nodes else [])}:
            one.send(signal.SIGKILL)
        self.driver.wait()
        if self.disk:
            shutil.copytree(self.disk, self.folder, dirs_exist_ok=True)
            subprocess.run(["umount", "-l", self.disk], check=False, capture_output=True)

    def _left(self) -> list[str]:
        """Name what is left of it, its note among them."""
        note = self.directory / ".running"
        noted = [f"left: {note}"] if os.path.lexists(note) else []
        return [*self.remains.left(self.all_workers if self._nodes else []), *noted]

    def _require_unfinished(self, code: int) -> None:
        if code == 0:
            raise Skipped("the run was done before")

    def _step_at(self, moment: float) -> int:
        return max((step for when, step in self.steps if when <= moment), default=0)

    def _follow(self) -> None:
        """Follow its steps, and check what killed drivers leave; runs in a thread of its own."""
        last: records.Record | None = None
        while not self._over.wait(_LOOK):
            with suppress(OSError, ValueError, IndexError):
                if (record := records.last(self.metrics)) != last:
                    last, self._stepped = record, time.monotonic()
                    if record.step > self.step:
                        self.steps.append((self._stepped, record.step))
            self.wrong += self.remains.late()
