"""The commands about the program: versions, the schema of the settings, completion in shells, examples in the help."""

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from cnnpar.cli import commands
from cnnpar.report.schema import settings_schema
from cnnpar.version import __version__
from tests.helpers.commands import call
from tests.helpers.tiny_runs import ROOT

jsonschema = pytest.importorskip("jsonschema")  # Ray has it


@pytest.fixture(scope="module")
def schema() -> Any:
    """The schema of the settings, in a library that checks by it."""
    return jsonschema.Draft7Validator(json.loads(settings_schema()))


def test_version_names_what_decides_bits_and_imports_no_ray(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom cnnpar.cli import programs\nsys.argv = ['cnnpar', '--version']\n"
        "try:\n    programs.main()\nfinally:\n    assert not {'ray', 'numba'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[0] == f"cnnpar {__version__}"
    assert re.fullmatch(rf"numpy {re.escape(version('numpy'))}, \w+ [\d.]+.*", lines[2])
    assert lines[3:] == [f"numba {version('numba')}", f"ray {version('ray')}"]


def test_schema_is_printed_and_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("cnnpar", "schema") == 0
    schema = json.loads(capsys.readouterr().out)
    jsonschema.Draft7Validator.check_schema(schema)
    assert "passes over the training data" in schema["$defs"]["Train"]["properties"]["epochs"]["description"]


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.toml")), ids=lambda path: str(path.name))
def test_schema_accepts_the_settings_that_come_along(schema: Any, path: Path) -> None:
    assert list(schema.iter_errors(tomllib.loads(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("[optimizer]\nlearning_rate = 0.1", True),
        ("[model]\npreset = 'resnet20'", True),
        ("[engine]\nworkers = '2:8'", True),
        ("[model]\nlayers = [{type = 'residual', layers = [{type = 'relu'}]}, {type = 'dense'}]", True),
        ("[train]\nepoch = 3", False),
        ("[train]\nepochs = 0", False),
        ("[trian]", False),
        ("[model]\nlayers = [{type = 'conv2D'}]", False),
        ("[model]\nlayers = [{type = 'residual', layers = [{type = 'reulu'}]}]", False),
        ("[model]\npreset = 'resnet'", False),
        ("[optimizer]\ntype = 'adam'\nmomentum = 0.1", False),
        ("[schedule]\ntype = 'piecewise'\npoints = [[0, 1, 2]]", False),
    ],
)
def test_schema_tells_right_settings_from_wrong_ones(schema: Any, text: str, right: bool) -> None:
    assert schema.is_valid(tomllib.loads(text)) == right


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_installed_for_all_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shell: str
) -> None:
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "ZSH", "ZSH_CUSTOM", "ZDOTDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert call("cnnpar", "--install-completion", "--shell", shell) == 0
    *lines, _ = capsys.readouterr().out.splitlines()
    places = [line.split(": ") for line in lines]
    assert [program for program, _ in places] == ["cnnpar", "cnnpar-train", "cnnpar-test"]
    assert "augmenter-ratio" in Path(places[1][1]).read_text()
    assert all(Path(path).is_relative_to(tmp_path) for _, path in places)


def test_bash_completes_options_commands_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train.csv").touch()
    Path("c.bash").write_text(
        "\n".join(app.generate_completion(shell="bash") for app in (commands.app, commands.train_app))
        + '\nCOMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _${1//-/_}; echo "${COMPREPLY[@]}"\n'
    )

    def completed(*words: str) -> str:
        done = subprocess.run(["bash", "c.bash", *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    assert completed("cnnpar", "lr") == "lr-find"
    assert completed("cnnpar-train", "--weight") == "--weight-decay"
    assert completed("cnnpar-train", "tr") == completed("cnnpar", "train", "tr") == "train.csv"


def test_completion_without_a_place_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "home").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert call("cnnpar", "--install-completion", "--shell", "bash") == 2
    assert re.fullmatch(r"cnnpar: error: .*: cannot install completion: Not a directory\n", capsys.readouterr().err)


@pytest.mark.parametrize("program", ["cnnpar", "cnnpar-train", "cnnpar-test"])
def test_help_ends_with_three_examples_that_parse(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(program, "--help") == 0
    examples = capsys.readouterr().out.partition("Examples:\n")[2].split("\n")
    lines = [line.split() for line in examples if line.strip()]
    assert len(lines) == 3
    for name, *words in lines:
        app = {"cnnpar": commands.app, "cnnpar-train": commands.train_app, "cnnpar-test": commands.test_app}[name]
        app.parse_args(words, exit_on_error=False, print_error=False)
