"""Attaching to the Ray cluster of the settings, whose address is checked first, or starting one of our own."""

import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from cnnpar.config.sections import Engine
from cnnpar.errors import InputError, RunError, reason
from cnnpar.parallel.on_ray.environment import meant_address
from cnnpar.parallel.on_ray.errors import first_line

# The first bytes of an HTTP/2 client, which Ray's head expects (RFC 9113, section 3.4): preface, and empty settings.
_HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])

_STORE_BYTES = 256 << 20  # of Ray's object store, besides those for the samples


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Block SIGINT, SIGTERM and SIGHUP while the block runs, and restore their handlers before they are delivered.

    While Ray starts, it installs handlers of its own, in C++, which end the process with a dump of its stack. And an
    exception from one of our handlers would leave Ray half started, and it would crash when it is shut down.
    """
    numbers = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    handlers = {number: signal.getsignal(number) for number in numbers}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    _BLOCKED.append(before)
    try:
        yield
    finally:
        _BLOCKED.clear()
        for number, handler in handlers.items():
            if handler is not None:  # None: it was not set from Python
                signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_BLOCKED: list[set[int | signal.Signals]] = []  # the signals blocked before, while `_signals_blocked` runs
# The processes that Ray starts meanwhile must not inherit the blocked signals: they could not be ended.
os.register_at_fork(after_in_child=lambda: [signal.pthread_sigmask(signal.SIG_SETMASK, mask) for mask in _BLOCKED])


def attach(settings: Engine, data_bytes: int) -> bool:
    """Attach to the cluster of the settings, or start one on this machine; tell whether it was started.

    `data_bytes`: size of all samples. SIGINT, SIGTERM and SIGHUP are delivered afterwards. Raises InputError for an
    address that cannot be one, RunError when there is no cluster.
    """
    with _signals_blocked():
        return _attach(settings, data_bytes)


def _attach(settings: Engine, data_bytes: int) -> bool:
    address = meant_address(settings)
    _silence()
    quiet = {"logging_level": "error", "log_to_driver": False}
    if not address:
        try:
            ray.init(
                address="local",
                num_cpus=max(settings.fewest, os.cpu_count() or 1),
                include_dashboard=False,
                object_store_memory=data_bytes * 5 // 4 + _STORE_BYTES,
                **quiet,
            )
        except Exception as error:
            raise RunError(f"Ray did not start on this machine: {first_line(error)}") from error
        return True
    _check_address(address, given=bool(settings.address))
    try:
        ray.init(address=address, **quiet)
    except Exception as error:
        raise RunError(
            f"cannot attach to the Ray cluster at {address}: {first_line(error)}; "
            f"start one with `ray start --head`, or leave --address out"
        ) from error
    return False


def _check_address(address: str, given: bool) -> None:
    """Check in seconds that a Ray cluster is at the address, where Ray would wait for minutes or crash.

    Raises InputError, or RunError where there is no answer.
    """
    source = "--address" if given else "RAY_ADDRESS"
    if address.startswith("ray://"):
        raise InputError(
            f"{source} {address}: a ray:// client is too far from the workers to train; "
            f"run the command on the cluster: `ray job submit --address http://HOST:8265 -- cnnpar-train ...`"
        )
    if address == "auto":
        return
    match = re.fullmatch(r"\[?([^\[\]/]+?)\]?:(\d{1,5})", address)
    if match is None or int(match[2]) > 65535:
        raise InputError(f"{source} {address}: expected `auto` or HOST:PORT")
    if os.environ.get("RAY_USE_TLS") == "1":
        return  # the probe below speaks no TLS
    try:
        with socket.create_connection((match[1], int(match[2])), timeout=5) as probe:
            probe.sendall(_HTTP2_PREFACE)
            answer = probe.recv(9)  # the header of a frame: length (3 bytes), type, flags, stream
    except OSError as error:
        raise RunError(
            f"{source} {address}: nothing answers there ({reason(error)}); "
            f"start a cluster with `ray start --head`, or leave --address out"
        ) from error
    if answer[3:4] != b"\4":  # an HTTP/2 server begins with a SETTINGS frame
        raise InputError(
            f"{source} {address}: something answers there, but not Ray's head; "
            f"`ray start --head` prints its address, mostly with port 6379"
        )


def _silence() -> None:
    """Keep Ray from printing about each dead worker on standard output: the server reports it in one line."""
    from ray._private import worker

    if hasattr(worker, "print_to_stdstream"):  # Ray has no setting for this
        worker.print_to_stdstream = lambda *_, **__: None
