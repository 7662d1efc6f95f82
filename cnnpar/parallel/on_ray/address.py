"""Check of the address of a Ray cluster. This file does not import ray."""

import os
import re
import socket

from cnnpar.errors import InputError, RunError, reason

# The first bytes of an HTTP/2 client, which Ray's head expects (RFC 9113, section 3.4): preface, and empty settings.
_HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


def check_address(address: str, given: bool) -> None:
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
