"""The texts keep their word: commands parse, Python examples run, links lead to what is there."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from cnnpar.cli.commands import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TEXTS = ("README.md", "CHANGELOG.md", "scripts/README.md")
MOST_LINES = 250


def fenced(language: str) -> list[str]:
    """The blocks of the README that are fenced as this language."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return [block for name, block in blocks if name == language]


def commands() -> list[str]:
    blocks = fenced("")
    lines = [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()]
    lines = [part.strip() for line in lines for part in re.split(r"&&| -- ", line)]
    lines = [line.removeprefix("$ ") for line in lines]
    of_cnnpar = "train|test|inspect|kernels|lr-find|predict|schema|compare|report|export|import"
    ours = re.compile(rf"(cnnpar-train|cnnpar-test|cnnpar ({of_cnnpar}))( |$)")
    return [line for line in lines if ours.match(line)]


def headings(text: str) -> set[str]:
    """The anchors that GitHub gives to the headings of a text."""
    lines = [line.lstrip("# ").lower() for line in text.splitlines() if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", line).replace(" ", "-") for line in lines}


@pytest.mark.parametrize("command", commands())
def test_each_command_of_the_readme_parses(command: str) -> None:
    words = shlex.split(command)
    if words[0].startswith("cnnpar-"):
        words[:1] = ["cnnpar", words[0].removeprefix("cnnpar-")]
    app.parse_args(words[1:], exit_on_error=False, print_error=False)


def test_the_readme_has_the_two_commands() -> None:
    assert "python -m pip install . && cnnpar-train --workers 2\n" in README
    assert "python -m pip install '.[test]' && python -m pytest\n" in README
    assert len(commands()) >= 6


def test_the_readme_stays_short() -> None:
    assert len(README.splitlines()) <= MOST_LINES


@pytest.mark.slow
def test_each_python_example_of_the_readme_runs(tmp_path: Path) -> None:
    scripts = fenced("python")
    assert scripts
    for script in scripts:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error,ignore::ResourceWarning"}
        subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path, env=environment)


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("http"):
            continue
        file, _, heading = target.partition("#")
        there = (ROOT / name).parent / file if file else ROOT / name
        assert there.exists(), target
        if heading:
            assert heading in headings(there.read_text(encoding="utf-8")), target
