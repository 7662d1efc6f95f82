"""Fingerprints hold all that decides bits: handed to workers, pinned by `engine.portable`, compared before a resume."""

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from cnnpar.blas import handed_on, use_one_thread
from cnnpar.fingerprint import code_digest, decides_bits, differences, fingerprint
from scripts.isa import environment, supported
from tests.helpers.limits import HANGING
from tests.helpers.tiny_runs import LAYERS, ROOT, write_csv

x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="names kernels of x86-64")


def run(arguments: list[str], cwd: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "cnnpar", "train", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=HANGING,
    )


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    csv = write_csv(tmp_path / "train.csv")
    layers = ", ".join(
        "{" + ", ".join(f"{key} = {json.dumps(value)}" for key, value in layer.items()) + "}" for layer in LAYERS
    )
    file = tmp_path / "tiny.toml"
    file.write_text(
        f"[data]\ntrain = {json.dumps(str(csv))}\n[model]\nlayers = [{layers}]\n"
        "[train]\nepochs = 2\nbatch_size = 8\nmicrobatch = 4\n[engine]\nworkers = 0\n"
    )
    return file


def trained(settings: Path, name: str, *options: str, **environment: str) -> dict[str, Any]:
    """Train in a process with these environment variables, and return the checkpoint's payload."""
    arguments = ["--config", str(settings), "--run-dir", name, "--quiet", *options]
    done = run(arguments, settings.parent, **environment)
    assert done.returncode == 0, done.stderr
    payload: dict[str, Any] = json.loads((settings.parent / name / "model.json").read_text())["payload"]
    return payload


def remark(file: Path) -> None:
    file.write_text(f"{file.read_text()}# a remark\n")


def test_every_blas_has_one_thread_however_many_it_had() -> None:
    with threadpool_limits(2):
        use_one_thread()
        assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} == {1}


def test_a_fingerprint_names_versions_and_kernels() -> None:
    own = fingerprint()
    assert {"cnnpar", "numpy", "blas", "simd", "libc", "machine", "code", "loops"} <= own.keys()
    assert differences(own, own) == ""
    assert differences(own, {**own, "numpy": "1.0"}) == f"numpy: 1.0 instead of {own['numpy']}"


def test_handed_on_values_give_a_process_the_same_fingerprint() -> None:
    code = "import json; from cnnpar.fingerprint import fingerprint; print(json.dumps(fingerprint()))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT), **handed_on()},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == fingerprint()


def test_files_that_decide_bits() -> None:
    """The files that cannot change bits are listed here a second time, by what they are for."""
    package = ROOT / "cnnpar"
    everything = {file.relative_to(package).as_posix() for file in package.rglob("*.py")}
    seen = {name for name in everything if decides_bits(name)}
    assert {name for name in everything - seen if name.startswith(("nn/", "optim/", "training/", "data/"))} == {
        *{name for name in everything if name.startswith("data/readers/")},
        *("nn/__init__.py", "nn/confusion.py", "nn/user_layers.py"),  # counts of a test; digests of users' layers
        *("training/__init__.py", "training/advice.py", "training/lr_curve.py", "data/load.py", "data/given.py"),
        *("data/duplicates.py", "data/suspicion.py"),  # what is told about the data
    }
    assert {name for name in seen if name.startswith("parallel/")} == {
        f"parallel/{name}.py" for name in ("compute", "server", "tree")
    }
    assert {name for name in seen if name.startswith(("run/", "storage/"))} == {
        *("run/prepare.py", "run/train.py", "run/transfer.py"),
        *("storage/arrays.py", "storage/checkpoint.py", "storage/packing.py"),
    }
    assert {name for name in seen if name.startswith("exchange/")} == {  # what reads the weights that a run begins with
        f"exchange/{name}.py" for name in ("array_files", "layouts", "matching")
    }
    assert {name for name in seen if "/" not in name} == {"blas.py", "compiling.py", "rng.py"}
    assert not {name for name in seen if name.startswith(("cli/", "config/", "report/"))}
    assert {"nn/losses.py", "optim/sgd.py", "data/balance.py", "data/augment/warp.py", "training/loop.py"} <= seen


def test_code_digest_is_that_of_the_files_that_decide_bits(tmp_path: Path) -> None:
    package = tmp_path / "cnnpar"  # its names; what a file says is its own affair
    for source in (ROOT / "cnnpar").rglob("*.py"):
        file = package / source.relative_to(ROOT / "cnnpar")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source.name)
    before = code_digest(package)
    for place, counts in (("extra/new.py", True), ("storage/new.py", True), ("parallel/direct/new.py", False)):
        file = package / place
        file.parent.mkdir(exist_ok=True)
        file.write_text("")
        assert (code_digest(package) != before) == counts == decides_bits(place), place
        file.unlink()
    for place, counts in (("nn/losses.py", True), ("optim/sgd.py", True), ("report/page.py", False)):
        content = (package / place).read_bytes()
        (package / place).write_bytes(content + b"#")
        assert (code_digest(package) != before) == counts == decides_bits(place), place
        (package / place).write_bytes(content)


