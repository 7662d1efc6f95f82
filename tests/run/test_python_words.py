"""Errors that `cnnpar.train` raises name its arguments and settings, not the options of the command."""

import ast
import re
import shlex

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cnnpar.run.python_words import as_python
from tests.helpers.tiny_runs import ROOT

OPTION = re.compile(r"--[a-z][a-z-]+")
OTHER_COMMANDS = {
    "report",
    "training/lr_curve.py",
    "run/headline.py",
    "run/report.py",
}  # what they say, no script meets


def texts_of_errors() -> list[str]:
    """Return the texts with options of all errors below the interface, with X for what is put in."""
    found = []
    for path in (ROOT / "cnnpar").rglob("*.py"):
        place = path.relative_to(ROOT / "cnnpar").as_posix()
        if place.startswith(("cli/", "config/")) or {place, place.partition("/")[0]} & OTHER_COMMANDS:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "").endswith("Error"):
                texts = [
                    "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in text.values)
                    for text in ast.walk(node)
                    if isinstance(text, ast.JoinedStr)
                ]
                found += [text for text in texts if OPTION.search(text)]
    return found


@pytest.mark.parametrize("text", texts_of_errors())
def test_no_option_is_left_in_the_text_of_an_error(text: str) -> None:
    assert not OPTION.search(re.sub("`[^`]*`", "", as_python(text)))


def test_there_are_errors_that_name_options() -> None:
    assert len(texts_of_errors()) > 15


@pytest.mark.parametrize(
    ("command", "python"),
    [
        ("--resume auto: a.json: damaged; move", "resume='auto': a.json: damaged; move"),
        ("(--resume FILE --run-dir 'a b') or", "(resume='FILE', run_dir='a b') or"),
        ("choose another --run-dir or --to-path", "choose another run_dir"),
        ("no answer; --resume a --workers 2:4 goes on", "no answer; resume='a', engine.workers = '2:4' goes on"),
        ("with --workers N", "with engine.workers = N"),
        ("use --workers 0, which needs no Ray", "use engine.workers = 0, which needs no Ray"),
        ("ask for fewer --workers, or `ray start --address`", "ask for fewer engine.workers, or `ray start --address`"),
        ("--set engine.allow_inexact=true goes on", "engine.allow_inexact = true goes on"),
        ("--address 10.0.0.1:6379: nothing answers there", "engine.address = '10.0.0.1:6379': nothing answers there"),
        ("cannot make the run directory: full; give --run-dir", "cannot make the run directory: full; give run_dir"),
    ],
)
def test_options_become_arguments_and_settings(command: str, python: str) -> None:
    assert as_python(command) == python


@example("--epochs")
@given(st.text(st.characters(exclude_characters="`\n", exclude_categories=["Cs", "Cc"]), min_size=1))
def test_any_path_comes_through_its_quotes(path: str) -> None:
    text = as_python(f"--resume {shlex.quote(path + '/x')} goes on")
    assert text == f"resume={path + '/x'!r} goes on"
