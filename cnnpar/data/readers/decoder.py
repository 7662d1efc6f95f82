"""Read, digest and decode picture files in a process of its own, which is given their paths; or in the run's process.

    the parent sends: the look, then orders, as MessagePack
    the process sends: b"" when it is ready; then runs of pictures, as MessagePack, each with pixels followed by them

The process ends when the parent has closed the connection, or has ended. numpy is imported only where it is needed.
"""

import fcntl
import hashlib
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from errno import EFBIG
from multiprocessing.connection import Connection
from typing import Literal

import msgspec

from cnnpar.data.readers.fitting import Form, Look, PictureError
from cnnpar.data.readers.pictures import MOST_PIXELS, decode, form_of, opened
from cnnpar.errors import reason
from cnnpar.files import open_input

DIGEST_BYTES = 32  # of a SHA-256
_LARGEST_FILE = 16 << 20  # bytes, of a picture that keeps its size
_LARGEST_SCALED = 512 << 20
_PIECE = 1 << 20  # bytes digested at a time
_LARGE_FILE, _LARGE_PICTURE = 16 << 20, 1 << 24  # bytes and pixels; of larger ones one is decoded at a time
_MOST_PIXEL_BYTES = 1 << 20  # of a run of pictures; a single one may have more

_FREELY = nullcontext()

Wanted = Literal["pixels", "form", "digest"]  # forms come with pixels, digests with all


class Order(msgspec.Struct, array_like=True):
    """Files to be read, and what is wanted of them."""

    first: int  # index of the first file
    wanted: Wanted
    paths: list[bytes]


class Run(msgspec.Struct, array_like=True):
    """What was found in consecutive files: pictures of one form, or one file with a fault."""

    first: int
    digests: bytes = b""  # SHA-256 of each file; fewer than `count` where one cannot be read
    count: int = 0
    form: Form | None = None
    decoded: bool = False  # the bytes of all pixels come with it
    transparent: int = 0  # number of pictures with transparent pixels
    fault: str = ""  # why the file is no picture that can be decoded
    refusal: str = ""  # why the system does not give the file


def read_files(order: Order, look: Look, lock: int | None = None) -> Iterator[tuple[Run, bytes]]:
    """Yield what an order asks for, in order; pixels are (pictures, height, width, channels) in bytes.

    `lock`: descriptor of a file that is locked by who decodes a large picture.
    """
    if order.wanted == "digest":
        yield from ((run, b"") for run in _digest_files(order, look))
        return
    run, pixels = Run(order.first), list[bytes]()
    for index, path in enumerate(order.paths, order.first):
        one, data = _read_file(index, os.fsdecode(path), order.wanted, look, lock)
        whole = one.fault or one.refusal or (one.form, one.decoded) != (run.form, run.decoded)
        if run.count and (whole or run.fault or run.refusal or (run.count + 1) * len(data) > _MOST_PIXEL_BYTES):
            yield run, b"".join(pixels)
            run, pixels = one, [data]
        elif run.count:
            run.count += 1
            run.digests += one.digests
            run.transparent += one.transparent
            pixels.append(data)
        else:
            run, pixels = one, [data]
    yield run, b"".join(pixels)


def serve(descriptor: int, lock: int) -> None:
    """Answer the orders that come over a connection, until it is closed."""
    warnings.simplefilter("ignore")  # of odd metadata, on which no pixel depends
    decoder = msgspec.msgpack.Decoder(Order)
    with Connection(descriptor) as connection, suppress(EOFError, OSError):
        look = msgspec.msgpack.decode(connection.recv_bytes(), type=Look)
        connection.send_bytes(b"")
        while True:
            for run, pixels in read_files(decoder.decode(connection.recv_bytes()), look, lock):
                connection.send_bytes(msgspec.msgpack.encode(run))
                if run.decoded:
                    connection.send_bytes(pixels)


def _read_file(index: int, path: str, wanted: Wanted, look: Look, lock: int | None) -> tuple[Run, bytes]:
    """Read, digest and decode one file, as far as is wanted."""
    run = Run(index, count=1)
    try:
        content = b"".join(_pieces(path, look, _LARGEST_SCALED))
    except OSError as error:
        run.refusal = reason(error)
        return run, b""
    run.digests = hashlib.sha256(content).digest()
    try:
        with opened(content) as picture:
            run.form = form_of(picture, look)
            pixels = picture.image.width * picture.image.height
            if wanted == "pixels" and (look.size or pixels <= MOST_PIXELS):
                large = len(content) > _LARGE_FILE or pixels > _LARGE_PICTURE
                with _alone(lock) if large and lock is not None else _FREELY:
                    data, transparent = decode(picture, look, run.form)
                run.decoded, run.transparent = True, int(transparent)
                return run, data
    except PictureError as error:
        run.form, run.fault = None, str(error)
    return run, b""


def _digest_files(order: Order, look: Look) -> Iterator[Run]:
    """Yield the digests of files, as many as can be had together: a second start waits for nothing else."""
    run = Run(order.first)
    for index, path in enumerate(order.paths, order.first):
        digest = hashlib.sha256()
        try:
            for piece in _pieces(os.fsdecode(path), look, _PIECE):
                digest.update(piece)
        except OSError as error:
            yield from (run, Run(index, count=1, refusal=reason(error)))
            run = Run(index + 1)
        else:
            run.digests += digest.digest()
            run.count += 1
    yield run


def _pieces(path: str, look: Look, largest: int) -> Iterator[bytes]:
    """Yield all bytes of a regular file, in pieces. Raises OSError, also if there are more than a picture may have."""
    most = _LARGEST_SCALED if look.size else _LARGEST_FILE
    descriptor = open_input(path)
    try:
        size = os.fstat(descriptor).st_size
        if size > most:
            raise OSError(EFBIG, f"larger than {most:,} bytes")
        while size > 0 and (piece := os.read(descriptor, min(size, largest))):
            yield piece
            size -= len(piece)
    finally:
        os.close(descriptor)


@contextmanager
def _alone(lock: int) -> Iterator[None]:
    """Keep other processes with the same lock from entering meanwhile."""
    fcntl.lockf(lock, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.lockf(lock, fcntl.LOCK_UN)