@pytest.mark.slow
@x86
def test_portable_runs_agree_where_kernels_differ(settings: Path) -> None:
    portable = trained(settings, "here", "--set", "engine.portable=true")
    other = trained(settings, "there", "--set", "engine.portable=true", OPENBLAS_CORETYPE="Sandybridge")
    plain = trained(settings, "plain", OPENBLAS_CORETYPE="Sandybridge")
    assert portable["state"]["weights_sha256"] == other["state"]["weights_sha256"]
    assert portable["fingerprint"] == other["fingerprint"]
    assert portable["fingerprint"]["blas_l2_kb"] == "256"
    assert "Haswell" in portable["fingerprint"]["blas"]
    assert plain["fingerprint"] != portable["fingerprint"]


@pytest.mark.slow
@x86
def test_resume_with_other_kernels_needs_allow_inexact(settings: Path) -> None:
    trained(settings, "run", OPENBLAS_CORETYPE="Haswell")
    arguments = ["--resume", "run", "--epochs", "3", "--quiet"]
    refused = run(arguments, settings.parent, OPENBLAS_CORETYPE="Sandybridge")
    assert refused.returncode == 2
    assert "this machine would compute other bits (blas: " in refused.stderr
    assert refused.stderr.count("\n") <= 2
    allowed = run(
        [*arguments, "--set", "engine.allow_inexact=true", "--json"], settings.parent, OPENBLAS_CORETYPE="Sandybridge"
    )
    assert allowed.returncode == 0, allowed.stderr
    assert json.loads(allowed.stdout)["exact"] is False
    again = run(
        [*arguments[:2], "--epochs", "4", "--quiet", "--json", "--set", "engine.allow_inexact=true"],
        settings.parent,
        OPENBLAS_CORETYPE="Haswell",
    )
    assert json.loads(again.stdout)["exact"] is False, "once inexact, always inexact"


@pytest.mark.slow
def test_only_changed_arithmetic_refuses_a_resume(settings: Path) -> None:
    trained(settings, "run")
    package = settings.parent / "changed" / "cnnpar"
    shutil.copytree(ROOT / "cnnpar", package, ignore=shutil.ignore_patterns("__pycache__"))
    changed = {"PYTHONPATH": str(package.parent)}
    remark(package / "cli" / "commands.py")
    done = run(["--resume", "run", "--epochs", "3"], settings.parent, **changed)
    assert done.returncode == 0, done.stderr
    remark(package / "nn" / "losses.py")
    done = run(["--resume", "run", "--epochs", "4"], settings.parent, **changed)
    assert done.returncode == 2
    assert "this version of cnnpar would compute other bits (code: " in done.stderr


def test_compiled_loops_are_no_difference_of_fingerprints() -> None:
    own = fingerprint()
    assert differences(own, {**own, "loops": "none"}) == ""


WIDE = """
[data]
train = "train.csv"
[augment]
rotation = 10.0
[model]
layers = [
  { type = "conv2d", channels = 32 },
  { type = "relu" },
  { type = "conv2d", channels = 64 },
  { type = "batchnorm2d" },
  { type = "relu" },
  { type = "maxpool2d" },
  { type = "conv2d", channels = 64, groups = 64, bias = false },
  { type = "conv2d", channels = 32, kernel = 1 },
  { type = "gelu" },
  { type = "groupnorm", groups = 4 },
  { type = "flatten" },
  { type = "dense" },
]
[optimizer]
type = "adam"
[train]
epochs = 2
batch_size = 32
[engine]
workers = 0
portable = true
"""  # large enough for compiled loops, of which it needs nearly all


@pytest.mark.slow
@pytest.mark.skipif("avx512" not in supported(), reason="needs AVX-512, with and without which it trains")
def test_portable_runs_agree_with_and_without_avx512(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv")
    file = tmp_path / "wide.toml"
    file.write_text(WIDE)
    native, avx2 = trained(file, "native"), trained(file, "avx2", **environment("avx2"))
    loops = trained(file, "numpy", NUMBA_DISABLE_JIT="1")
    assert native["fingerprint"] == avx2["fingerprint"]
    digests = {run["state"]["weights_sha256"] for run in (native, avx2, loops)}
    assert len(digests) == 1
