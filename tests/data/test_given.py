"""Arrays and objects given to `cnnpar.train`: taken for what they are, never changed, or refused with what is right."""

import enum
from collections.abc import Callable
from fractions import Fraction
from typing import Any
from unicodedata import is_normalized

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from cnnpar.config.data import Data
from cnnpar.data.dataset import Dataset, Splits
from cnnpar.data.given import samples_given
from cnnpar.data.load import load_splits
from cnnpar.errors import InputError

X = np.random.default_rng(0).integers(0, 256, (12, 5, 6), np.uint8)
Y = np.arange(12) % 3


def splits(data: Any, *, test: Any = None, validation: Any = None, share: float = 0.0, **settings: Any) -> Splits:
    wanted = Data(name="given", validation=share, **settings)
    parts = {"train": data, "validation": validation, "test": test}
    return load_splits(wanted, given=samples_given({k: v for k, v in parts.items() if v is not None}, wanted))  # type: ignore[misc]


def whole(data: Any, **settings: Any) -> Dataset:
    return splits(data, **settings).train


def error_of(data: Any, **others: Any) -> str:
    with pytest.raises(InputError) as caught:
        splits(data, **others)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("given_as", "kept_as"),
    [
        *((name, name) for name in ("uint8", "uint16", "float32")),
        *((">u2", "uint16"), (">f4", "float32"), ("bool", "uint8"), ("int64", "uint8"), ("float64", "float32")),
        *(("float16", "float32"), ("int8", "float32"), ("uint32", "uint8")),
    ],
)
@pytest.mark.parametrize("shape", [(12, 5, 6), (12, 5, 6, 1), (12, 5, 2, 3), (12, 3, 10)])
def test_arrays_of_each_type_keep_their_numbers(given_as: str, kept_as: str, shape: tuple[int, ...]) -> None:
    images = X.reshape(shape).astype(given_as)
    for array in (images, np.asfortranarray(images), images[::-1][::-1], list(images)):
        found = whole((array, Y))
        assert found.images.dtype == kept_as
        np.testing.assert_array_equal(found.images, images.reshape(*shape[:3], -1))
        assert found.images.flags.c_contiguous
        assert found.labels.tolist() == Y.tolist()


@pytest.mark.parametrize("count", [1, 3, 4])
def test_few_grey_images_are_no_channels(count: int) -> None:
    assert whole((np.zeros((count, 8, 8)), range(count))).image_shape == (8, 8, 1)


def test_the_callers_arrays_are_never_changed() -> None:
    for images in (X.copy(), X[..., np.newaxis].copy(), X.astype(np.float32)):
        labels, before = Y.copy(), images.copy()
        images.flags.writeable = labels.flags.writeable = False
        found = splits((images, labels), test=(images, labels), share=0.25)
        for part in (found.train, found.validation, found.test):
            assert part is not None
            part.images[:] = 7
            part.labels[:] = 0
        np.testing.assert_array_equal(images, before)
        np.testing.assert_array_equal(labels, Y)


class Colour(enum.Enum):
    RED = 1
    GREEN = 2
    BLUE = 3


class Animal(enum.IntEnum):
    ZEBRA = 0
    CAT = 5
    DOG = 7


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([True, False] * 6, ("False", "True")),
        (np.array([True, False] * 6), ("False", "True")),
        (list(Colour) * 4, ("BLUE", "GREEN", "RED")),
        (list(Animal) * 4, ("ZEBRA", "CAT", "DOG")),
        (["10", "9", "2"] * 4, ("2", "9", "10")),
        (np.array(["b", "a", "10"] * 4), ("10", "a", "b")),
        (np.array([b"b", b"a"] * 6), ("a", "b")),
        (np.array(["b", "a"] * 6, dtype=object), ("a", "b")),
        ([np.str_("b"), np.bool_(True), "a"] * 4, ("True", "a", "b")),
        ([Fraction(1, 2), frozenset({1})] * 6, ("1/2", "frozenset({1})")),
    ],
)
def test_names_of_classes_come_from_labels_of_any_kind(labels: Any, names: tuple[str, ...]) -> None:
    found = whole((X, labels))
    assert found.class_names == names
    shown = [
        getattr(label, "name", None) or (label.decode() if isinstance(label, bytes) else str(label)) for label in labels
    ]
    assert [names[label] for label in found.labels] == shown


@pytest.mark.parametrize(
    "labels",
    [
        Y.astype(np.uint8),
        Y.astype(">i2"),
        Y.astype(np.float64),
        Y.astype(object),
        Y[:, np.newaxis],
        Y.tolist(),
        tuple(Y),
        list(Y),
        list(Y[:, np.newaxis]),
        [[label] for label in Y.tolist()],
        [float(label) for label in Y],
        Y.astype(np.uint64),
    ],
)
def test_whole_numbers_are_labels_in_any_type(labels: Any) -> None:
    found = whole((X, labels))
    assert found.labels.tolist() == Y.tolist()
    assert found.class_names == ("0", "1", "2")


