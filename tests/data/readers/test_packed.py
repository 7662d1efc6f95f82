"""Packed text: recognised by content whatever the name, unpacked in bounded memory, and refused by what it is."""

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from cnnpar.config.data import Data
from cnnpar.data.load import load_splits
from tests.helpers.cached_data import read, write_fixed_size_csv
from tests.helpers.costs import read_cheaply
from tests.helpers.data_files import CSV_ROW, load_error

TEXT = b"label,a,b,c,d\n0,1,2,3,4\n1,5,6,7,255\n"


def zipped(*members: tuple[str, bytes], way: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", way) as archive:
        for name, content in members:
            member = zipfile.ZipInfo(name)  # with no time of now
            member.compress_type = way
            archive.writestr(member, content)
    return stream.getvalue()


def zipped_by_macos(content: bytes) -> bytes:
    leftovers = [("__MACOSX/._a.csv", b"\0\5\x16\7"), (".DS_Store", b"\0\0\0\1Bud1"), ("data/", b"")]
    return zipped(*leftovers, ("data/a.csv", content))


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "csv": bytes,
    "csv.gz": gzip.compress,
    "csv.bz2": bz2.compress,
    "csv.xz": lzma.compress,
    "csv.zip": zipped_by_macos,
    "tsv.gz": lambda content: gzip.compress(content.replace(b",", b"\t")),
    "two streams.txt.bz2": lambda content: bz2.compress(content[:20]) + bz2.compress(content[20:]),
    "stored.csv.zip": lambda content: zipped(("a.csv", content), way=zipfile.ZIP_STORED),
}


@pytest.mark.parametrize("kind", PACKERS)
@pytest.mark.parametrize("named", [True, False])
def test_packed_csv_is_read_whatever_its_name(tmp_path: Path, kind: str, named: bool) -> None:
    path = tmp_path / (f"a.{kind}" if named else "a.csv")
    path.write_bytes(PACKERS[kind](TEXT))
    found = load_splits(Data(train=str(path), validation=0.0)).train
    assert found.images.reshape(2, 4).tolist() == [[1, 2, 3, 4], [5, 6, 7, 255]]
    assert found.labels.tolist() == [0, 1]


@pytest.mark.parametrize("kind", ["csv.bz2", "csv.xz", "csv.zip"])
def test_fault_in_packed_csv_is_named_with_its_line(tmp_path: Path, kind: str) -> None:
    (tmp_path / f"a.{kind}").write_bytes(PACKERS[kind](TEXT + b"-1,1,2,3,4\n"))
    assert "line 4, column 1: label -1 is below 0" in load_error(tmp_path / f"a.{kind}")


@pytest.mark.parametrize("kind", ["csv.bz2", "csv.xz", "csv.zip"])
def test_damaged_packed_csv_is_refused(tmp_path: Path, kind: str) -> None:
    content = PACKERS[kind](TEXT * 9)
    (tmp_path / f"a.{kind}").write_bytes(content[:-20])
    assert "damaged or" in load_error(tmp_path / f"a.{kind}")
    middle = len(content) // 2
    (tmp_path / f"a.{kind}").write_bytes(content[:middle] + b"\xff" * 9 + content[middle + 9 :])
    load_error(tmp_path / f"a.{kind}")


def test_zip_archive_must_hold_one_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.zip"
    for content, words in (
        (
            zipped(("train.csv", TEXT), ("test.csv", TEXT)),
            "a zip archive of train.csv, test.csv; expected one CSV file",
        ),
        (zipped(("__MACOSX/a", b"")), "a zip archive of nothing; expected one CSV file"),
        (zipped(("[Content_Types].xml", b""), ("xl/workbook.xml", b"")), "an Excel workbook; save its sheet as CSV"),
        (zipped(("a.csv", TEXT), way=zipfile.ZIP_LZMA), "packed in another way than deflated"),
    ):
        path.write_bytes(content)
        assert words in load_error(path)
    many = [(f"{number:0100}.csv", b"") for number in range(9000)]
    path.write_bytes(zipped(*many))
    assert "its directory is too long" in load_error(path)


def test_zip_archive_of_the_same_size_is_no_cached_one(tmp_path: Path, cache_folder: Path) -> None:
    found = []
    for seed in (0, 1, 0):
        content = write_fixed_size_csv(tmp_path / "b.csv", seed).read_bytes()
        (tmp_path / "a.zip.csv").write_bytes(zipped(("a.csv", content), way=zipfile.ZIP_STORED))
        found.append(read(tmp_path / "a.zip.csv").fingerprint)
    assert found[0] == found[2] != found[1]
    assert len(list(cache_folder.iterdir())) == 2


@pytest.mark.parametrize("kind", [pytest.param("csv.bz2", marks=pytest.mark.slow), "csv.xz", "csv.zip"])
@pytest.mark.parametrize(("repeated", "words"), [(b"\n", "are blank; remove"), (b"1,", "line 2 is too long")])
def test_packed_csv_that_unpacks_to_nothing_is_refused_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, repeated: bytes, words: str
) -> None:
    monkeypatch.setenv("CNNPAR_CACHE", "off")
    content = PACKERS[kind](CSV_ROW.encode() + repeated * (20_000_000 // len(repeated)))
    (tmp_path / f"a.{kind}").write_bytes(content)
    del content
    assert words in read_cheaply(tmp_path / f"a.{kind}")


def test_xz_that_needs_much_memory_is_refused(tmp_path: Path) -> None:
    stream = lzma.LZMACompressor(filters=[{"id": lzma.FILTER_LZMA2, "preset": 0}])
    content = stream.compress(TEXT) + stream.flush()
    (tmp_path / "a.csv.xz").write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cnnpar.data.readers.packed._MOST_XZ", 100_000)
        assert "damaged or truncated xz file: Memory usage limit exceeded" in load_error(tmp_path / "a.csv.xz")


def test_a_member_without_a_name_is_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.csv.zip", "w") as archive:
        archive.writestr(zipfile.ZipInfo(""), "0,1,2,3,4\n")
    assert len(load_splits(Data(train=str(tmp_path / "a.csv.zip"), validation=0.0)).train) == 1
