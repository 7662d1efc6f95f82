"""Damaged data files: small genuine ones of each kind with fields, parts and bytes changed.

Used by scripts/fuzz/data.py and by the tests. A case is a function of a generator of random numbers, and its files are
written into a folder.
"""

import bz2
import gzip
import io
import json
import lzma
import random
import shutil
import struct
import zipfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnpar.config.resolve import to_toml
from cnnpar.config.sections import Config
from scripts.fuzz.damaged_mat import mat
from scripts.fuzz.damaged_pictures import jpeg, other, pictures, png
from scripts.fuzz.forged import LITERALS
from scripts.fuzz.noise import NUMBERS, Case, noise
from scripts.harness import ROOT

CELLS = (
    *(
        "",
        " ",
        "-1",
        "-0",
        "+1",
        "256",
        "255",
        "0",
        "00",
        "1.0",
        "1e2",
        "0x1",
        "nan",
        "inf",
        "1_0",
        "9" * 30,
        "9" * 5000,
    ),
    *("٣", "\0", '"1"', '"', "'", "#", "1;2", "\ufeff", "label", "True", "1\t", "  3  ", "\x1b[2J", "\u202e", "9" * 19),
)
_gzip = partial(gzip.compress, mtime=0)  # a case must not depend on the time


def packed(chance: random.Random, data: bytes) -> bytes:
    """Gzip a file; at times in several members, twice, long, with a wrong end, or damaged afterwards."""
    action = chance.randrange(20)
    if action == 0:
        data *= chance.choice((2, 50, 1000)) if len(data) < 10_000 else 2
    if action == 1:
        return _gzip(data, 1) + _million(chance.choice((b"\n", b" \r\n", b" ", b"\0", b"1,"))) * chance.choice((1, 300))
    if action == 2 and data:
        middle = chance.randrange(len(data))
        return _gzip(data[:middle], 1) + _gzip(b"") * chance.choice((0, 500)) + _gzip(data[middle:], 1)
    content = _gzip(data, 1)
    if action == 3:
        content = _gzip(content)
    elif action == 4:
        content = content[: -chance.randrange(1, 9)] + chance.randbytes(chance.randrange(9))
    elif action in (5, 6):
        content = noise(chance, content)
    return content