KINDS: list[st.SearchStrategy[Any]] = [
    st.integers(-(2**40), 2**40),
    st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=4).filter(
        lambda text: is_normalized("NFC", text)
    ),
    st.booleans(),
    st.sampled_from([*Colour]),
    st.sampled_from([*Animal]),
]


@given(st.one_of([st.lists(kind, min_size=1, max_size=30) for kind in KINDS]), st.booleans())
def test_labels_come_back_by_index_and_name(labels: list[Any], as_array: bool) -> None:
    images = np.zeros((len(labels), 2, 2), np.uint8)
    wanted = np.array(labels) if as_array and not isinstance(labels[0], enum.Enum) else labels
    found = whole((images, wanted), labels="as they are")
    names = [label.name if isinstance(label, enum.Enum) else str(label) for label in labels]
    assert [found.class_names[index] for index in found.labels] == names
    assert set(found.class_names) == set(names)
    if type(labels[0]) is int:
        assert [int(name) for name in found.class_names] == sorted(set(labels))


def test_numbers_with_gaps_are_classes_when_asked_for() -> None:
    assert "label 1 never occurs, but 9 does" in error_of((X, [4, 9, 0] * 4))
    assert whole((X, [4, 9, 0] * 4), labels="as they are").class_names == ("0", "4", "9")
    assert "label 0 never occurs" in error_of((X, Y + 1))


