"""Instruction sets of the benchmarks: a process that is started for AVX2 sees and makes nothing of AVX-512."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.isa import environment, supported
from tests.helpers.limits import HANGING
from tests.helpers.tiny_runs import ROOT

pytestmark = pytest.mark.skipif("avx2" not in supported(), reason="needs AVX2")

BEYOND = r"zmm|%k[1-7]|[xy]mm(1[6-9]|2\d|3[01])"  # registers that AVX-512 brought, in assembly and in disassembly


def run(program: str, **variables: str) -> str:
    """Run a program under AVX2; what it prints."""
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment("avx2"), **variables},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=HANGING,
        check=True,
    ).stdout


NUMPY = """
import json
from cnnpar.fingerprint import fingerprint
print(json.dumps(fingerprint()))
"""


def test_numpy_and_openblas_keep_to_avx2() -> None:
    found = json.loads(run(NUMPY))
    assert "AVX512" not in found["simd"]
    assert "X86_V4" not in found["simd"]
    assert found["blas"].endswith("Haswell")


NUMBA = """
import numba, numpy
@numba.njit(fastmath=True)
def add(a, b):
    for i in range(a.size):
        if a[i] > 1:
            b[i] += 2 * a[i]
add(numpy.ones(99, numpy.float32), numpy.ones(99, numpy.float32))
print(*add.inspect_asm().values())
"""


def test_numba_compiles_for_avx2() -> None:
    code = run(NUMBA)
    assert "ymm" in code
    assert not re.search(BEYOND, code)


TORCH = """
import torch
from torch._inductor.cpu_vec_isa import pick_vec_isa
torch.nn.Conv2d(16, 32, 3)(torch.zeros(8, 16, 28, 28))
print(torch.backends.cpu.get_cpu_capability(), pick_vec_isa())
"""


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs PyTorch")
def test_pytorch_onednn_and_inductor_keep_to_avx2() -> None:
    said = run(TORCH, ONEDNN_VERBOSE="1")
    assert said.splitlines()[-1] == "AVX2 avx2"
    assert "cpu,isa:Intel AVX2\n" in said


JAX = """
import jax
x = jax.numpy.ones((99, 99))
print(jax.jit(lambda x: jax.numpy.exp(x) * 2 + x)(x).sum())
"""


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs JAX")
@pytest.mark.skipif(shutil.which("objdump") is None, reason="needs binutils")
def test_jax_compiles_for_avx2(tmp_path: Path) -> None:
    flags = f"{environment('avx2')['XLA_FLAGS']} --xla_dump_to={tmp_path}"
    run(JAX, XLA_FLAGS=flags, JAX_PLATFORMS="cpu")
    objects = [str(path) for path in tmp_path.glob("*.o")]
    assert objects
    code = subprocess.run(["objdump", "-d", *objects], capture_output=True, text=True, check=True).stdout
    assert "ymm" in code
    assert not re.search(BEYOND, code)
