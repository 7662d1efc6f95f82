"""Settings of the samples: where they are, and what is made of the files."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from cnnpar.config.choices import BelowOne, Positive, PositiveFloat, Table
from cnnpar.files import expanded
from cnnpar.text import did_you_mean

DATA_NAMES = ("digits", "mnist")
GIVEN = "given"  # name of data that were given to `cnnpar.train` as arrays or objects

Fold = Annotated[
    str,
    Meta(pattern="^([1-9][0-9]{0,3}/[1-9][0-9]{0,3})?$", description='a fold and the number of folds, such as "2/5"'),
]


class Data(Table, frozen=True):
    """Source of the samples: either a data set by `name` or a file or folder by `train`; and how it is read."""

    name: str = ""  # digits (part of the package) or mnist (downloaded once); "" = digits where `train` is "" too
    train: str = ""  # path of training data: .csv, IDX images, .npz, or a folder of class folders, and others
    test: str = ""  # path of test data with the same image shape and classes; "" = those of the source, if any
    shape: tuple[Positive, ...] = ()  # (height, width) or (height, width, channels) of a CSV row; () = square, grey
    label: str = ""  # column of the label in a CSV: "first", "last", or its name; "" = by the header, or else the first
    labels: Literal["from 0", "as they are"] = "from 0"  # "as they are": numbers with gaps, or from 1, are classes too
    scale: PositiveFloat = 1.0  # factor for the pixels of a CSV and of arrays: 255 brings 0..1 to 0..255
    size: tuple[Positive, ...] = ()  # (height, width) that pictures get; () = their own, in which all must be alike
    fit: Literal["stretch", "crop", "pad"] = "stretch"  # what `size` does to pictures of other proportions
    channels: Literal[0, 1, 3] = 0  # that pictures get: 1 = grey, 3 = colour, 0 = their own, in which all must be alike
    background: str = "white"  # colour behind transparent pixels, and beside a picture that is padded; CSS's names
    on_bad: Literal["stop", "skip"] = "stop"  # a picture that can't be read: end, or count it and go on without it
    validation: BelowOne = 0.1  # fraction of the training samples held out to measure each epoch, below 1; 0 = none
    fold: Fold = ""  # "2/5": hold out the second of five equal parts instead (k-fold cross-validation)
    balance: bool = False  # draw all classes equally often in an epoch; its number of samples stays

    def __post_init__(self) -> None:
        if self.name and self.train:
            raise ValueError("give either `name` or `train`, not both")
        if not self.name and not self.train:
            msgspec.structs.force_setattr(self, "name", "digits")
        if self.name and self.name not in (*DATA_NAMES, GIVEN):
            alike = did_you_mean(self.name, DATA_NAMES)
            raise ValueError(
                f"`name` is {self.name!r}{alike}; known are {', '.join(DATA_NAMES)} (files go into `train`)"
            )
        if self.name and self.test:
            raise ValueError(f"data set {self.name!r} has its own test data; `test` goes with `train`")
        if len(self.shape) not in (0, 2, 3):
            raise ValueError("`shape` is [height, width] or [height, width, channels]")
        if len(self.size) not in (0, 2):
            raise ValueError("`size` is [height, width]")
        part, parts = self.part
        if self.fold and not part <= parts != 1:
            raise ValueError(f"`fold` is {self.fold!r}; expected one of two or more, from 1/2 to 2/2")

    @property
    def part(self) -> tuple[int, int]:
        """The part that `fold` holds out, and the number of parts; (1, 1) without it."""
        part, _, parts = (self.fold or "1/1").partition("/")
        return int(part), int(parts)

    @property
    def title(self) -> str:
        """Default name of a run on these data: the data set's, or the file's without its endings."""
        return self.name or Path(self.train).name.partition(".")[0] or "run"

    def absolute(self) -> "Data":
        """Return the same settings with absolute paths, `~` and environment variables replaced. Raises InputError."""
        places = {
            key: str(Path(expanded(path)).absolute()) for key in ("train", "test") if (path := getattr(self, key))
        }
        return msgspec.structs.replace(self, **places)