class Short:
    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Any:
        if index:
            raise IndexError("gone")
        return X[0], 0


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ((X.reshape(12, 30), Y), "data: images are uint8 of shape (12, 30); expected uint8, uint16 or floats, ("),
        ((X.reshape(12, 5, 6)[:, :, :5].reshape(12, 25), Y), "images.reshape(-1, 5, 5) makes images of such rows"),
        ((np.zeros((12, 3, 32, 32)), Y), "the channels come first, and images.transpose(0, 2, 3, 1) puts them last"),
        ((np.zeros((12, 1, 28, 28)), Y), "the channels come first"),
        ((X[0], Y), "data: images are uint8 of shape (5, 6); expected"),
        ((X.astype(complex), Y), "data: images are complex128"),
        ((X[:0], Y[:0]), "data: images are uint8 of shape (0, 5, 6); expected"),
        ((X, Y[:-1]), "data: 12 images, but 11 labels"),
        ((X, np.eye(3)[Y]), "labels are of shape (12, 3); expected one for each image; one-hot rows become"),
        ((X, np.eye(3)[Y].tolist()), "sample 0 (counted from 0): [1.0, 0.0, 0.0] is no label; one-hot rows"),
        ((X, [0, 1, None] * 4), "sample 2 (counted from 0): None is no label; a label is a whole number or a name"),
        ((X, [0, 1, float("nan")] * 4), "sample 2 (counted from 0): nan is no label"),
        ((X, Y.astype(np.uint64) + 2**63), "label 9223372036854775810 is beyond 2^63 - 1; np.unique(y, return_inverse"),
        ((X, [0, -(2**63) - 1] * 6), "sample 1 (counted from 0): label -9223372036854775809 is beyond -2^63"),
        ((X, Y + 0.5), "sample 0 (counted from 0): 0.5 is no label"),
        ((X, ["a", ""] * 6), "sample 1 (counted from 0): '' is no label"),
        ((X, ["a", "b\n"] * 6), "sample 1 (counted from 0): 'b\\n' is no label"),
        ((X, [1, "1"] * 6), "labels 1 and '1' have one name, 1; give them two"),
        ((X, [{}] * 12), "{} is no label"),
        ((X, 10**5000 + Y.astype(object)), "label a number of thousands of digits is beyond 2^63 - 1"),
        ((X, 2**70 + Y.astype(object)), "label 1180591620717411303424 is beyond 2^63 - 1"),
        ((X, "abc"), "data: labels are 'abc'; expected one for each image"),
        ((X, set(range(12))), "data: labels are {0, 1, 2, 3"),
        ((X, 5), "data: labels are 5; expected one for each image"),
        ((np.full((12, 4, 4), np.nan), Y), "data: sample 0 (counted from 0) has a pixel of nan"),
        (([X[0], X[1, :4]], [0, 1]), "sample 1 (counted from 0) is 4 x 6 uint8, and the first is 5 x 6 uint8; all"),
        (([X[0], X[1] / 2], [0, 1]), "is 5 x 6 float64, and the first is 5 x 6 uint8"),
        (([np.zeros((3, 9, 9))], [0]), "has its channels first, 3 x 9 x 9; image.transpose(1, 2, 0) puts them last"),
        ((["a.png"], [0]), "its image is 'a.png'; expected an array or a picture of Pillow"),
        (([[[1, 2], [3]]], [0]), "its image is no array"),
        (([[1, 2]], [0]), "its image is int64 of shape (2,); expected numbers, (H, W) or (H, W, C)"),
        (X, "data: an array of shape (12, 5, 6); expected (images, labels), or"),
        ([], "data: no samples; expected (images, labels), or an object with __len__ and __getitem__"),
        (0.2, "that gives (image, label); a share to hold out is data.validation in config"),
        ("train.csv", "data: 'train.csv'; expected (images, labels), or"),
        ((5, Y), "data: images are 5; expected an array, or a list of them"),
        (Short(), "data: sample 1 (counted from 0) of 5 can't be had: IndexError('gone'); expected"),
        (7, "data: 7; expected (images, labels), or an object"),
        ({"train": 1, "test": 2}, "data: a table of train, test; expected (images, labels)"),
        ([{"picture": X[0], "breed": 1}] * 3, 'fine_label, target; data.label = "..." names'),
        ([{"file": X[0], "label": 1}] * 3, "samples have file, label, and no image: image, img"),
        ([(X[0], 0), (X[1],), (X[2], 0)], "data: sample 1 (counted from 0) is (array([["),
        ([(Image.new("HSV", (4, 4)), 0)] * 3, "data: sample 0 (counted from 0): mode HSV in a picture; convert it to"),
        ([(Image.new("L", (6, 5)), 0), (X[0], 1)], "sample 1 (counted from 0) is an array, and the first is a picture"),
        ([(X[0], 1), (Image.new("L", (6, 5)), 0)], "sample 1 (counted from 0) is a picture of Pillow, and the first"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_what_is_right(data: Any, words: str) -> None:
    assert words in error_of(data)


class Pictures:
    """A data set as torchvision has them: samples are made as they are asked for."""

    classes = ("cat", "dog", "emu")

    def __init__(self, picture: Callable[[NDArray[Any]], Any]) -> None:
        self.picture = picture

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.picture(X[index]), int(Y[index])


class Subset:
    def __init__(self, dataset: Any, indices: list[int]) -> None:
        self.dataset, self.indices = dataset, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[self.indices[index]]


@pytest.mark.parametrize(
    "picture", [Image.fromarray, np.asarray, np.ndarray.tolist, lambda image: image[..., np.newaxis]]
)
def test_objects_give_pictures_and_names(picture: Callable[[NDArray[Any]], Any]) -> None:
    found = splits(Pictures(picture), test=Subset(Pictures(picture), [3, 1]))
    np.testing.assert_array_equal(found.train.images[..., 0], X)
    assert found.train.class_names == ("cat", "dog", "emu")
    assert found.train.labels.tolist() == Y.tolist()
    assert found.test is not None
    assert found.test.class_names == ("cat", "dog", "emu")
    assert found.test.labels.tolist() == [0, 1]


def test_names_that_do_not_fit_the_labels_are_left_out() -> None:
    for classes in (("cat", "dog"), ("cat", "cat", "dog"), ("cat", "", "dog"), 3, None, {"cat": 0}):
        data = Pictures(np.asarray)
        data.classes = classes  # type: ignore[assignment]
        assert whole(data).class_names == ("0", "1", "2")


def test_lists_of_two_samples_are_no_pair_of_arrays() -> None:
    for samples in ([(X[0], "a"), (X[1], "b")], [{"image": X[0], "label": "a"}, {"image": X[1], "label": "b"}]):
        assert whole(samples).class_names == ("a", "b")
    assert whole([X, Y]).labels.tolist() == Y.tolist()


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((2, 32, 32), "images are 2 x 32 with 32 channels: do the channels come first? images.transpose(0, 2, 3, 1)"),
        ((5, 6, 6), "images are 5 x 6 with 6 channels: do the channels come first?"),
        ((5, 6, 7), ""),
        ((6, 32, 32), ""),
        ((2, 5, 5), ""),
        ((8, 8, 1), ""),
        ((3, 32, 3), ""),
    ],
)
def test_a_few_rows_of_square_depth_are_doubted(shape: tuple[int, ...], said: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, *shape), np.uint8)
    for data in ((images, Y), (list(images), Y)):
        notes = splits(data).notes
        assert [note for note in notes if "channels" in note] == [note for note in notes if said and said in note]
        assert len(notes) == bool(said)


