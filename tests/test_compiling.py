"""Compiled loops are taken where numba compiles, and else their numpy twins, which have the same bits.

They are compiled once on a machine: the tests compile a small module of their own, in processes with an empty cache.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.tiny_runs import ROOT

_SHOW = """
import sys
import numpy as np
from cnnpar.data.augment.warp import compiled_loops
from cnnpar.fingerprint import fingerprint
from cnnpar.nn.loops import interface
from cnnpar.optim import compiled_rules
loops = interface.choose_loops(np.dtype(np.float32), 10**8)
taken = [loops is not interface.NUMPY, compiled_rules(10**8) is not None, compiled_loops(99, 99, 3) is not None]
print(fingerprint()["loops"], sum(taken), "numba" in sys.modules)
"""
_DOUBLE = """
import factor
from cnnpar.compiling import inline, loop, takes_from
takes_from(__file__, factor)
_times = inline(factor.times)
@loop("int64(int64)")
def double(number):
    return _times(number)
"""
_FACTOR = """
def times(number):
    return 2 * number
"""
_USE = """
from cnnpar.compiling import compiled, telling
with telling(lambda line: print(line, flush=True)) as told:
    loops = compiled("doubles")
print("numpy" if loops is None else loops.double(21), "compiled here" if told.seconds else "")
"""


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        pytest.param(None, "numba 3 True", marks=pytest.mark.slow),
        pytest.param("0", "numba 3 True", marks=pytest.mark.slow),
        ("1", "numpy 0 False"),
    ],
)
def test_numba_that_may_not_compile_is_left_alone(value: str | None, shown: str) -> None:
    environment = {name: text for name, text in os.environ.items() if name != "NUMBA_DISABLE_JIT"}
    environment |= {"PYTHONPATH": str(ROOT), **({"NUMBA_DISABLE_JIT": value} if value else {})}
    done = subprocess.run(
        [sys.executable, "-c", _SHOW], env=environment, cwd="/", capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == shown


@pytest.fixture
def using(tmp_path: Path) -> dict[str, str]:
    """The environment of a process that finds the module `doubles`, and an empty cache."""
    (tmp_path / "doubles.py").write_text(_DOUBLE)
    (tmp_path / "factor.py").write_text(_FACTOR)
    environment = {name: text for name, text in os.environ.items() if not name.startswith("NUMBA_")}
    return environment | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}", "NUMBA_CACHE_DIR": str(tmp_path / "cache")}


def begin(environment: dict[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", _USE], env=environment, cwd="/", stdout=subprocess.PIPE, text=True)


def ended(process: "subprocess.Popen[str]") -> list[str]:
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return [line.strip() for line in output.splitlines()]


def test_first_processes_compile_once_and_later_ones_never(using: dict[str, str]) -> None:
    processes = [begin(using) for _ in range(2)]
    answers = [ended(process)[-1] for process in processes]
    assert sorted(answers) == ["42", "42 compiled here"]
    assert ended(begin(using)) == ["42"]


def test_function_of_another_file_is_compiled_anew_when_it_changes(using: dict[str, str], tmp_path: Path) -> None:
    assert ended(begin(using))[-1] == "42 compiled here"
    factor = tmp_path / "factor.py"
    times = factor.stat()
    factor.write_text(_FACTOR.replace("2", "3"))
    os.utime(
        factor, ns=(times.st_atime_ns, times.st_mtime_ns)
    )  # as installed from an archive: not the time, not the size
    using |= {
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPYCACHEPREFIX": str(tmp_path / "none"),
    }  # else Python's own is older
    assert ended(begin(using))[-1] == "63 compiled here"
    assert ended(begin(using)) == ["63"]


def test_killed_compiling_does_not_hold_up_the_next_process(using: dict[str, str]) -> None:
    with begin(using) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "compiling, once on this machine\n"
        process.kill()
    assert ended(begin(using))[-1].startswith("42")


def test_scripts_that_ask_nothing_are_told_on_standard_error(using: dict[str, str]) -> None:
    code = 'from cnnpar.compiling import compiled; print(compiled("doubles").double(21))'
    told = [
        subprocess.run([sys.executable, "-c", code], env=using, cwd="/", capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert [done.stdout for done in told] == ["42\n", "42\n"]
    assert [done.stderr for done in told] == ["cnnpar: compiling, once on this machine\n", ""]


def test_no_place_for_compiled_loops_is_told(using: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "__pycache__").write_text("no folder")
    line, answer = ended(begin(using | {"NUMBA_CACHE_DIR": "/dev/null", "XDG_CACHE_HOME": "/dev/null"}))
    assert line.startswith("numba can compile nothing here (cannot cache function 'double'")
    assert line.endswith(
        "numpy's slower loops are taken; NUMBA_CACHE_DIR names a folder where it may keep what it compiles"
    )
    assert answer == "numpy"
