"""Inputs may be links, and CSV and settings pipes; nothing else is waited for. Cache entries are regular files only."""

import os
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest

from cnnpar.config.resolve import read_toml
from cnnpar.data.readers import named
from cnnpar.errors import InputError
from tests.helpers.cached_data import (
    assert_same_data,
    files_in,
    read,
    read_without_cache,
    write_class_folders,
    write_fixed_size_csv,
)
from tests.helpers.data_files import CSV_ROW, IDX_IMAGES, IDX_LABELS, X, Y, load_error, load_test

pytestmark = pytest.mark.usefixtures("in_time", "cache_folder")

NAMES = ("a.csv", "a.csv.gz", "a.npz", "a-images-idx3-ubyte", "a.toml")


def place(kind: str, path: Path) -> None:
    """Put something that is no regular file where one is expected."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(path.name)


def error_of(path: Path) -> str:
    if path.suffix == ".toml":
        with pytest.raises(InputError) as caught:
            read_toml(path)
        return str(caught.value)
    return load_error(path)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, kind) for name in NAMES for kind in ("device", "folder", "link to itself")),
        *((name, "pipe") for name in ("a.npz", "a-images-idx3-ubyte")),
    ],
)
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, name: str, kind: str) -> None:
    place(kind, tmp_path / name)
    words = "not a regular file|no class folders in it|Is a directory|no such file|cannot be read|cannot read"
    message = error_of(tmp_path / name)
    assert any(word in message for word in words.split("|"))


@pytest.mark.parametrize("kind", ["device", "pipe"])
def test_pictures_and_labels_must_be_regular_files(tmp_path: Path, kind: str) -> None:
    folder = write_class_folders(tmp_path / "classes", 0)
    place(kind, folder / "b" / "9.png")
    assert "9.png: cannot be read as a picture: not a regular file" in load_error(folder)
    (tmp_path / "a-images-idx3-ubyte").write_bytes(IDX_IMAGES)
    place(kind, tmp_path / "a-labels-idx1-ubyte")
    assert "its labels file is not beside it" in load_error(tmp_path / "a-images-idx3-ubyte")


@pytest.mark.parametrize("name", NAMES)
def test_links_to_inputs_are_followed(tmp_path: Path, name: str) -> None:
    (tmp_path / "there").mkdir()
    real = tmp_path / "there" / name
    if name.startswith("a.csv"):
        write_fixed_size_csv(real, 0)
    elif name == "a.npz":
        np.savez(real, x=X, y=Y)
    elif name == "a.toml":
        real.write_text("[train]\nepochs = 3\n")
    else:
        real.write_bytes(IDX_IMAGES)
        (tmp_path / "a-labels-idx1-ubyte").write_bytes(IDX_LABELS)
    (tmp_path / name).symlink_to(real)
    if name == "a.toml":
        assert read_toml(tmp_path / name) == {"train": {"epochs": 3}}
    else:
        assert_same_data(read(tmp_path / name), read(tmp_path / name))


def written_into(pipe: Path, content: str) -> Path:
    """Make a pipe, and write into it as soon as it is read."""
    os.mkfifo(pipe)
    threading.Thread(target=pipe.write_text, args=(content,), daemon=True).start()
    return pipe


def test_settings_may_come_from_a_pipe(tmp_path: Path) -> None:
    assert read_toml(written_into(tmp_path / "pipe", "[train]\nepochs = 3\n")) == {"train": {"epochs": 3}}
    path = written_into(tmp_path / "long", "# " + "x" * (1 << 18))
    with pytest.raises(InputError, match="not a configuration: larger than 262,144 bytes"):
        read_toml(path)


def test_settings_with_keys_of_very_many_parts_are_refused_soon(tmp_path: Path) -> None:
    for key in ("a." * 100_000, '"."."\\""' + '."\'"' * 30_000 + ".", "[" + "a . " * 50_000):
        (tmp_path / "a.toml").write_text(key + "a = 1")
        with pytest.raises(InputError, match="a key of more than 100 parts"):
            read_toml(tmp_path / "a.toml")


def test_csv_from_a_process_substitution_is_read(tmp_path: Path) -> None:
    path = write_fixed_size_csv(tmp_path / "a.csv", 0)
    with subprocess.Popen(["cat", str(path)], stdout=subprocess.PIPE) as cat:
        assert cat.stdout is not None
        found = read(Path(f"/dev/fd/{cat.stdout.fileno()}"))
    assert_same_data(found, read_without_cache(path))


def test_csv_on_standard_input_may_be_a_file(tmp_path: Path) -> None:
    path = write_fixed_size_csv(tmp_path / "a.csv", 0)
    before, file = os.dup(0), os.open(path, os.O_RDONLY)
    try:
        os.dup2(file, 0)
        assert_same_data(read(Path("/dev/stdin")), read_without_cache(path))
    finally:
        os.dup2(before, 0)
        os.close(before)
        os.close(file)


def test_fault_of_a_label_from_a_pipe_does_not_read_it_again(tmp_path: Path) -> None:
    pipe = written_into(tmp_path / "a.csv", CSV_ROW * 2 + "-1,1,2,3,4\n")
    assert "sample 2 (counted from 0): label -1 is below 0" in load_error(pipe)
    pipe = written_into(tmp_path / "b.csv", CSV_ROW * 2 + "5,1,2,3,4\n")
    with pytest.raises(InputError, match=r"sample 2 .*: label 5 was not in training"):
        load_test(pipe, (2, 2, 1), ("0", "1"))


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "link to itself", "link to the entry"])
def test_planted_cache_entries_cost_nothing(tmp_path: Path, cache_folder: Path, kind: str) -> None:
    path = write_fixed_size_csv(tmp_path / "a.csv", 0)
    found = read(path)
    (entry,) = files_in(cache_folder)
    entry.rename(tmp_path / "moved")
    if kind == "link to the entry":
        entry.symlink_to(tmp_path / "moved")
    else:
        place(kind, entry)
    for _ in range(2):
        assert_same_data(read(path), found)
    assert (tmp_path / "moved").stat().st_size > 0
    assert kind == "folder" or (entry.is_file() and not entry.is_symlink())
    assert cache_folder.stat().st_mode & 0o777 == 0o700


def test_entry_that_says_it_is_large_is_not_read(tmp_path: Path, cache_folder: Path) -> None:
    path = write_fixed_size_csv(tmp_path / "a.csv", 0)
    found = read(path)
    (entry,) = files_in(cache_folder)
    header = b'{"sha256":"","shape":[1,1000000,1000000,1]}\n'
    with entry.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + 10**12 + 8)
    assert_same_data(read(path), found)


def test_removal_of_entries_follows_no_links(
    tmp_path: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(bytes(5000))
    cache_folder.mkdir()
    link, folder = cache_folder / f"1-{'0' * 64}", cache_folder / f"2-{'0' * 64}"
    link.symlink_to(precious)
    folder.mkdir()
    monkeypatch.setattr("cnnpar.data.readers.cache._MOST_BYTES", 700)
    path = write_fixed_size_csv(tmp_path / "a.csv", 0)
    read(path)
    read(write_fixed_size_csv(tmp_path / "b.csv", 1))
    assert precious.stat().st_size == 5000
    assert folder.is_dir()


def test_pipe_in_place_of_a_download_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CNNPAR_DATA", raising=False)
    (tmp_path / "cnnpar" / "mnist").mkdir(parents=True)
    os.mkfifo(tmp_path / "cnnpar" / "mnist" / "train-images-idx3-ubyte.gz")
    with pytest.raises(InputError, match="not a regular file; remove it"):
        named.read("mnist", "train", lambda *_: None)


@pytest.mark.parametrize("name", [b"\xff", b"caf\xe9", b"a\nb", b"a\tb", b"\x1b[2J", b"\xe2\x80\xae", b"\xed\xa0\x80"])
def test_class_folder_that_no_checkpoint_can_name_is_refused(tmp_path: Path, name: bytes) -> None:
    folder = write_class_folders(tmp_path / "classes", 0)
    (folder / os.fsdecode(name)).mkdir()  # refused by its name, before it is found to be empty
    message = load_error(folder)
    assert "; no checkpoint can hold that name, rename it" in message
    assert all(" " <= character < "\x7f" for character in message.removeprefix(str(folder)))


def test_class_folder_may_have_any_name_of_text(tmp_path: Path) -> None:
    folder = write_class_folders(tmp_path / "classes", 0)
    (folder / "b").rename(folder / "\u732b \u00e9\u3000 '\U0001f408'")
    assert "\u732b \u00e9\u3000 '\U0001f408'" in read(folder).train.class_names
