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
    with pytest.raises(InputError, match=r"owls/\S+: class 'owls' was not in training, which had bees, cats"):
        load_test(tmp_path, (2, 2, 1), ("bees", "cats"))


def test_faults_of_class_folders_are_named(tmp_path: Path) -> None:
    assert "no class folders in it" in load_error(tmp_path)
    (tmp_path / "train.csv").mkdir()
    assert "this class folder is empty" in load_error(tmp_path)
    assert "no class folders in it" in load_error(tmp_path / "train.csv")  # a folder where a file was meant
    (tmp_path / "train.csv" / "notes.txt").write_text("")
    assert "notes.txt: not a PNG, JPEG, BMP, GIF, WebP or TIFF picture" in load_error(tmp_path)
    write_picture(tmp_path / "train.csv" / "cats" / "1.png")
    assert "cats: is a folder" in load_error(tmp_path)


def test_other_files_are_left_out_where_bad_pictures_are(tmp_path: Path) -> None:
    for name in ("cats", "dogs"):
        for number in range(2):
            write_picture(tmp_path / name / f"{number}.png")
    (tmp_path / "dogs" / "notes.txt").write_text("mine")
    assert 'data.on_bad = "skip"' in load_error(tmp_path)
    found = load_splits(Data(train=str(tmp_path), on_bad="skip", validation=0.0))
    assert len(found.train) == 4
    assert f"{tmp_path}: 1 files are no pictures and are left out: dogs/notes.txt" in found.notes


