"""What the README says can be done: its commands parse, its links exist."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from cnnpar.cli.commands import app

ROOT = Path(__file__).parent.parent
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CHANGELOG.md")}


def commands() -> list[str]:
    blocks = re.findall(r"```\n(.*?)```", TEXTS["README.md"], re.DOTALL)
    lines = [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()]
    lines = [part.strip() for line in lines for part in re.split(r"&&| -- ", line)]
    lines = [line.removeprefix("$ ") for line in lines]
    return [line for line in lines if re.match(r"(cnnpar-train|cnnpar-test|cnnpar (train|test|inspect))( |$)", line)]


@pytest.mark.parametrize("command", commands())
def test_each_command_of_the_readme_parses(command: str) -> None:
    words = shlex.split(command)
    if words[0].startswith("cnnpar-"):
        words[:1] = ["cnnpar", words[0].removeprefix("cnnpar-")]
    app.parse_args(words[1:], exit_on_error=False, print_error=False)


def test_the_readme_has_the_two_commands() -> None:
    assert "python -m pip install . && cnnpar-train --workers 2\n" in TEXTS["README.md"]
    assert "python -m pip install '.[test]' && python -m pytest\n" in TEXTS["README.md"]
    assert len(commands()) >= 6


def test_each_script_of_the_readme_runs(tmp_path: Path) -> None:
    scripts = re.findall(r"```python\n(.*?)```", TEXTS["README.md"], re.DOTALL)
    assert scripts
    for script in scripts:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error,ignore::ResourceWarning"}
        subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path, env=environment)


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_somewhere(name: str) -> None:
    headings = {
        re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in TEXTS[name].splitlines()
        if line.startswith("#")
    }
    for target in re.findall(r"\]\(([^)]+)\)", TEXTS[name]):
        if target.startswith("#"):
            assert target[1:] in headings, target
        elif not target.startswith("http"):
            assert (ROOT / target).exists(), target
