"""Read, digest and decode picture files in a process of its own, which is given paths; or in that of the run.

    on its standard input: the look, then orders
    on its standard output: b"" when it is ready; then runs of pictures, and their pixels

Each is a message of MessagePack and, for runs, of bytes; the sizes of both come first. The process ends when its input
does, with its parent at the latest. numpy is imported only where it is needed.
"""

import fcntl
import hashlib
import os
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from errno import EFBIG
from io import FileIO, RawIOBase
from struct import Struct
from typing import Literal

import msgspec

from cnnpar.data.readers.fitting import Form, Look, PictureError
from cnnpar.data.readers.pictures import MOST_PIXELS, Opened, decode, form_of, opened
from cnnpar.errors import reason
from cnnpar.files import open_with_size

_LARGEST_FILE = 16 << 20  # bytes, of a picture that keeps its size
_LARGEST_SCALED = 512 << 20
_LARGE_FILE, _LARGE_PICTURE = 16 << 20, 1 << 24  # bytes and pixels; of larger ones one is decoded at a time
_MOST_PIXEL_BYTES = 1 << 20  # of a run of pictures; a single one may have more

_FREELY = nullcontext()
_SIZES = Struct("<IQ")  # of a message, and of the pixels after it

Pixels = bytes | memoryview
Wanted = Literal["pixels", "form"]  # forms come with pixels, digests with both


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


class Reader:
    """Reads files as orders say. Pixels are gathered in one place, as memory that is new each time takes longer."""

    def __init__(self, look: Look, lock: int | None = None) -> None:
        """Set what pictures are brought to. `lock`: descriptor of a file that is locked while a large one is read."""
        self._look, self._lock = look, lock
        self._pixels = bytearray(_MOST_PIXEL_BYTES)

    def read(self, order: Order) -> Iterator[tuple[Run, Pixels]]:
        """Yield what an order asks for, in order; pixels are (pictures, height, width, channels) in bytes.

        They are overwritten when the next run is asked for.
        """
        run, used = Run(order.first), 0
        for index, path in enumerate(order.paths, order.first):
            one, data = _read_file(index, path, order.wanted, self._look, self._lock)
            fits = used + len(data) <= _MOST_PIXEL_BYTES
            alike = (one.form, one.decoded) == (run.form, run.decoded) and not one.fault and not one.refusal
            if run.count and not (alike and fits):
                yield run, memoryview(self._pixels)[:used]
                run, used = Run(index), 0
            if len(data) > _MOST_PIXEL_BYTES:
                yield one, data
                run = Run(index + 1)
                continue
            self._pixels[used : used + len(data)] = data
            used += len(data)
            if run.count:
                run.count += 1
                run.digests += one.digests
                run.transparent += one.transparent
            else:
                run = one
        if run.count:
            yield run, memoryview(self._pixels)[:used]


def most_bytes(look: Look) -> int:
    """Return how many bytes the file of a picture may have."""
    return _LARGEST_SCALED if look.size else _LARGEST_FILE


def decode_into(
    run: Run, picture: AbstractContextManager[Opened], wanted: Wanted, look: Look, lock: int | None = None
) -> bytes:
    """Decode a picture as far as is wanted, and note in its run what was found; return the pixels, or b""."""
    try:
        with picture as found:
            run.form = form_of(found, look)
            pixels = found.image.width * found.image.height
            if wanted == "pixels" and (look.size or pixels <= MOST_PIXELS):
                large = len(found.content) > _LARGE_FILE or pixels > _LARGE_PICTURE
                with _alone(lock) if large and lock is not None else _FREELY:
                    data, transparent = decode(found, look, run.form)
                run.decoded, run.transparent = True, int(transparent)
                return data
    except PictureError as error:
        run.form, run.fault = None, str(error)
    return b""


def serve(lock: int) -> None:
    """Answer the orders on the standard input, until it ends."""
    output = os.dup(1)
    os.dup2(2, 1)  # a library that prints must not be taken for an answer
    warnings.simplefilter("ignore")  # of odd metadata, on which no pixel depends
    with suppress(EOFError, BrokenPipeError), FileIO(0, "rb") as orders, FileIO(output, "wb") as answers:
        send(answers, b"")
        look = msgspec.msgpack.decode(receive(orders)[0], type=Look)
        decoder, reader = msgspec.msgpack.Decoder(Order), Reader(look, lock)
        while True:
            for run, pixels in reader.read(decoder.decode(receive(orders)[0])):
                send(answers, msgspec.msgpack.encode(run), pixels)


def send(file: RawIOBase, message: bytes, pixels: Pixels = b"") -> None:
    """Send a message and pixels. Raises OSError when the other side has ended."""
    for part in (_SIZES.pack(len(message), len(pixels)) + message, pixels):
        view = memoryview(part)
        while view:
            view = view[file.write(view) or 0 :]


def receive(file: RawIOBase) -> tuple[bytes, int]:
    """Return the next message, and the number of bytes of pixels that follow. Raises EOFError at the end."""
    sizes = bytearray(_SIZES.size)
    receive_into(file, memoryview(sizes))
    length, pixels = _SIZES.unpack(sizes)
    message = bytearray(length)
    receive_into(file, memoryview(message))
    return bytes(message), pixels


def receive_into(file: RawIOBase, target: memoryview) -> None:
    """Fill a target with the next bytes. Raises EOFError at the end."""
    while target:
        count = file.readinto(target)
        if not count:
            raise EOFError
        target = target[count:]


def _read_file(index: int, path: bytes, wanted: Wanted, look: Look, lock: int | None) -> tuple[Run, bytes]:
    """Read, digest and decode one file, as far as is wanted."""
    run = Run(index, count=1)
    try:
        content = _content(path, look)
    except OSError as error:
        run.refusal = reason(error)
        return run, b""
    run.digests = hashlib.sha256(content).digest()
    return run, decode_into(run, opened(content), wanted, look, lock)


def _content(path: bytes, look: Look) -> bytes:
    """Return all bytes of a regular file. Raises OSError, also if there are more than a picture may have."""
    descriptor, size = open_with_size(path)
    pieces = []
    try:
        if size > (most := most_bytes(look)):
            raise OSError(EFBIG, f"larger than {most:,} bytes")
        while size > 0 and (piece := os.read(descriptor, size)):
            pieces.append(piece)
            size -= len(piece)
    finally:
        os.close(descriptor)
    return b"".join(pieces)


@contextmanager
def _alone(lock: int) -> Iterator[None]:
    """Keep other processes with the same lock from entering meanwhile."""
    fcntl.lockf(lock, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.lockf(lock, fcntl.LOCK_UN)
