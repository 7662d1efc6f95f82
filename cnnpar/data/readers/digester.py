"""Digest the files of many pictures, together with other processes that are given the same work.

A pipe holds what is left to do, in blocks of files; whoever is free takes the next one. Paths come from one file, and
digests go into another, at their places. Little is imported, so that such a process begins soon.
"""

import hashlib
import os
import stat
from collections.abc import Sequence
from errno import EFBIG, EINVAL
from struct import Struct

DIGEST_BYTES = 32  # of a SHA-256
BLOCK = Struct("<QII")  # where the paths of a block begin in their file, and their bytes; index of its first file
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY  # no pipe is waited for
_PIECE = 1 << 20  # bytes read at a time


def work(blocks: int, paths: int, digests: int, most: int, parent: int = 0) -> None:
    """Take blocks and digest their files until none is left. Raises OSError as `digest_some`.

    `blocks`, `paths`, `digests`: descriptors of a pipe and two files; `most`: bytes that a file may have; `parent`:
    number of the process without which nobody needs the digests, if it is another one.
    """
    while (not parent or os.getppid() == parent) and (block := os.read(blocks, BLOCK.size)):
        place, size, first = BLOCK.unpack(block)
        found = digest_some(os.pread(paths, size, place).split(b"\0"), most)
        os.pwrite(digests, found, DIGEST_BYTES * first)


def digest_some(paths: Sequence[bytes], most: int) -> bytes:
    """Return the SHA-256 of each file, joined. Raises OSError for one that cannot be read, is no file, or too large."""
    buffer = memoryview(bytearray(_PIECE))
    into, found = [buffer], list[bytes]()
    for path in paths:
        descriptor = os.open(path, _FLAGS)
        try:
            count = os.readv(descriptor, into)
            digest = hashlib.sha256(buffer[:count])
            if not 0 < count < _PIECE:  # else that was all; what is no file has no such bytes, and is not asked
                _check(path, descriptor, most)
                while count:
                    count = os.readv(descriptor, into)
                    digest.update(buffer[:count])
        finally:
            os.close(descriptor)
        found.append(digest.digest())
    return b"".join(found)


def _check(path: bytes, descriptor: int, most: int) -> None:
    """Raise OSError for what is no regular file, or has more bytes than a picture's file may have."""
    state = os.fstat(descriptor)
    if not stat.S_ISREG(state.st_mode):
        raise OSError(EINVAL, "not a regular file", os.fsdecode(path))
    if state.st_size > most:
        raise OSError(EFBIG, f"larger than {most:,} bytes", os.fsdecode(path))
