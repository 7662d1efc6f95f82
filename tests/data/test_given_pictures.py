"""Images of Pillow given to `cnnpar.train`: they become what the same pictures become in files."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cnnpar
from cnnpar.config.data import Data
from cnnpar.data.dataset import Splits
from cnnpar.data.given import samples_given
from cnnpar.data.load import load_splits
from cnnpar.data.readers.inputs import Input
from cnnpar.errors import InputError
from cnnpar.report.predictions import Answers
from cnnpar.run.predict import predict
from cnnpar.run.python_words import as_python
from cnnpar.storage.checkpoint import read

NOISE = np.random.default_rng(0).integers(0, 256, (12, 9, 4), np.uint8)
LOOKS = [
    {"background": "#80ff00"},
    {"size": (6, 8), "fit": "pad", "background": "red", "channels": 3},
    pytest.param({}, marks=pytest.mark.slow),
    pytest.param({"size": (5, 5), "fit": "crop", "channels": 1}, marks=pytest.mark.slow),
    pytest.param({"size": (20, 7), "background": "black"}, marks=pytest.mark.slow),
]


def splits(data: Any, **settings: Any) -> Splits:
    wanted = Data(name="given", validation=0.0, **settings)
    return load_splits(wanted, given=samples_given({"train": data}, wanted))


def error_of(data: Any, **settings: Any) -> str:
    with pytest.raises(InputError) as caught:
        splits(data, **settings)
    return as_python(str(caught.value))


def as_they_are(image: Image.Image) -> dict[str, Any]:
    return {}


def with_clear_colour(image: Image.Image) -> dict[str, Any]:
    clear = image.getpixel((3, 4))
    image.info["transparency"] = clear
    return {"transparency": clear}


def with_clear_palette(image: Image.Image) -> dict[str, Any]:
    image.info["transparency"] = bytes(range(256))
    return {"transparency": bytes(range(256))}


def on_its_side(image: Image.Image) -> dict[str, Any]:
    exif = Image.Exif()
    exif[0x0112] = 6
    image.info["exif"] = exif.tobytes()
    return {"exif": exif}


def made(mode: str) -> Image.Image:
    if mode.startswith("I;16"):
        return Image.fromarray(NOISE.view(">u2" if mode == "I;16B" else "<u2")[..., 0])
    if mode == "F":
        return Image.fromarray(NOISE.view(np.uint16)[..., 0].astype(np.float32) / 7)
    if mode in ("RGBA", "CMYK"):
        return Image.frombytes(mode, (9, 12), NOISE.tobytes())
    if mode == "LA":
        return Image.frombytes(mode, (9, 12), NOISE[..., :2].tobytes())
    return Image.fromarray(NOISE[..., :3]).convert(mode)


@pytest.mark.parametrize("look", LOOKS, ids=str)
@pytest.mark.parametrize(
    ("mode", "suffix", "change"),
    [
        *((mode, "png", as_they_are) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
        *((mode, "tif", as_they_are) for mode in ("CMYK", "I;16B", "F", "RGBA")),
        *((mode, "png", with_clear_colour) for mode in ("L", "P", "RGB", "I;16")),
        ("P", "png", with_clear_palette),
        *((mode, suffix, on_its_side) for mode in ("L", "RGB") for suffix in ("png", "tif")),
    ],
)
def test_pillows_images_become_what_their_files_become(
    tmp_path: Path, mode: str, suffix: str, change: Callable[[Image.Image], dict[str, Any]], look: dict[str, Any]
) -> None:
    if mode == "F" and look.get("fit") == "pad":
        look = {**look, "fit": "crop"}  # floats have no colour to be padded with
    image, path = made(mode), tmp_path / "0" / f"1.{suffix}"
    assert image.mode == mode
    path.parent.mkdir()
    image.save(path, **change(image))
    expected = load_splits(Data(train=str(tmp_path), validation=0.0, **look))
    content = path.read_bytes()  # Pillow 13 maps some TIFF files on their side wrongly, where it opens them by name
    with Image.open(BytesIO(content)) as unloaded, Image.open(BytesIO(content)) as other:
        other.load()
        before = other.info.copy(), other.size, other.tobytes()
        for given in (unloaded, other, other.copy(), *([image] if suffix != "tif" or change is as_they_are else [])):
            found = splits([(given, "0")], **look)
            assert found.train.images.dtype == expected.train.images.dtype
            np.testing.assert_array_equal(found.train.images, expected.train.images)
            assert found.understood == expected.understood
            assert [note.removeprefix("data: ") for note in found.notes] == [
                note.removeprefix(f"{tmp_path}: ") for note in expected.notes
            ]
        assert before == (other.info, other.size, other.tobytes())


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_images_of_jpeg_files_are_not_decoded_anew(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "0" / "1.jpg"
    path.parent.mkdir()
    smooth = np.add.outer(np.arange(120), np.arange(90)).astype(np.uint8)
    Image.fromarray(smooth).convert("RGB").convert(mode).save(path)
    looks: list[dict[str, Any]] = [{}, {"size": (12, 9)}]
    for look in looks:
        expected = load_splits(Data(train=str(tmp_path), validation=0.0, **look)).train.images
        with Image.open(path) as image:
            found = splits([(image, 0)], **look).train.images
            assert image.size == (90, 120)
        # A file that is scaled down is decoded at a smaller size at once.
        np.testing.assert_allclose(found.astype(float), expected, atol=3 if look else 0)


def test_unlike_images_are_counted_with_what_helps() -> None:
    images = [Image.new(*form) for form in (("L", (3, 2)), ("L", (3, 2)), ("P", (2, 3)), ("RGB", (9, 9)))]
    labels = ["a", "b", "a", "b"]
    as_tables = [{"image": image, "label": label} for image, label in zip(images, labels, strict=True)]
    assert (
        error_of(as_tables)
        == error_of((images, labels))
        == (
            "data: its 4 pictures are not alike: 3 sizes (most 3 x 2: 2), 2 colour among grey; set data.size = [H, W], "
            "such as [128, 128] and data.channels = 3 (colour) or 1 (grey) (data: sample 2 (counted from 0) is 2 x 3 "
            "colour of 8 bits)"
        )
    )
    assert splits((images, labels), size=(8, 6), channels=3).train.images.shape == (4, 8, 6, 3)
    assert "1 of 8 bits, 1 of 16 bits; convert all to one depth" in error_of(
        [(Image.new("L", (2, 2)), 0), (Image.new("I;16", (2, 2)), 1)]
    )
    large = error_of([(Image.new("L", (4000, 2000)), 0)])
    assert "data: sample 0 (counted from 0): too large for a training picture: 4000 x 2000 pixels" in large
    assert "data.size = [H, W], such as [128, 128], scales all pictures" in large


def test_images_that_cannot_be_read_end_or_are_left_out(tmp_path: Path) -> None:
    Image.fromarray(NOISE).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:100])
    with (tmp_path / "a.png").open("rb") as file:
        bad = [Image.open(file), Image.new("LAB", (9, 12))]
    good = [Image.new("RGB", (9, 12), (number, 0, 0)) for number in range(4)]
    images, labels = [good[0], bad[0], good[1], bad[1], good[2], good[3]], ["a", "b", "a", "b", "b", "b"]
    assert "data: sample 1 (counted from 0): cannot be read as a picture: " in error_of((images, labels))
    assert error_of((images, labels)).endswith('; data.on_bad = "skip" leaves such pictures out')
    found = splits((images, labels), on_bad="skip")
    assert found.train.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert found.train.labels.tolist() == [0, 0, 1, 1]
    assert found.notes[0] == (
        "data: 2 of 6 pictures cannot be read and are left out: sample 1 (counted from 0), sample 3 (counted from 0)"
    )
    labels[4:] = "aa"
    assert "data: no picture of class 'b' can be read" in error_of((images, labels), on_bad="skip")
    assert "label 1 never occurs, but 2 does" in error_of((images, [0, 1, 0, 1, 2, 2]), on_bad="skip")


def test_a_scale_is_for_arrays_and_leaves_pictures_as_in_files() -> None:
    images = [Image.fromarray(NOISE[..., 0])] * 2
    assert np.array_equal(splits((images, [0, 1]), scale=0.5).train.images[0, ..., 0], NOISE[..., 0])


def test_a_model_treats_opened_pictures_as_it_does_their_files(tmp_path: Path) -> None:
    for number, size in enumerate([(9, 12), (8, 8), (12, 9), (16, 5)]):
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.resize(NOISE, (*size, 4)), "RGBA").save(path)
    tables = {
        "data": {"train": str(tmp_path / "photos"), "size": [8, 8], "channels": 3, "validation": 0},
        "model": {"layers": [{"type": "flatten"}, {"type": "dense"}]},
        "train": {"epochs": 1},
        "engine": {"workers": 0},
    }
    with pytest.warns(UserWarning, match="transparent"):
        result = cnnpar.train(tables, run_dir=tmp_path / "run")
    files = sorted((tmp_path / "photos").rglob("*.png"))
    payload = read(tmp_path / "run" / "model.json")
    answers = list[Answers]()
    inputs = [Input(file, str(file), "pictures") for file in files]
    faults = list[tuple[str, str]]()
    settings = result.model.config.data
    predict(payload, "model.json", inputs, settings, answers.append, lambda *fault: faults.append(fault), print)
    assert not faults
    images = [Image.open(file) for file in files]
    found = result.model.probabilities(images)
    assert np.array_equal(found, np.concatenate([each.probabilities for each in answers]))
    assert result.model.probabilities(images[2]).tolist() == found[2].tolist()
    with pytest.raises(
        cnnpar.InputError, match=r"^images are \(1, 8, 8, 3\) uint16, and the model takes \(N, 8, 8, 3\)"
    ):
        result.model.predict(Image.fromarray(np.zeros((9, 9), np.uint16)))
