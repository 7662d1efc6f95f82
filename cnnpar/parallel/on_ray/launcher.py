"""Launcher of workers on Ray: keeps a control process, and another one when that one, or its Ray, has died.

This file runs in the run's own process, and does not import ray. A thread follows the control process. While there is
none, no worker can be had; after too many attempts the run goes on with a worker that is a thread of this process.
"""

import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import wait
from typing import Any

from cnnpar.config.sections import Engine
from cnnpar.errors import InputError, RunError, reason, reason_of_any
from cnnpar.fingerprint import fingerprint
from cnnpar.parallel.direct.handshake import Endpoint
from cnnpar.parallel.direct.samples import Samples
from cnnpar.parallel.direct.worker import serve
from cnnpar.parallel.launcher import News, Started
from cnnpar.parallel.mailbox import Mailbox
from cnnpar.parallel.on_ray.address import check_address
from cnnpar.parallel.on_ray.environment import meant_address, ray_environment
from cnnpar.parallel.on_ray.orders import Begin, Close, Ended, Failed, Kill, Order, Report, Serve, Shortage, Start, Up
from cnnpar.parallel.on_ray.pickling import pickle_work, unpickle_work
from cnnpar.parallel.on_ray.process import ControlProcess
from cnnpar.parallel.on_ray.room import check_room
from cnnpar.parallel.on_ray.session import Session, end_abandoned
from cnnpar.parallel.on_ray.start_watch import StartWatch
from cnnpar.parallel.transport import ClusterBack, ClusterGivenUp, ClusterGone
from cnnpar.parallel.work import Work

_MOST_FAILURES = 3  # in a row, of a Ray of our own that is started again
_PAUSES = (0.0, 0.5, 1.0, 2.0)  # seconds before the next attempt; the last for all further ones
_LOOK = 0.5  # seconds between looks at the clock
_SOON, _PATIENCE = 1.0, 10.0  # seconds before the first line of text while Ray starts, and between further ones
_END_SECONDS = 15.0  # for the control process and its Ray to end
_SLACK = 30.0  # seconds beyond `cluster_timeout`, after which the run fails if it hears nothing


