"""Errors in the words of Python: arguments and settings instead of the command's options, which those errors name."""

import contextlib
import re
import shlex
from collections.abc import Iterator

from cnnpar.errors import CnnparError

_VALUE = r"""((?:'[^']*'|"[^"]*"|[^\s;()'"])+)"""  # as `shlex.quote` writes it
# Text of the command's errors and what takes its place; at each place the first one that matches there.
_WORDS: tuple[tuple[str, str], ...] = (
    (r"another --run-dir starts anew", "overwrite=True or another run_dir starts anew"),
    (r" or --to-path\b", ""),
    (r"--to-path names the file", "that name is kept for the file"),
    (r"(another|give) (?:--run-dir|--to-path)", r"\1 run_dir"),
    (r"--resume:", "resume:"),
    (r"--workers ([0-9]+|N)\b(?!:)", r"engine.workers = \1"),
    (r"--transport ray", 'engine.transport = "ray"'),
    (r"--set ([a-z_.]+)=", r"\1 = "),
    (r"--test-data PATH or --data NAME", "data.test"),
    (r"--(?:train|test)-data \((data\.\w+)\)", r"\1"),
    (r"--size (\S+)", r"data.size = [\1]"),
    (r"--channels (\S+)", r"data.channels = \1"),
    (r"leave --address out", "leave engine.address out"),
    (r"--workers(?! [0-9]+:)", "engine.workers"),
    (r"--epochs", "train.epochs"),
    (r"--overwrite replaces", "overwrite=True replaces"),
    (r"--layout (\w+):", r"layout='\1':"),
)
_ARGUMENTS = {
    "--resume": "resume=",
    "--run-dir": "run_dir=",
    "--address": "engine.address = ",
    "--workers": "engine.workers = ",
}
_ARGUMENT = rf"({'|'.join(_ARGUMENTS)}) {_VALUE}( (?=--))?"


@contextlib.contextmanager
def in_python_words() -> Iterator[None]:
    """Reword the errors that are raised while the block runs; their types and causes stay."""
    try:
        yield
    except CnnparError as error:
        error.args = (as_python(str(error)),)
        raise


def as_python(text: str) -> str:
    """Return an error of the command with `resume=...` instead of `--resume ...`, and so on.

    Commands of other programs, which stand in backquotes, stay.
    """
    pieces = re.split("(`[^`]*`)", text)
    return "".join(piece if piece.startswith("`") else _reworded(piece) for piece in pieces)


def _reworded(text: str) -> str:
    """Return text with other words, from left to right: what has been taken as a value is not reworded."""
    pieces, at = [], 0
    while at < len(text):
        matches = ((re.compile(pattern).match(text, at), words) for pattern, words in _WORDS)
        found, words = next(((match, words) for match, words in matches if match), (None, ""))
        if found:
            pieces.append(found.expand(words))
        elif found := re.compile(_ARGUMENT).match(text, at):
            pieces.append(_argument(found))
        else:
            pieces.append(text[at])
        at = found.end() if found else at + 1
    return "".join(pieces)


def _argument(found: re.Match[str]) -> str:
    """Return an option with its value as an argument, with a comma where another option follows."""
    option, quoted, more = found.groups()
    value = quoted.rstrip(",:.")
    after = quoted[len(value) :]
    with contextlib.suppress(ValueError):  # text that only looks quoted
        value = "".join(shlex.split(value))
    return f"{_ARGUMENTS[option]}{value!r}{after}{', ' if more else ''}"
