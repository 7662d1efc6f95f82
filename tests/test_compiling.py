"""Compiled loops are taken where numba compiles, and else their numpy twins, which have the same bits."""

import os
import subprocess
import sys

import pytest

from tests.helpers.tiny_runs import ROOT

_SHOW = """
import sys
from cnnpar.compiling import compiled
from cnnpar.fingerprint import fingerprint
from cnnpar.nn.loops import in_numpy, interface
taken = [compiled(f"cnnpar.{name}") for name in ("nn.loops.numba_pixels", "optim.compiled", "data.augment.numba_warp")]
print(fingerprint()["loops"], len([module for module in taken if module]), "numba" in sys.modules)
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