@cache
def _million(repeated: bytes) -> bytes:
    """Return a million bytes, gzipped."""
    return _gzip(repeated * (1_000_000 // len(repeated)), 1)


def _zipped(chance: random.Random, data: bytes) -> bytes:
    """Write data as the only file of a zip archive, perhaps with noise."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("a.csv"), data)
    return noise(chance, stream.getvalue()) if chance.random() < 0.4 else stream.getvalue()


def csv(chance: random.Random, folder: Path, gzipped: bool = False) -> Case:
    """Write a CSV file with cells, lines and line ends changed."""
    channels = chance.choice((1, 1, 1, 3))
    height, width = chance.choice(((2, 2), (1, 1), (3, 3), (2, 3)))
    pixels, count = height * width * channels, chance.choice((1, 3, 10, 40))
    rows = [[str(i % 3), *(str(chance.randrange(256)) for _ in range(pixels))] for i in range(count)]
    if chance.random() < 0.5:
        rows.insert(0, [chance.choice(("label", "", "0", "\ufefflabel")), *map(str, range(1, pixels + 1))])
    for _ in range(chance.choice((0, 0, 1, 1, 3))):
        row = chance.choice(rows)
        if row and chance.random() < 0.8:
            row[chance.randrange(len(row))] = chance.choice(CELLS)
        elif chance.random() < 0.5:
            row *= chance.choice((0, 2, 1000))
        else:
            row.extend(("1",) * chance.choice((1, 5000)))
    end = chance.choice(("\n", "\n", "\r\n", "\r", "\n\n", "\n \n"))
    comma = chance.choice((",",) * 20 + (", ", ";", "\t", " "))
    if chance.random() < 0.2:
        rows = [[*row[1:], *row[:1]] for row in rows]  # the label last
    text = end.join(map(comma.join, rows))
    if chance.random() < 0.1:
        text = text.replace(end, end * chance.choice((10, 1000)), 1)
    data = (text + chance.choice((end, ""))).encode(chance.choice(("utf-8",) * 20 + ("utf-8-sig", "utf-16", "utf-32")))
    if chance.random() < 0.4:
        data = noise(chance, data)
    path = folder / ("a.csv.gz" if gzipped else "a.csv")
    packers = (packed,) * 6 + (lambda _, data: bz2.compress(data), lambda _, data: lzma.compress(data), _zipped)
    path.write_bytes(chance.choice(packers)(chance, data) if gzipped else data)
    given = (height, width, channels) if channels > 1 or height != width or chance.random() < 0.2 else ()
    return Case(path, chance.choice((given,) * 9 + ((2, 2),)), chance.choice((0.0, 0.1)))


def idx(chance: random.Random, folder: Path, gzipped: bool = False) -> Case:
    """Write an IDX pair with header fields and bodies changed."""
    count, height, width = chance.choice((1, 2, 5, 9)), chance.choice((1, 2, 28)), chance.choice((1, 3))
    images = [0x803, count, height, width]
    labels = [0x801, count]
    bodies = [chance.randbytes(count * height * width), bytes(i % 2 for i in range(count))]
    for header in (images, labels):
        if chance.random() < 0.4:
            place = chance.randrange(len(header))
            header[place] = (
                chance.choice((*NUMBERS, header[place] + 1, header[place] - 1, 0x802, 0x0D03, 0x804)) % 2**32
            )
    if chance.random() < 0.3:
        which = chance.randrange(2)
        bodies[which] = noise(chance, bodies[which])
    if chance.random() < 0.1:
        bodies[0] = bytes(chance.choice((0, 1, 1 << 20)))
    suffix = ".gz" if gzipped else ""
    for name, header, body in (("images-idx3-ubyte", images, bodies[0]), ("labels-idx1-ubyte", labels, bodies[1])):
        data = struct.pack(f">{len(header)}I", *header) + body
        if chance.random() < 0.2:
            data = noise(chance, data)
        (folder / (name + suffix)).write_bytes(packed(chance, data) if gzipped else data)
    if chance.random() < 0.03:
        (folder / f"labels-idx1-ubyte{suffix}").unlink()
    return Case(folder / f"images-idx3-ubyte{suffix}", (), chance.choice((0.0, 0.3)))


DESCRIPTIONS = (
    *(
        "'|u1'",
        "'<i8'",
        "'>i8'",
        "'<u8'",
        "'<i4'",
        "'|b1'",
        "'<f4'",
        "'<f8'",
        "'|O'",
        "'<U3'",
        "'|S0'",
        "'|V1'",
        "'<U0'",
    ),
    *(
        "[('a', '|u1')]",
        "[('a', '|O')]",
        "[('', '|u1', (9, 9))]",
        "('|u1', (3,))",
        "'|u1,|u1'",
        "'m8[s]'",
        "'|V2147483647'",
    ),
    *("'x'", "''", "None", "1", "[]", "{}", "'" + "u" * 3000 + "'", "[" * 400 + "]" * 400, "'\\d'", "b'|u1'", "'<i99'"),
)
SHAPES = (
    *(
        "()",
        "(4,)",
        "(4L,)",
        "(4, 3, 3)",
        "(4, 3, 3, 1)",
        "(4, 1)",
        "(0,)",
        "(0, 3, 3)",
        "(4, 0, 3)",
        "(-1,)",
        "(-4, 3, -3)",
    ),
    *(
        "(True,)",
        "(4.0,)",
        "4",
        "'4'",
        "(100000000000,)",
        "(1000000, 1000, 1000)",
        "(9223372036854775807,)",
        "(4, 3, 3, 1, 1)",
    ),
    *(
        "(9223372036854775808, 2)",
        "(" + "1, " * 70 + ")",
        "(1099511627776, 1099511627776, 1099511627776)",
        "(4, 3",
        "(4, None)",
    ),
)


def _npy(chance: random.Random, array: NDArray[Any]) -> bytes:
    """Return an array in NPY format, at times with other words in its header, another version or body."""
    descr, fortran, shape = repr(array.dtype.str), str(chance.random() < 0.1), repr(array.shape)
    if chance.random() < 0.12:
        descr = chance.choice(DESCRIPTIONS)
    if chance.random() < 0.12:
        shape = chance.choice(SHAPES)
    if chance.random() < 0.03:
        fortran = chance.choice(("None", "1", "'no'", "[]"))
    header = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}"
    if chance.random() < 0.03:
        header = chance.choice(
            (
                header[:-1],
                header * 2,
                "{[]: 1}",
                "(" * 3000,
                "{'descr'",
                header.replace("shape", "form"),
                "1" * 9000,
                "\0",
                "lambda: 1",
            )
        )
    major = chance.choice((1,) * 20 + (2, 3, 0, 9))
    data = header.encode() + b" " * chance.choice((0, 1, 60, 20_000 if major > 1 else 0)) + b"\n"
    length = len(data) if chance.random() < 0.97 else chance.choice(NUMBERS)
    start = (
        b"\x93NUMPY"
        + bytes((major, 0))
        + (struct.pack("<H", length % 65536) if major == 1 else struct.pack("<I", length))
    )
    body = array.tobytes() if chance.random() < 0.9 else noise(chance, array.tobytes())
    return start + data + body


def npz(chance: random.Random, folder: Path) -> Case:
    """Write an .npz file with headers, members, ways of packing and records of the archive changed."""
    count = chance.choice((4, 4, 4, 1, 30))
    images = np.frombuffer(chance.randbytes(count * 9), np.uint8).reshape(count, 3, 3)
    images = images.astype(chance.choice(("u1", "u1", "u1", ">u2", "<f2", "<f4", ">f8", "<i8", "?")))
    labels = (np.arange(count) % 2).astype(chance.choice(("<i8", "<i8", ">i8", "<u8", "|u1", "<i2", "<U3", "S2", "?")))
    names = list(chance.choice((("x", "y"), ("images", "labels"), ("x_train", "y_train"))))
    members = [(f"{names[0]}.npy", _npy(chance, images)), (f"{names[1]}.npy", _npy(chance, labels))]
    if chance.random() < 0.1:
        extra = chance.choice(
            (names[0], names[1], f"{names[0]}.npy", "\x1b[2J", "x" * 9000, "../../a", "x_test.npy", "é\n")
        )
        members.append((extra, chance.choice((b"", b"\x80\x04.", _npy(chance, labels)))))
    if chance.random() < 0.02:
        members += [(f"m{i}", b"") for i in range(chance.choice((100, 3000)))]
    ways = (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    way = chance.choice(ways[:2] * 10 + ways)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", way, compresslevel=1) as archive:
        for name, content in members:
            if len(archive.infolist()) < 50 and name in archive.namelist():
                continue
            if chance.random() < 0.02:
                content += bytes(chance.choice((1, 1 << 20)))
            archive.writestr(name, content)
        if chance.random() < 0.05:
            archive.comment = b"PK\x05\x06" * chance.choice((1, 16_000))
    data = bytearray(stream.getvalue())
    if chance.random() < 0.25:  # fields of the archive's records, by their places
        fields = {b"PK\x03\x04": 30, b"PK\x01\x02": 46, b"PK\x05\x06": 22}
        for _ in range(chance.choice((1, 1, 2))):
            signature = chance.choice(tuple(fields))
            found = [i for i in range(len(data)) if data.startswith(signature, i)] if len(data) < 20_000 else []
            if found:
                place, size = chance.choice(found) + chance.randrange(4, fields[signature]), chance.choice((1, 2, 4))
                data[place : place + size] = (chance.choice(NUMBERS) % 256**size).to_bytes(size, "little")
    content = bytes(data)
    if chance.random() < 0.05:
        nested = io.BytesIO()
        with zipfile.ZipFile(nested, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{names[0]}.npy", content)
            archive.writestr(f"{names[1]}.npy", content)
        content = nested.getvalue()
    (folder / "a.npz").write_bytes(noise(chance, content) if chance.random() < 0.25 else content)
    return Case(folder / "a.npz", chance.choice(((),) * 9 + ((3, 3),)), chance.choice((0.0, 0.1)))


VALUES = (
    *(
        "0",
        "-1",
        "1",
        "1.5",
        "1e400",
        "nan",
        "inf",
        "-inf",
        "true",
        "''",
        '"x"',
        "[]",
        "[1]",
        "[-1, 2]",
        "{}",
        "{a = 1}",
    ),
    *(
        "9223372036854775808",
        "1" * 400,
        "1979-05-27",
        "07:32:00",
        "0x10",
        "0b2",
        "1_000",
        '"""\n"""',
        "''''",
        '"\\u0000"',
    ),
    *('"\\u001b[2J"', '"\\ud800"', '"' + "x" * 9000 + '"', "[" * 50 + "]" * 50, "[" * 5000, "[[1, 2], [3]]", "[{}]"),
    *(
        '[{type = "dense"}]',
        '[{type = "conv2d", channels = 1e9, kernel = 3}]',
        '"adam"',
        '"cosine"',
        '"lenet5"',
        "1e-300",
    ),
)
KEYS = (
    "type",
    "layers",
    "preset",
    "seed",
    "epochs",
    "x",
    '"a\\nb"',
    '""',
    "a.b.c",
    "type.type",
    "'\u202e'",
    "x" * 3000,
)
TABLES = ("[[model]]", "[x]", "[train", "[model.layers]", "[a.b.c.d]", "[[model.layers]]", "[]")


@cache
def _settings() -> tuple[str, ...]:
    return (
        to_toml(Config()),
        *(path.read_text(encoding="utf-8") for path in sorted((ROOT / "configs").glob("*.toml"))),
    )


def toml(chance: random.Random, folder: Path) -> Case:
    """Write settings with keys, values, tables and lines changed."""
    lines = chance.choice(_settings()).splitlines()
    for _ in range(chance.choice((0, 1, 1, 2, 3))):
        place = chance.randrange(len(lines))
        key, equals, value = lines[place].partition(" = ")
        action = chance.randrange(7)
        if action <= 2 and equals:
            lines[place] = f"{key} = {chance.choice(VALUES)}"
        elif action == 3 and equals:
            lines[place] = f"{chance.choice(KEYS)} = {value}"
        elif action == 4:
            lines.insert(place, chance.choice(TABLES))
        elif action == 5:
            lines[place : place + 1] = lines[place : place + 1] * chance.choice((0, 2, 50))
        else:
            lines.insert(place, f"{chance.choice(KEYS)} = {chance.choice(VALUES)}")
        lines = lines or [""]
    data = "\n".join(lines).encode(chance.choice(("utf-8",) * 20 + ("utf-16", "utf-8-sig")))
    (folder / "a.toml").write_bytes(noise(chance, data) if chance.random() < 0.3 else data)
    return Case(folder / "a.toml")


def metrics(chance: random.Random, folder: Path) -> Case:
    """Write a metrics file with records, values and ends of lines changed."""
    lines = []
    for step in range(1, chance.choice((1, 5, 40))):
        record: dict[str, object] = {"step": step, "epoch": step // 4, "loss": 0.5}
        if not step % 4:
            record |= {"train_loss": 0.25, "validation_accuracy": 0.5}
        text = json.dumps(record)
        if chance.random() < 0.1:
            key = chance.choice(tuple(record))
            text = text.replace(f'"{key}": {json.dumps(record[key])}', f'"{key}": {chance.choice(LITERALS)}')
        lines.append(text)
    if lines and chance.random() < 0.3:
        lines.insert(chance.randrange(len(lines)), chance.choice((*LITERALS, "", "\r", " ")))
    text = "".join(line + chance.choice(("\n",) * 50 + ("", "\r\n", "\n\n")) for line in lines)
    data = text.encode(errors="surrogatepass")
    (folder / "metrics.jsonl").write_bytes(noise(chance, data) if chance.random() < 0.4 else data)
    return Case(folder / "metrics.jsonl")


MAKERS: dict[str, Callable[[random.Random, Path], Case]] = {
    "CSV": csv,
    "CSV, gzipped": lambda chance, folder: csv(chance, folder, gzipped=True),
    "IDX": idx,
    "IDX, gzipped": lambda chance, folder: idx(chance, folder, gzipped=True),
    "npz": npz,
    "mat": mat,
    "PNG": lambda chance, folder: pictures(chance, folder, png, ".png"),
    "JPEG": lambda chance, folder: pictures(chance, folder, jpeg, ".jpg"),
    "other pictures": lambda chance, folder: pictures(chance, folder, other, ".tif"),
    "TOML": toml,
    "metrics": metrics,
}


def make(kind: str, chance: random.Random, folder: Path) -> Case:
    """Write the files of a case of a kind of `MAKERS` into an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return MAKERS[kind](chance, folder)