def test_channels_that_come_first_by_other_facts_are_refused() -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 2), np.uint8)
    turned = images.transpose(0, 3, 1, 2)
    remedy = "; the channels come first, and images.transpose(0, 2, 3, 1) puts them last"
    parts = samples_given({"train": (images, Y), "test": (turned, Y)}, Data(name="given"))
    with pytest.raises(InputError, match="test: images are 2 x 8 x 8, but training had 8 x 8 x 2") as caught:
        load_splits(Data(name="given"), given=parts)
    assert str(caught.value).endswith(remedy)
    parts = samples_given({"train": (turned, Y)}, Data(name="given"))
    with pytest.raises(InputError, match=r"data: images are 2 x 8 x 8, but data\.shape is 8 x 8 x 2") as caught:
        load_splits(Data(name="given", shape=(8, 8, 2)), given=parts)
    assert str(caught.value).endswith(remedy)


@pytest.mark.parametrize("shape", [(7, 9, 3), (8, 8, 2), (8, 8, 5)])
def test_tensors_are_turned_which_is_said(shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch", reason="2 GB; the accuracy benchmarks have it")
    colour = np.random.default_rng(0).integers(0, 256, (12, *shape), np.uint8)
    channels_first = torch.from_numpy(colour.transpose(0, 3, 1, 2).copy())
    pairs = [(image, torch.tensor(label)) for image, label in zip(channels_first, Y.tolist(), strict=True)]
    for data in (
        (channels_first, torch.from_numpy(Y)),
        pairs,
        torch.utils.data.TensorDataset(channels_first, torch.from_numpy(Y)),
    ):
        found = splits(data)
        np.testing.assert_array_equal(found.train.images, colour)
        assert found.train.labels.tolist() == Y.tolist()
        assert "tensors of (C, H, W), turned to (H, W, C)" in found.understood
    loader = torch.utils.data.DataLoader(pairs)
    assert "give its .dataset" in error_of(loader)


def test_hugging_face_data_sets_are_taken_as_they_are() -> None:
    datasets = pytest.importorskip("datasets", reason="270 MB with what it needs")
    names = ["zebra", "cat", "dog"]
    columns = {
        "img": datasets.Image(),
        "coarse": datasets.Value("string"),
        "fine_label": datasets.ClassLabel(names=names),
    }
    rows = {"img": [Image.fromarray(image) for image in X], "coarse": ["b", "a", "a"] * 4, "fine_label": Y.tolist()}
    data = datasets.Dataset.from_dict(rows, features=datasets.Features(columns))
    for given_data in (data, data.with_format("numpy")):
        found = splits(given_data, test=data.select([4, 2]))
        np.testing.assert_array_equal(found.train.images[..., 0], X)
        assert found.train.class_names == tuple(names)
        assert found.train.labels.tolist() == Y.tolist()
        assert "images in 'img' and labels in 'fine_label'" in found.understood
        assert found.test is not None
        assert found.test.labels.tolist() == [1, 2]
    assert whole(data, label="coarse").class_names == ("a", "b")
    np.testing.assert_array_equal(whole((data["img"], data["coarse"])).images[..., 0], X)
    both = datasets.DatasetDict({"train": data, "test": data})
    assert "data: a table of train, test; expected" in error_of(both)
    assert "expected (images, labels)" in error_of(data.to_iterable_dataset())


def test_other_parts_get_the_pixels_and_classes_of_the_training() -> None:
    wide = X.astype(np.int64) + 100
    found = splits((wide, ["b", "a", "c"] * 4), test=(wide * 0, ["c"] * 12), validation=(wide, ["a"] * 12))
    assert found.train.images.dtype == np.uint16
    assert found.test is not None
    assert found.test.images.dtype == np.uint16
    assert found.test.labels.tolist() == [2] * 12
    assert found.validation is not None
    assert found.validation.labels.tolist() == [0] * 12
    assert len(found.train) == 12
    scaled = splits((X / 255, Y), test=(X[:5] / 255, Y[:5]), scale=255)
    np.testing.assert_array_equal(scaled.train.images[..., 0], X)
    assert scaled.test is not None
    assert scaled.test.images.dtype == np.uint8
    assert "test: pixels are uint8, but training had float32" in error_of((X / 255, Y), test=(X, Y))
    assert "test: images are 5 x 5 x 1, but training had 5 x 6 x 1" in error_of((X, Y), test=(X[..., :5], Y))
    assert (
        "test: sample 0 (counted from 0): class 'z' was not in training, which had a; 12 of 12 samples are"
        in error_of((X, ["a"] * 12), test=(X, ["z"] * 12))
    )
    assert "validation: data.fold = '1/2' holds out a part" in error_of((X, Y), validation=(X, Y), fold="1/2")


def test_settings_for_pictures_are_not_ignored_for_arrays() -> None:
    assert "data: images are 5 x 6 x 1, and data.size turns pictures, not arrays" in error_of((X, Y), size=(8, 8))
    assert "data.channels turns pictures" in error_of((X, Y), channels=3)
    assert len(whole((X, Y), size=(5, 6), channels=1)) == 12
