"""Reading folders of class folders, and the errors that name the picture or folder at fault."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from cnnpar.config.data import Data
from cnnpar.data.load import load_splits
from cnnpar.errors import InputError
from tests.helpers.data_files import load_error, load_test, write_picture


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_class_folders_give_their_pictures_in_order(tmp_path: Path, mode: str) -> None:
    from PIL import Image

    channels = {"L": 1, "RGB": 3}[mode]
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 5, channels), dtype=np.uint8)
    for image, name in zip(images, ["cats/1.png", "cats/2.PNG", "dogs/1.png", "owls/9.png"], strict=True):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(image.squeeze(-1) if channels == 1 else image).save(tmp_path / name)
    (tmp_path / "LICENSE.txt").write_text("beside the class folders, other files may lie")
    (tmp_path / "cats" / ".hidden").write_text("")
    found = load_splits(Data(train=str(tmp_path), validation=0.0)).train
    assert found.class_names == ("cats", "dogs", "owls")
    assert found.labels.tolist() == [0, 0, 1, 2]
    assert np.array_equal(found.images, images)


def test_colour_jpeg_is_read_with_three_channels(tmp_path: Path) -> None:
    from PIL import Image

    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        Image.new("RGB", (6, 4), (200, 10, 10)).save(tmp_path / label / "1.jpg")
    found = load_splits(Data(train=str(tmp_path), validation=0.0)).train
    assert found.image_shape == (4, 6, 3)
    assert abs(int(found.images[0, 0, 0, 0]) - 200) < 8


def test_data_folders_are_matched_to_classes_by_name(tmp_path: Path) -> None:
    from PIL import Image

    for name in ("owls", "bees"):
        (tmp_path / name).mkdir()
        Image.new("L", (2, 2)).save(tmp_path / name / "1.png")
    found = load_test(tmp_path, (2, 2, 1), ("bees", "cats", "owls"))
    assert found.labels.tolist() == [0, 2]
    with pytest.raises(InputError, match="class 'owls' was not in training, which had bees, cats"):
        load_test(tmp_path, (2, 2, 1), ("bees", "cats"))


def test_faults_of_class_folders_are_named(tmp_path: Path) -> None:
    assert "no class folders in it" in load_error(tmp_path)
    (tmp_path / "train.csv").mkdir()
    assert "this class folder is empty" in load_error(tmp_path)
    assert "no class folders in it" in load_error(tmp_path / "train.csv")  # a folder where a file was meant
    (tmp_path / "train.csv" / "notes.txt").write_text("")
    assert "notes.txt: not a PNG or JPEG picture" in load_error(tmp_path)
    (tmp_path / "train.csv" / "notes.txt").unlink()
    write_picture(tmp_path / "train.csv" / "cats" / "1.png")
    assert "cats: not a PNG or JPEG picture; a class folder holds nothing else" in load_error(tmp_path)


@pytest.mark.parametrize(
    ("mode", "size", "words"),
    [
        ("L", (2, 3), "2.png: 3 x 2 grey, but"),
        ("RGB", (3, 2), "2.png: 2 x 3 RGB, but"),
        ("RGBA", (3, 2), "2.png: mode RGBA; convert it to 8-bit grey (L) or colour (RGB)"),
        ("P", (3, 2), "2.png: mode P"),
        ("I;16", (3, 2), "2.png: mode I;16"),
    ],
)
def test_pictures_of_another_size_or_mode_are_named(
    tmp_path: Path, mode: str, size: tuple[int, int], words: str
) -> None:
    write_picture(tmp_path / "cats" / "1.png")
    write_picture(tmp_path / "dogs" / "2.png", mode, size)
    assert words in load_error(tmp_path)


def test_unreadable_pictures_are_named(tmp_path: Path) -> None:
    write_picture(tmp_path / "cats" / "1.png")
    whole = (tmp_path / "cats" / "1.png").read_bytes()
    pixels = whole.index(b"IDAT") + 6
    bad = tmp_path / "cats" / "2.png"
    write_picture(tmp_path / "other.gif")
    for content in (b"", b"not a picture", (tmp_path / "other.gif").read_bytes()):
        bad.write_bytes(content)
        assert "2.png: not a PNG or JPEG picture, whatever its name says" in load_error(tmp_path)
    for cut in range(1, pixels):
        bad.write_bytes(whole[:cut])
        assert "2.png: " in load_error(tmp_path)


@pytest.mark.filterwarnings("default")  # as for users: what Pillow only warns of must be refused too
@pytest.mark.parametrize("side", [10_000, 60_000])
def test_picture_of_absurd_size_is_refused_by_its_header(tmp_path: Path, side: int) -> None:
    write_picture(tmp_path / "cats" / "1.png")
    path = tmp_path / "cats" / "1.png"
    path.write_bytes(with_size(path.read_bytes(), side, side))
    assert "1.png: too large for a training picture" in load_error(tmp_path)


def with_size(png: bytes, width: int, height: int) -> bytes:
    """Return the PNG with another size in its header, and the checksum of that header."""
    header = b"IHDR" + struct.pack(">2I", width, height) + png[24:29]
    return png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]
