"""Digest the files of many pictures on all cores: this process, and others that share the work (digester.py)."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice

from cnnpar.data.readers.digester import BLOCK, DIGEST_BYTES, digest_some, work
from cnnpar.machine import import_path, usable_cores

_ALONE = 0.01  # seconds, until others are started
_FEW = 32  # files digested at a time until then
_MOST_BLOCKS = 4096 // BLOCK.size  # as many as the least that a pipe holds
# The path comes first: see decoding.py.
_BOOT = (
    "import json, sys; sys.path[:], *given = json.loads(sys.argv[1]);"
    "from cnnpar.data.readers.digester import work; work(*given)"
)


def digest_all(paths: Iterator[str], count: int, most: int) -> bytes:
    """Return the SHA-256 of each of `count` files, of at most `most` bytes each, joined. Raises OSError."""
    processes = usable_cores() if sys.executable else 1
    found, done, began = bytearray(), 0, time.monotonic()
    while done < count and (processes == 1 or time.monotonic() < began + _ALONE):
        some = [os.fsencode(path) for path in islice(paths, _FEW)]
        found += digest_some(some, most)
        done += len(some)
    return bytes(found) + (_digest_together(paths, count - done, most, processes) if done < count else b"")


def _digest_together(paths: Iterator[str], count: int, most: int, processes: int) -> bytes:
    """Return the SHA-256 of each file, joined, by several processes, of which this is one. Raises OSError."""
    with ExitStack() as stack:
        names, digests = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(2))
        blocks, feed = os.pipe()
        stack.callback(os.close, blocks)
        with os.fdopen(feed, "wb") as pipe:
            pipe.write(_blocks(paths, count, names.fileno()))
        given = (blocks, names.fileno(), digests.fileno(), most)
        others = [_start(stack, given) for _ in range(processes - 1)]
        work(*given)
        if any(other.wait() for other in others):
            raise OSError("a process that digested files has failed")
        return os.pread(digests.fileno(), DIGEST_BYTES * count, 0)


def _blocks(paths: Iterator[str], count: int, target: int) -> bytes:
    """Write the paths into a file; return the blocks that are to be digested, none of which others have taken yet."""
    size, place, found = -(-count // _MOST_BLOCKS), 0, bytearray()
    for first in range(0, count, size):
        some = os.fsencode("\0".join(islice(paths, size)))
        os.pwrite(target, some, place)
        found += BLOCK.pack(place, len(some), first)
        place += len(some)
    return bytes(found)


def _start(stack: ExitStack, given: tuple[int, int, int, int]) -> "subprocess.Popen[bytes]":
    """Start a process that takes part, and ends with a block. Raises OSError."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", _BOOT, json.dumps([import_path(), *given, os.getpid()])],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=given[:3],
        start_new_session=True,  # the terminal's Ctrl-C is for the run, which ends this process
    )
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process
