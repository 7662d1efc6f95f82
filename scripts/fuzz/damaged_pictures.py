"""Damaged pictures: PNG and JPEG files with fields, chunks and segments changed, and others with bytes changed."""

import io
import os
import random
import struct
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from scripts.fuzz.noise import NUMBERS, Case, noise


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@cache
def _zeros() -> bytes:
    return zlib.compress(bytes(1 << 28), 1)


def png(chance: random.Random) -> bytes:
    """Return a PNG picture with header fields, chunks and packed rows changed; checksums are right mostly."""
    width, height, depth, colour, interlace = 3, 2, 8, chance.choice((0, 2)), 0
    rows = bytes(
        chance.choice((0, 0, 1, 4, 9)) if not i % (1 + 3 * (1 + colour)) else i % 256
        for i in range(2 * (1 + 3 * (1 + colour)))
    )
    if chance.random() < 0.4:
        field, number = chance.randrange(5), chance.choice(NUMBERS)
        width = number if field == 0 else width
        height = number if field == 1 else height
        depth = chance.choice((0, 1, 2, 4, 16, 255)) if field == 2 else depth
        colour = chance.choice((3, 4, 6, 1, 255)) if field == 3 else colour
        interlace = chance.choice((1, 2)) if field == 4 else interlace
    if chance.random() < 0.3:
        rows = noise(chance, rows) if chance.random() < 0.7 else bytes(chance.choice((0, 1, 1 << 22)))
    stream = zlib.compress(rows, 1) if chance.random() < 0.98 else _zeros()
    if chance.random() < 0.15:
        stream = noise(chance, stream)
    header = struct.pack(">2I5B", width % 2**32, height % 2**32, depth, colour, 0, 0, interlace)
    chunks = [(b"IHDR", header), (b"IDAT", stream), (b"IEND", b"")]
    for _ in range(chance.choice((0, 0, 0, 1, 3))):
        text = chance.choice(
            (
                b"",
                b"a",
                b"a\0",
                b"Comment\0\0" + zlib.compress(bytes(chance.choice((10, 1 << 21))), 1),
                chance.randbytes(20),
            )
        )
        kinds = (
            b"tEXt",
            b"zTXt",
            b"iTXt",
            b"iCCP",
            b"eXIf",
            b"PLTE",
            b"tRNS",
            b"gAMA",
            b"pHYs",
            b"acTL",
            b"fcTL",
            b"fdAT",
            b"IHDR",
            b"IDAT",
            b"IEND",
            b"sRGB",
            b"cHRM",
        )
        if chance.random() < 0.3:
            text = struct.pack(">6I", *(chance.choice(NUMBERS) % 2**32 for _ in range(6)))[
                : chance.choice((4, 8, 13, 24))
            ]
        chunks.insert(chance.randrange(len(chunks) + 1), (chance.choice(kinds), text))
    if chance.random() < 0.05:
        chance.shuffle(chunks)
    data = b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in chunks)
    return noise(chance, data) if chance.random() < 0.2 else data


def jpeg(chance: random.Random) -> bytes:
    """Return a JPEG picture with segments and their fields changed."""
    stream = io.BytesIO()
    mode = chance.choice(("L", "RGB", "RGB", "CMYK"))
    pixels = Image.frombytes(mode, (3, 2), chance.randbytes(6 * len(Image.new(mode, (1, 1)).tobytes())))
    pixels.save(stream, "JPEG", progressive=chance.random() < 0.3, quality=chance.choice((1, 75, 100)))
    data = stream.getvalue()
    segments, place = [data[:2]], 2
    while data[place + 1] != 0xDA:
        length = 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        segments.append(data[place : place + length])
        place += length
    segments.append(data[place:])
    for _ in range(chance.choice((0, 1, 1, 2))):
        number = chance.randrange(1, len(segments))
        action = chance.randrange(5)
        if action == 0:
            segments[number] = segments[number] * chance.choice((0, 2, 300))
        elif action == 1 and len(segments[number]) > 4:
            field = chance.randrange(2, len(segments[number]))
            segments[number] = (
                segments[number][:field] + bytes((chance.choice((0, 1, 255, 128, 4)),)) + segments[number][field + 1 :]
            )
        elif action == 2:
            body = chance.choice(
                (b"Exif\0\0", b"MPF\0", b"JFIF\0", b"Adobe", b"ICC_PROFILE\0\1\2", b"http://ns", b"Photoshop 3.0\0")
            ) + chance.randbytes(chance.choice((0, 2, 40)))
            segments.insert(
                number,
                b"\xff"
                + bytes((chance.choice((0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xFE)),))
                + struct.pack(">H", len(body) + 2)
                + body,
            )
        elif action == 3:
            segments[number] = noise(chance, segments[number])
        else:
            sizes = struct.pack(">2H", chance.choice(NUMBERS) % 65536, chance.choice(NUMBERS) % 65536)
            segments = [
                part[:5] + sizes + part[9:] if part[:2] in (b"\xff\xc0", b"\xff\xc2") else part for part in segments
            ]
    data = b"".join(segments)
    return noise(chance, data) if chance.random() < 0.2 else data


OTHERS = {"GIF": ("L", "P", "RGBA"), "WEBP": ("RGB", "RGBA"), "BMP": ("1", "L", "P", "RGB")} | {
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"),
    "PNG": ("1", "LA", "P", "RGBA", "I;16"),
}


def other(chance: random.Random) -> bytes:
    """Return a picture of another format or mode, with bytes changed."""
    kind = chance.choice(list(OTHERS))
    mode = chance.choice(OTHERS[kind])
    image = Image.new(mode, (3, 2))
    image.frombytes(chance.randbytes(len(image.tobytes())))
    options: dict[str, Any] = {}
    if kind == "TIFF":
        options["compression"] = chance.choice(("raw", "tiff_lzw", "tiff_deflate", "packbits"))
    if kind == "GIF" and chance.random() < 0.3:
        options.update(save_all=True, append_images=[Image.new(mode, (3, 2))])
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return noise(chance, stream.getvalue())


# Names of class folders, some of which no checkpoint can hold.
NAMES = (
    b"cat",
    b"a b",
    b"k\xc3\xa4fer",
    b"\xff",
    b"a\nb",
    b"\x1b[2J",
    b"\xe2\x80\xae",
    b".no",
    b"'",
    b"\t",
    b"\xed\xa0\x80",
)


def pictures(chance: random.Random, folder: Path, make: Callable[[random.Random], bytes], suffix: str) -> Case:
    """Write two class folders of two pictures: one of them changed, and the others whole or, at times, as changed."""
    damaged = make(chance)
    whole = damaged if chance.random() < 0.3 else _whole(suffix)
    second = os.fsdecode(chance.choice(NAMES)) if chance.random() < 0.1 else "bee"
    which = chance.randrange(4)
    for number, name in enumerate(("ant/1", "ant/2", f"{second}/1", f"{second}/2")):
        path = folder / "classes" / (name + suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(damaged if number == which else whole)
    return Case(folder / "classes", (), chance.choice((0.0, 0.3)))


@cache
def _whole(suffix: str) -> bytes:
    """Return a picture that is as the changed ones were."""
    stream = io.BytesIO()
    Image.new("RGB", (3, 2), (200, 10, 10)).save(stream, "PNG" if suffix == ".png" else "JPEG")
    return stream.getvalue()
