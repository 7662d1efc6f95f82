"""The control process: starts or attaches to Ray, does what the run orders, and reports; it ends with the run."""

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnpar.errors import CnnparError, InputError
from cnnpar.parallel.direct.samples import Samples
from cnnpar.parallel.direct.shared_memory import SharedMemory
from cnnpar.parallel.on_ray.orders import Begin, Close, Ended, Failed, Kill, Order, Serve, Shortage, Start, Up
from cnnpar.parallel.on_ray.session import end_session

if TYPE_CHECKING:
    from cnnpar.parallel.on_ray.cluster import Cluster

_LOOK = 0.1  # seconds between looks at Ray's own processes and at calls that may have ended
_RUN_LOOK = 0.5  # seconds between looks at the run's process


def main(run: int, channel: int, samples: int, lock: int = -1) -> None:
    """Serve a process `run`, by the descriptors of its channel, of its samples, and of its private directory's lock."""
    for descriptor in (channel, samples, lock):
        if descriptor >= 0:
            os.set_inheritable(descriptor, False)  # Ray's processes must not keep them open
    for number in (signal.SIGINT, signal.SIGHUP):  # they are for the run
        signal.signal(number, lambda *_: None)  # which Ray's processes do not inherit, unlike SIG_IGN
    with Connection(channel) as connection, suppress(EOFError, ConnectionError):
        begin: Begin = connection.recv()
        threading.Thread(target=_end_with, args=(run, begin), name="cnnpar run", daemon=True).start()
        try:
            _serve(begin, connection, samples)
        finally:
            if begin.directory:
                end_session(Path(begin.directory).parent)  # as the run does, unless it was killed
    sys.stdout.flush()
    os._exit(0)  # whatever threads of Ray still wait for


def _end_with(run: int, begin: Begin) -> None:
    """End this process and its Ray once the run was killed: Ray's start takes long on a busy machine.

    The channel does not tell: it may be kept open by a process that the run had forked.
    """
    while os.getppid() == run:
        time.sleep(_RUN_LOOK)
    if begin.directory:
        end_session(Path(begin.directory).parent)
    os._exit(0)


def _serve(begin: Begin, connection: Connection, samples: int) -> None:
    """Follow orders until the channel is closed or the cluster has died."""
    # Here, since importing ray takes long.
    from cnnpar.parallel.on_ray.attach import connect, disconnect
    from cnnpar.parallel.on_ray.cluster import Cluster

    try:
        try:
            connect(begin)
            cluster = Cluster(begin, Samples(SharedMemory(samples, begin.layout.size), begin.layout))
        except CnnparError as error:
            connection.send(Failed(str(error), isinstance(error, InputError)))
            return
        try:
            connection.send(Up(cluster.host, cluster.address))
            _obey(cluster, connection)
        finally:
            cluster.close()
    finally:
        disconnect()


def _obey(cluster: "Cluster", connection: Connection) -> None:
    """Do what the run orders and report what happens, until the run ends or the cluster has died."""
    shortage = ""
    watched: list[Any] = [connection, cluster.news]
    while True:
        for ready in wait(watched, _LOOK):
            if ready is not connection:
                for news in cluster.news.take():
                    connection.send(news)
            elif isinstance(order := connection.recv(), Close):
                return
            else:
                _follow(order, cluster)
        for worker, reason in cluster.ended().items():
            connection.send(Ended(worker, reason))
        if shortage != cluster.shortage():
            shortage = cluster.shortage()
            connection.send(Shortage(shortage))
        if death := cluster.death():
            with suppress(OSError):  # the run has ended
                connection.send(Failed(death))
            os._exit(0)  # a dead Ray takes long to shut down; the run kills what is left of it


def _follow(order: Order, cluster: "Cluster") -> None:
    if isinstance(order, Start):
        cluster.start(order.worker)
    elif isinstance(order, Serve):
        cluster.serve(order.worker, order.endpoint, order.key)
    elif isinstance(order, Kill):
        cluster.kill(order.worker)
