"""The commands: called in this process, and started as processes of their own."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cnnpar.cli import commands, console
from tests.helpers.limits import HANGING
from tests.helpers.tiny_runs import ROOT

ENTRY = {"cnnpar": "main", "cnnpar-train": "main_train", "cnnpar-test": "main_test"}


def call(program: str, *arguments: object) -> int:
    """Run a command in this process, which saves the second that a process takes to start; return its exit code."""
    app = {"cnnpar": commands.app, "cnnpar-train": commands.train_app, "cnnpar-test": commands.test_app}[program]
    return console.run(app, [str(argument) for argument in arguments])


def start(program: str, *arguments: object, cwd: Path, **popen: Any) -> "subprocess.Popen[str]":
    """Start one of the package's commands as a process of its own."""
    code = f"import sys; from cnnpar.cli import programs; sys.argv[0] = {program!r}; programs.{ENTRY[program]}()"
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "error,ignore::ResourceWarning",
        "COLUMNS": "80",
    }
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **popen}
    line = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(line, cwd=cwd, env=environment, text=True, **streams)


def command(program: str, *arguments: object, cwd: Path, **popen: Any) -> "subprocess.CompletedProcess[str]":
    """Run one of the package's commands as a process of its own, to its end."""
    with start(program, *arguments, cwd=cwd, **popen) as process:
        out, err = process.communicate(timeout=HANGING)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def read_until(process: "subprocess.Popen[str]", text: str) -> None:
    """Read lines of standard output up to one with that text."""
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return
    pytest.fail(f"the output ended without {text!r}")