class RayLauncher:
    """Starts and ends workers on Ray, by a control process."""

    def __init__(self, settings: Engine, work: Work, samples: Samples, warn: Callable[[str], None]) -> None:
        """Have a control process attach to Ray or start it, and wait for that.

        `warn` gets a line of text when that takes long or more than one attempt. Raises InputError for an address that
        cannot be one, and for more workers than memory; RunError when the cluster is missing or too small.
        """
        self.news: Mailbox[News] = Mailbox()
        self.host = ""  # known once Ray is there
        self._settings = settings
        self._pickled = pickle_work(work)
        self._libraries = work.libraries
        self._samples = samples
        self._warn = warn
        self._address, self._runtime_env = _attached_to(settings)
        self._cpus = 0 if self._address else check_room(settings, warn)
        self._environment = ray_environment(settings)
        self._orders: Mailbox[Order] = Mailbox()
        self._changed = threading.Condition()  # guards what follows
        self._control: ControlProcess | None = None
        self._up = False  # there is a cluster
        self._known = False  # there was one at some time
        self._worked = False  # the one that there is, or was, has had a worker
        self._alone = self._closing = False
        self._failure: Failed | None = None  # why there is no cluster
        self._shortage = ""
        self._ended: dict[int, str] = {}  # workers whose connection has ended, and why
        self._thread = threading.Thread(target=self._supervise, name="cnnpar ray", daemon=True)
        self._thread.start()
        try:
            # Two attempts at most are under way in that time, of which the second may begin late.
            began, told, longest = time.monotonic(), 0, 2 * settings.start_timeout + _SLACK
            with self._changed:
                while not self._known and self._thread.is_alive() and time.monotonic() - began < longest:
                    self._changed.wait(_LOOK)  # not longer, so that signals are noticed
                    if time.monotonic() - began > (told * _PATIENCE or _SOON):
                        warn(f"Ray is still starting, after {told * _PATIENCE:g} s" if told else _starting(settings))
                        told += 1
            if not self._known:
                failure = self._failure or Failed(f"Ray did not start within {longest:g} s")
                raise (InputError if failure.usage else RunError)(failure.reason)
        except BaseException:
            self.close()
            raise

    def start(self, worker: int) -> None:
        """Start a worker; `news` reports when it is up, or why it cannot be had."""
        if self._alone:
            self.news.put(Started(worker, here=True))
        elif self._up:  # else the server is about to learn that the cluster is gone
            self._orders.put(Start(worker))

    def serve(self, worker: int, endpoint: Endpoint, key: bytes) -> None:
        """Have a worker that is up connect to the server."""
        if self._alone:
            threading.Thread(target=self._work, args=(worker, endpoint, key), name="cnnpar worker", daemon=True).start()
        else:
            self._orders.put(Serve(worker, endpoint, key))

    def why_ended(self, worker: int, seconds: float) -> str | None:
        """Return the reason why the worker's connection ended, within so many seconds; None while it goes on."""
        with self._changed:
            self._changed.wait_for(lambda: worker in self._ended or not (self._up or self._alone), seconds)
            return self._ended.get(worker)

    def kill(self, worker: int) -> None:
        """End the worker's process, even if it is stopped."""
        self._orders.put(Kill(worker))

    def shortage(self) -> str:
        """Return the reason why workers are missing, and what to do about it; empty if none is known."""
        return self._failure.reason if self._failure else self._shortage

    def close(self) -> None:
        """End all workers, and a Ray of our own. May be called twice."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._orders.put(Close())
        self._thread.join(_END_SECONDS)
        if self._control is not None and self._thread.is_alive():
            self._control.kill()
            self._thread.join(_END_SECONDS)
        self.news.close()
        self._orders.close()

    def _work(self, worker: int, endpoint: Endpoint, key: bytes) -> None:
        """Be a worker, in a thread of this process."""
        ended = "it hung up"
        try:
            serve(unpickle_work(self._pickled), endpoint, key, worker, self._samples.layout)
        except Exception as error:  # of whatever kind, as in an actor
            ended = reason_of_any(error)
        with self._changed:
            self._ended[worker] = ended
            self._changed.notify_all()

    def _supervise(self) -> None:
        """Keep a control process until the run ends, in a thread of its own."""
        end_abandoned()
        until = time.monotonic() + self._settings.start_timeout  # for the first start
        failures = 0
        while True:
            failure = self._live()
            failures = 1 if self._worked else failures + 1
            with self._changed:
                gone, self._up, self._worked, self._failure = self._up, False, False, failure
                self._changed.notify_all()
                if self._closing:
                    return
            if not self._known and (self._address or failure.usage or time.monotonic() > until):
                if not self._address:
                    more = f" ({failures} attempts)" if failures > 1 else ""
                    self._failure = Failed(f"{failure.reason}{more}; --workers 0 trains without Ray")
                return
            if self._known and failures > _MOST_FAILURES and self._settings.fallback and not self._address:
                self._alone = True
                self.news.put(ClusterGivenUp(f"{failure.reason}; the run goes on in this process, without Ray"))
                return
            if gone:
                remedy = "attaching again" if self._address else "starting it again"
                seconds = self._settings.cluster_timeout + (0.0 if self._address else _SLACK)
                self.news.put(ClusterGone(failure.reason, remedy, seconds))
            elif not self._known:
                self._warn(f"{failure.reason}; trying again")
            with self._changed:
                self._changed.wait_for(lambda: self._closing, _PAUSES[min(failures, len(_PAUSES)) - 1])

    def _live(self) -> Failed:
        """Begin a control process, follow it to its end, and return the reason of that."""
        session = None
        try:
            if self._address:
                check_address(self._address, given=bool(self._settings.address))
            else:
                session = Session()
            self._control = ControlProcess(session, self._samples, self._environment)
        except (InputError, RunError, OSError) as error:
            if session is not None:
                session.end()
            if isinstance(error, OSError):
                return Failed(f"cannot start a process for Ray: {reason(error)}")
            return Failed(str(error), isinstance(error, InputError))
        try:
            with suppress(OSError):  # it has ended already, which is noticed at once
                self._control.begin(self._begin(session))
            return self._follow(self._control)
        except Exception as error:  # of whatever kind: it must reach the user, and not end the thread unseen
            return Failed(f"the process that talks to Ray is not understood: {reason_of_any(error)}")
        finally:
            self._control.end()

    def _begin(self, session: Session | None) -> Begin:
        """Return the first order."""
        return Begin(
            settings=self._settings,
            pickled=self._pickled,
            layout=self._samples.layout,
            fingerprint=fingerprint(self._libraries),
            address=self._address,
            directory=str(session.temporary) if session else "",
            cpus=self._cpus,
            runtime_env=self._runtime_env,
        )

    def _follow(self, control: ControlProcess) -> Failed:
        """Pass orders to a control process and news from it, until it ends."""
        engine = self._settings
        seconds = engine.cluster_timeout / _MOST_FAILURES if self._known else engine.start_timeout
        until = time.monotonic() + seconds  # by which Ray must be there
        start = StartWatch(control.pid)
        watched: list[Any] = [control.channel, control.output, self._orders]
        while True:
            ready: list[Any] = wait(watched, _LOOK)
            if not self._up:
                late = self._closing or time.monotonic() > until
                failure = f"Ray did not start within {seconds:g} s" if late else start.death()
                if failure:
                    control.kill()
                    return Failed(failure)
            if control.output in ready:
                control.read_output()
            try:
                for order in self._orders.take() if self._orders in ready else ():
                    if self._up:  # else it is for the process before
                        control.send(order)
                if control.channel in ready:
                    report = control.receive()
                    if isinstance(report, Failed):
                        return report
                    self._take(report)
            except (EOFError, OSError):
                return Failed("it was closed" if self._closing else control.why_ended())

    def _take(self, report: Report) -> None:
        """Take one report of the control process."""
        with self._changed:
            if isinstance(report, Up):
                self.host = report.host
                if self._address:
                    self._address = report.address  # `auto` must not mean another cluster later
                known, self._up, self._known, self._failure = self._known, True, True, None
                if known:  # last, as the server answers by orders, which are dropped while there is no cluster
                    self.news.put(ClusterBack())
            elif isinstance(report, Ended):
                self._ended[report.worker] = report.reason
            elif isinstance(report, Shortage):
                self._shortage = report.text
            elif not isinstance(report, Failed):
                self._worked |= isinstance(report, Started)
                self.news.put(report)
            self._changed.notify_all()


def _starting(settings: Engine) -> str:
    """Say what is being waited for."""
    return f"starting {settings.most} worker{'s' * (settings.most > 1)}"


def _attached_to(settings: Engine) -> tuple[str, dict[str, Any] | None]:
    """Return the address of the cluster to attach to (empty: none), and its runtime environment.

    A process that uses Ray already means the cluster that it is attached to.
    """
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        context = ray.get_runtime_context()
        return context.gcs_address, dict(context.runtime_env)
    return meant_address(settings), None
