"""Small files that say they are large, or unpack to much: refused by headers, in memory of the data and 100 MB."""

import gzip
import io
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.helpers.costs import read_cheaply
from tests.helpers.data_files import IDX_LABELS, npy_header, write_picture

pytestmark = pytest.mark.usefixtures("in_time")

MANY = 300_000_000  # bytes


@pytest.fixture(autouse=True)
def without_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNNPAR_CACHE", "off")


def write_packed(path: Path, head: bytes, repeated: bytes, size: int) -> None:
    """Write a gzipped file of a head and of `size` repeated bytes, quickly: one packed part is written many times."""
    part = gzip.compress(repeated * (1_000_000 // len(repeated)), 1)
    path.write_bytes(gzip.compress(head) + part * (size // 1_000_000))


@pytest.mark.parametrize(
    ("repeated", "words"),
    [
        (b"\n", "most of its 1048588 lines up to here are blank; remove them"),
        (b" \r\n", "lines up to here are blank"),
        (b" " * 999 + b"\n", "lines up to here are blank"),
        (b" ", "line 2 is too long to be a sample"),
        (b"1,", "line 2 is too long to be a sample"),
        (b"\0", "line 2 is too long to be a sample"),
    ],
)
def test_csv_that_unpacks_to_nothing_is_refused_soon(tmp_path: Path, repeated: bytes, words: str) -> None:
    write_packed(tmp_path / "a.csv.gz", b"0,1,2,3,4\n", repeated, MANY)
    assert words in read_cheaply(tmp_path / "a.csv.gz")


def test_a_blank_line_after_each_sample_is_no_bomb(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("\n" * 1000 + "0,1\n\n \n\n" * 300_000)
    assert read_cheaply(tmp_path / "a.csv") == ""


@pytest.mark.slow
def test_longest_csv_line_takes_little_memory(tmp_path: Path) -> None:
    pixels = 1_599_990
    (tmp_path / "a.csv").write_text(("0," * pixels + "0\n") * 2)
    assert read_cheaply(tmp_path / "a.csv", shape=(1, pixels)) == ""
    (tmp_path / "a.csv").write_text("0," * pixels + "0\n" + "0," * pixels + "x\n")
    assert "column 1599991: 'x' is no pixel" in read_cheaply(tmp_path / "a.csv", shape=(1, pixels))


@pytest.mark.slow
def test_large_csv_is_in_memory_once(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes((b"0" + b",7" * 10_000 + b"\n") * 25_000)
    assert read_cheaply(tmp_path / "a.csv") == ""


@pytest.mark.slow
@pytest.mark.parametrize("last", [b",7", b",300", b",.5"])
def test_large_csv_of_any_pixels_is_in_memory_once(tmp_path: Path, last: bytes) -> None:
    (tmp_path / "a.csv").write_bytes((b"0" + b",7" * 10_000 + b"\n") * 6_000 + b"0" + last * 10_000 + b"\n")
    assert read_cheaply(tmp_path / "a.csv", validation=0.0) == ""


def test_idx_is_unpacked_no_further_than_its_header_says(tmp_path: Path) -> None:
    head = struct.pack(">4I", 0x803, 2, 3, 2)
    write_packed(tmp_path / "a-images-idx3-ubyte.gz", head, b"\0", MANY)
    (tmp_path / "a-labels-idx1-ubyte").write_bytes(IDX_LABELS)
    assert "= 12 bytes, but there are more" in read_cheaply(tmp_path / "a-images-idx3-ubyte.gz")


def test_idx_labels_are_compared_before_images_are_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_packed(tmp_path / "a-images-idx3-ubyte.gz", struct.pack(">4I", 0x803, 300, 1000, 1000), b"\0", MANY)
    (tmp_path / "a-labels-idx1-ubyte").write_bytes(IDX_LABELS)
    monkeypatch.delattr("cnnpar.data.readers.idx._fill")
    assert "2 labels, but a-images-idx3-ubyte.gz has 300 images" in read_cheaply(tmp_path / "a-images-idx3-ubyte.gz")


def test_labels_are_checked_before_images_are_unpacked(tmp_path: Path) -> None:
    damaged = gzip.compress(struct.pack(">4I", 0x803, 2, 3, 2))[:-9] + bytes(50)
    (tmp_path / "a-images-idx3-ubyte.gz").write_bytes(damaged)
    (tmp_path / "a-labels-idx1-ubyte").write_bytes(IDX_LABELS[:-1] + b"\2")
    assert "label 1 never occurs, but 2 does" in read_cheaply(tmp_path / "a-images-idx3-ubyte.gz")
    content = npy_header((2, 99, 99)) + bytes(2 * 99 * 99)
    write_npz(tmp_path / "a.npz", zipfile.ZIP_STORED, x=content, y=npy_header((2,)) + b"\0\2")
    data = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(data.replace(bytes(9999), b"\1" * 9999))  # its checksum is wrong
    assert "label 1 never occurs, but 2 does" in read_cheaply(tmp_path / "a.npz")


def test_gzip_cannot_hold_what_an_idx_header_says(tmp_path: Path) -> None:
    shape = (2**31, 2**10, 2**10)
    (tmp_path / "a-images-idx3-ubyte.gz").write_bytes(gzip.compress(struct.pack(">4I", 0x803, *shape)))
    (tmp_path / "a-labels-idx1-ubyte").write_bytes(IDX_LABELS)
    assert "2147483648 x 1024 x 1024 = " in read_cheaply(tmp_path / "a-images-idx3-ubyte.gz")


def test_data_larger_than_memory_are_refused_unread(tmp_path: Path) -> None:
    count, side = 1_000_000, 2000
    for name, header, size in (
        ("a-images-idx3-ubyte", (0x803, count, side, side), count * side * side),
        ("a-labels-idx1-ubyte", (0x801, count), count),
    ):
        with (tmp_path / name).open("wb") as file:
            file.write(struct.pack(f">{len(header)}I", *header))
            file.truncate(file.tell() + size)  # a hole, which takes no space
    message = read_cheaply(tmp_path / "a-images-idx3-ubyte")
    assert "does not fit into memory: 4,000,008,000,000 bytes of images and labels, and" in message


def write_npz(path: Path, way: int, **members: bytes) -> None:
    with zipfile.ZipFile(path, "w", way, compresslevel=1) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)


ONE_LABEL = npy_header((1,)) + b"\0"


def test_npz_header_must_fit_its_member(tmp_path: Path) -> None:
    content = npy_header((1, 1000, 1000)) + bytes(MANY)
    write_npz(tmp_path / "a.npz", zipfile.ZIP_DEFLATED, x=content, y=ONE_LABEL)
    assert "uint8 of shape (1, 1000, 1000) takes 1,000,128 bytes, but x.npy has 300,000,128" in read_cheaply(
        tmp_path / "a.npz"
    )


def test_npz_member_is_no_larger_than_its_packed_bytes_allow(tmp_path: Path) -> None:
    write_npz(
        tmp_path / "a.npz", zipfile.ZIP_DEFLATED, x=npy_header((2, 40_000, 40_000)), y=npy_header((2,)) + bytes(2)
    )
    content = bytearray((tmp_path / "a.npz").read_bytes())
    place = content.index(b"PK\x01\x02") + 24  # the unpacked size in the directory
    content[place : place + 4] = struct.pack("<I", 128 + 2 * 40_000 * 40_000)
    (tmp_path / "a.npz").write_bytes(content)
    assert "bytes cannot be unpacked to 3,200,000,128" in read_cheaply(tmp_path / "a.npz")


@pytest.mark.slow
def test_npz_header_of_great_length_is_not_read(tmp_path: Path) -> None:
    head = b"\x93NUMPY\2\0" + struct.pack("<I", MANY)
    write_npz(tmp_path / "a.npz", zipfile.ZIP_DEFLATED, x=head + b" " * MANY, y=ONE_LABEL)
    assert "cannot be read as an .npz of plain arrays" in read_cheaply(tmp_path / "a.npz")


@pytest.mark.parametrize("way", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_npz_packed_in_another_way_is_refused(tmp_path: Path, way: int) -> None:
    write_npz(tmp_path / "a.npz", way, x=npy_header((1, 1, 1)) + b"\0", y=ONE_LABEL)
    assert "packed in another way than numpy packs" in read_cheaply(tmp_path / "a.npz")


def test_npz_of_very_many_members_is_refused(tmp_path: Path) -> None:
    entry = struct.pack("<4s4B4HL2L5H2L", b"PK\1\2", 20, 0, 20, 0, *[0] * 4, 0, 0, 0, 1, *[0] * 4, 0, 0) + b"a"
    directory = entry * 200_000
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 65535, 65535, len(directory), 0, 0)
    (tmp_path / "a.npz").write_bytes(directory + end)
    assert "its directory is too long" in read_cheaply(tmp_path / "a.npz")


@pytest.mark.slow
@pytest.mark.parametrize("order", ["C", "F"])
def test_large_npz_is_in_memory_once(tmp_path: Path, order: str) -> None:
    images = np.zeros((2_200, 200, 250), np.uint8, order="F" if order == "F" else "C")
    np.savez_compressed(tmp_path / "a.npz", x=images, y=np.zeros(2_200, ">i4"))
    del images
    assert read_cheaply(tmp_path / "a.npz") == ""


def png_of(width: int, height: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (width, height)).save(stream, "PNG")
    return stream.getvalue()


def test_picture_of_more_than_four_megapixels_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(png_of(2049, 2048))
    message = read_cheaply(tmp_path)
    assert "1.png: too large for a training picture: 2049 x 2048 pixels, at most 4,194,304 in all" in message


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_largest_picture_takes_little_memory(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (2048, 2048, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a" / f"1.{kind.lower()}", quality=95, progressive=True, compress_level=1)
    assert read_cheaply(tmp_path, validation=0.0) == ""


@pytest.mark.parametrize("options", [{"quality": 90}, {"quality": 90, "progressive": True}])
def test_photos_of_many_megapixels_are_scaled_in_little_memory(tmp_path: Path, options: dict[str, Any]) -> None:
    (tmp_path / "a").mkdir()
    small = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(small).resize((4000, 3000)).save(tmp_path / "a" / "1.jpg", **options)
    for number in range(2, 5):
        (tmp_path / "a" / f"{number}.jpg").hardlink_to(tmp_path / "a" / "1.jpg")
    assert "1.jpg: too large for a training picture" in read_cheaply(tmp_path, validation=0.0)
    assert read_cheaply(tmp_path, validation=0.0, size=(128, 128)) == ""


def test_metadata_of_a_picture_are_read_without_its_pixels(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "a").mkdir()
    Image.new("L", (9000, 9000)).save(tmp_path / "a" / "1.png", exif=exif)
    message = read_cheaply(tmp_path)
    assert "too large for a training picture: 9000 x 9000 pixels, at most 4,194,304 in all; data.size = " in message


def test_picture_is_not_unpacked_beyond_its_header(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    (tmp_path / "a").mkdir()
    rows = zlib.compress(bytes(MANY), 1)
    header = struct.pack(">2I5B", 2, 2, 8, 0, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    (tmp_path / "a" / "1.png").write_bytes(content)
    read_cheaply(tmp_path, validation=0.0)


def test_picture_file_of_absurd_length_is_not_read(tmp_path: Path) -> None:
    write_picture(tmp_path / "a" / "1.png")
    with (tmp_path / "a" / "1.png").open("r+b") as file:
        file.truncate(1 << 40)
    assert "1.png: cannot be read as a picture: larger than 16,777,216 bytes" in read_cheaply(tmp_path)


def test_pictures_that_do_not_fit_into_memory_are_counted_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        write_picture(tmp_path / "a" / f"{number}.png", "L", (100, 100))
    monkeypatch.setattr("cnnpar.data.readers.files.available_memory", lambda: 39_999)
    assert "does not fit into memory: 40,000 bytes of images and labels, and 39,999" in read_cheaply(tmp_path)
