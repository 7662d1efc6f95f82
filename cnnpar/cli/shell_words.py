"""Errors in the words of a shell: options instead of the settings' form in TOML, which errors of the data name."""

import contextlib
import re
import shlex
from collections.abc import Collection, Iterator

from cnnpar.errors import InputError
from cnnpar.text import dimensions

_BESIDE_PATHS = r"(?<![\w./\\-])"  # before a setting: what is part of a path's name is none
# Text of the errors and what takes its place, in this order.
_WORDS: tuple[tuple[str, str], ...] = (
    (r"data\.size = \[H, W\], such as \[128, 128\],?", "--size 128,128"),
    (r"set (?=--size )", ""),
    (r"set (data\.channels = )", r"\1"),
    (r"set data\.shape = \[height, width\] or \[height, width, channels\](?:, such as \[([\d, ]+)\])?", "data.shape"),
    (r"leaves none to train on; set it to 0", "leaves none to train on; give --set data.validation=0"),
    (r"set data\.validation above 0", "give --set data.validation=0.1"),
    (r"data\.size and data\.channels are", "--size and --channels are"),
    (r"files go into data\.train", "files go into --train-data"),
    (r"data\.label (says|is)\b", r"--label \1"),
)
_ASSIGNED = re.compile(rf"""{_BESIDE_PATHS}data\.(\w+) = (?:"([^"]*)"|'([^']*)'|([\w.]*\w))""")
# Advice on settings, for commands that take the training's: what is to be done instead comes in its place.
_OF_TRAINING: tuple[tuple[str, str], ...] = (
    (r'(?:; |, but for )data\.on_bad = "skip"(?:, which leaves it out| leaves such pictures out)', ""),
    (r"set data\.(?:size|channels) = .*?(?=,? \(|, convert|$)", "convert them to {form}, as the model takes"),
    (r"data\.size = .*? scales all pictures", "the model takes {form}"),
    (r"; set data\.shape = .*$", "; the model takes {form}"),
    (r"; data\.labels? (?:= |says).*$", ""),
)


def as_typed(text: str, known: Collection[str]) -> str:
    """Return an error with `--set data.on_bad=skip` instead of `data.on_bad = "skip"`, and so on.

    `known`: the names of the command's options; without `--set` among them the text stays.
    """
    if "--set" not in known:
        return text
    for pattern, words in _WORDS:
        text = re.sub(_BESIDE_PATHS + pattern, _shape if words == "data.shape" else words, text)

    def typed(found: re.Match[str]) -> str:
        key, value = found[1], shlex.quote(next(group for group in found.groups()[1:] if group is not None))
        return f"--{key} {value}" if f"--{key}" in known else f"--set data.{key}={value}"

    return _ASSIGNED.sub(typed, text)


@contextlib.contextmanager
def in_words_of_model(image_shape: tuple[int, ...]) -> Iterator[None]:
    """Reword the errors that are raised while the block runs, for a command that has the settings of the training.

    Advice on settings gives way to what the model takes: `image_shape`, (H, W, C).
    """
    try:
        yield
    except InputError as error:
        form = dimensions(image_shape[:2]) + {1: " grey", 3: " colour"}.get(image_shape[2], f" x {image_shape[2]}")
        text = str(error)
        for pattern, words in _OF_TRAINING:
            text = re.sub(pattern, words.format(form=form), text)
        error.args = (text,)
        raise


def _shape(found: re.Match[str]) -> str:
    """Return `--set data.shape`, with the example where the error has one."""
    example = re.sub(r"[^\d,]", "", found[1] or "")
    forms = [example] if example else ["HEIGHT,WIDTH", "HEIGHT,WIDTH,CHANNELS"]
    return "give --set data.shape=" + " or ".join(f"'[{form}]'" for form in forms)