def test_sizes_of_pictures_are_refused_for_other_data(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("0,1,2,3,4\n")
    for settings in (Data(train=str(tmp_path / "a.csv"), size=(4, 4)), Data(channels=1)):
        with pytest.raises(InputError, match="are for folders of pictures"):
            load_splits(settings)


@pytest.mark.parametrize(
    ("mode", "size", "words"),
    [
        (
            "L",
            (2, 3),
            "2 sizes (most 3 x 2: 2); set data.size = [H, W], such as [128, 128] (TMP/dogs/2.png is 2 x 3 grey",
        ),
        (
            "RGB",
            (3, 2),
            "1 colour among grey; set data.channels = 3 (colour) or 1 (grey) (TMP/dogs/2.png is 3 x 2 colour",
        ),
        (
            "P",
            (2, 3),
            "2 sizes (most 3 x 2: 2), 1 colour among grey; set data.size = [H, W], such as [128, 128] and data",
        ),
        (
            "I;16",
            (3, 2),
            "2 of 8 bits, 1 of 16 bits; convert all to one depth (TMP/dogs/2.png is 3 x 2 grey of 16 bits)",
        ),
    ],
)
def test_unlike_pictures_are_counted_with_what_helps(
    tmp_path: Path, mode: str, size: tuple[int, int], words: str
) -> None:
    for name in ("cats/1.png", "cats/2.png"):
        write_picture(tmp_path / name)
    write_picture(tmp_path / "dogs" / "2.png", mode, size)
    assert f"its 3 pictures are not alike: {words.replace('TMP', str(tmp_path))}" in load_error(tmp_path)


def test_settings_of_an_error_on_unlike_pictures_do_help(tmp_path: Path) -> None:
    for number, (mode, size) in enumerate([("L", (3, 2)), ("RGB", (7, 5)), ("P", (40, 30))]):
        write_picture(tmp_path / "cats" / f"{number}.png", mode, size)
    found = load_splits(Data(train=str(tmp_path), validation=0.0, size=(6, 4), channels=3))
    assert found.train.images.shape == (3, 6, 4, 3)
    assert "pictures stretched to 6 x 4" in found.understood


def test_unreadable_pictures_are_named(tmp_path: Path) -> None:
    write_picture(tmp_path / "cats" / "1.png")
    whole = (tmp_path / "cats" / "1.png").read_bytes()
    pixels = whole.index(b"IDAT") + 6
    bad = tmp_path / "cats" / "2.png"
    write_picture(tmp_path / "other.ppm")
    for content in (b"", b"not a picture", (tmp_path / "other.ppm").read_bytes()):
        bad.write_bytes(content)
        assert "2.png: not a PNG, JPEG, BMP, GIF, WebP or TIFF picture, whatever" in load_error(tmp_path)
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


def test_leftovers_of_systems_are_passed_over(tmp_path: Path) -> None:
    write_picture(tmp_path / "cats" / "1.png")
    write_picture(tmp_path / "dogs" / "1.png")
    for folder in ("__MACOSX", "lost+found", "@eaDir", ".ipynb_checkpoints", "cats/@eaDir", "dogs/.ipynb_checkpoints"):
        write_picture(tmp_path / folder / "1.png")
    for file in ("Thumbs.db", "desktop.ini", ".DS_Store", "cats/Thumbs.db", "dogs/Desktop.ini", "cats/._1.png"):
        (tmp_path / file).write_bytes(b"0")
    found = load_splits(Data(train=str(tmp_path), validation=0.0)).train
    assert found.class_names == ("cats", "dogs")
    assert len(found) == 2


def test_folder_one_level_too_high_says_which_to_give(tmp_path: Path) -> None:
    write_picture(tmp_path / "dataset" / "cats" / "1.png")
    write_picture(tmp_path / "dataset" / "dogs" / "1.png")
    assert load_error(tmp_path).endswith(f"give {tmp_path / 'dataset'}")


def test_parts_below_one_folder_are_found(tmp_path: Path) -> None:
    for part, count in (("train", 3), ("Valid", 2), ("test", 1)):
        for name in ("cats", "dogs"):
            for number in range(count):
                write_picture(tmp_path / part / name / f"{number}.png")
    (tmp_path / "labels").mkdir()
    found = load_splits(Data(train=str(tmp_path)))
    assert found.validation is not None
    assert found.test is not None
    assert [len(part) for part in (found.train, found.validation, found.test)] == [6, 4, 2]
    assert found.train.class_names == ("cats", "dogs")
    assert "folder train beside Valid, test" in found.understood
    assert len(load_test(tmp_path, (2, 3, 1), ("cats", "dogs"))) == 2


def test_unlabelled_test_folder_is_left_out_with_a_note(tmp_path: Path) -> None:
    for name in ("train/cats/1.png", "train/cats/2.png", "train/dogs/1.png", "test/1.png"):
        write_picture(tmp_path / name)
    found = load_splits(Data(train=str(tmp_path), validation=0.0))
    assert found.test is None
    assert f"{tmp_path}/test: none of the class folders of train in it; it is left out" in found.notes
    write_picture(tmp_path / "val" / "cats" / "1.png")
    assert "holds train, val, and no folder `test`" in error_of_test(tmp_path)
    write_picture(tmp_path / "training" / "cats" / "1.png")
    assert "holds train, training, val; give one of them" in load_error(tmp_path)


def test_class_named_train_is_a_class(tmp_path: Path) -> None:
    for name in ("train", "car", "test"):
        write_picture(tmp_path / name / "1.png")
    assert load_splits(Data(train=str(tmp_path), validation=0.0)).train.class_names == ("car", "test", "train")


def test_bad_pictures_are_left_out_if_so_wished(tmp_path: Path) -> None:
    for number in range(6):
        write_picture(tmp_path / "cats" / f"{number}.png", colour=number)
        write_picture(tmp_path / "dogs" / f"{number}.png", colour=10 + number)
    (tmp_path / "cats" / "0.png").write_bytes(b"not a picture")
    whole = (tmp_path / "dogs" / "4.png").read_bytes()
    (tmp_path / "dogs" / "4.png").write_bytes(whole[:50])
    assert "cats/0.png: not a PNG" in load_error(tmp_path)
    assert 'data.on_bad = "skip" leaves such pictures out' in load_error(tmp_path)
    found = load_splits(Data(train=str(tmp_path), validation=0.0, on_bad="skip"))
    assert f"{tmp_path}: 2 of 12 pictures cannot be read and are left out: cats/0.png, dogs/4.png" in found.notes
    assert found.train.images[:, 0, 0, 0].tolist() == [1, 2, 3, 4, 5, 10, 11, 12, 13, 15]
    assert found.train.labels.tolist() == [0] * 5 + [1] * 5
    for number in range(6):
        (tmp_path / "dogs" / f"{number}.png").write_bytes(b"")
    assert "dogs: no picture in this class folder can be read" in load_error(tmp_path, on_bad="skip")
    for number in range(6):
        (tmp_path / "cats" / f"{number}.png").write_bytes(b"")
    assert "cats/0.png: not a PNG" in load_error(tmp_path, on_bad="skip")


def test_held_out_and_tested_samples_know_their_files(tmp_path: Path) -> None:
    for part, count in (("train", 12), ("test", 3)):
        for number, name in enumerate("ab"):
            for index in range(count):
                write_picture(tmp_path / part / name / f"{index}.png", colour=100 * number + index)
    (tmp_path / "train" / "a" / "3.png").write_bytes(b"broken")
    splits = load_splits(Data(train=str(tmp_path), validation=0.5, on_bad="skip"))
    for data, count in ((splits.validation, 12), (splits.test, 6)):
        assert data is not None
        assert len(data) == count
        for index, image in enumerate(data.images):
            file = Path(data.file(index) or "")
            assert image[0, 0, 0] == int(file.stem) + 100 * "ab".index(file.parent.name) != 3
    assert splits.train.file_of is None  # held for no one


def test_file_that_cannot_be_opened_is_never_left_out(tmp_path: Path) -> None:
    write_picture(tmp_path / "cats" / "1.png")
    (tmp_path / "cats" / "2.png").symlink_to("nowhere")
    assert "2.png: cannot be read as a picture: No such file" in load_error(tmp_path, on_bad="skip")


def test_background_that_is_no_colour_is_named(tmp_path: Path) -> None:
    write_picture(tmp_path / "cats" / "1.png")
    with pytest.raises(InputError, match=r"data\.background is 'wihte', which is no colour; expected one of CSS"):
        load_splits(Data(train=str(tmp_path), background="wihte"))


def error_of_test(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_test(path, (2, 3, 1), ("cats", "dogs"))
    return str(caught.value)


def with_size(png: bytes, width: int, height: int) -> bytes:
    """Return the PNG with another size in its header, and the checksum of that header."""
    header = b"IHDR" + struct.pack(">2I", width, height) + png[24:29]
    return png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]
