"""Shared part of the fuzzers: the process that reads files."""

import os
import resource
from collections.abc import Callable

PATIENCE = 20  # seconds without an answer that are a hang
MOST_ADDRESSES = 8 << 30  # bytes that the reader's process may map


def in_another_process(action: Callable[[], None]) -> int:
    """Do something in a child process, so that its end or hanging is noticed; return its exit code."""
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_AS, (MOST_ADDRESSES, MOST_ADDRESSES))
        action()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)
