"""Every compiled loop goes through several numbers at a time on machines with AVX2, as LLVM's own marks tell.

Without AVX-512 there are no masked stores of bytes; a store under a condition made loops 20 times as long, unseen.
"""

import json
import os
import platform
import subprocess
import sys

import pytest

from tests.helpers.limits import HANGING
from tests.helpers.tiny_runs import ROOT

pytest.importorskip("numba")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="compiles for x86-64-v3"),
]

# Loops with parts that go number by number: how many parts at most, and why. LLVM makes versions of a part.
ALONE = {
    "numba_activations.softmax": (4, "LLVM makes single numbers of the sixteen sums and maxima of a row"),
    "numba_activations.softmax_gradient": (2, "as softmax"),
    "numba_pixels.windows": (2, "it takes numbers apart that are as far apart as a pixel has channels, any number"),
    "numba_warp.bilinear": (2, "it fetches neighbours from any places, and pixels of several channels are short"),
    "numba_warp.bilinear_floats": (2, "as bilinear"),
}

_COUNT = """
import json
from numba import njit
from scripts.bench.loop_cases import Loop, loops
from tests.helpers.vectorised import counted

def under_a_condition(a, best, index):
    for p in range(len(a)):
        if a[p] > best[p]:
            best[p] = a[p]
            index[p] = 1

own = Loop("under_a_condition", njit("void(float32[::1], float32[::1], uint8[::1])")(under_a_condition))
print(json.dumps({
    name: [counted(compiled.inspect_llvm(signature), name.rpartition(".")[2]) for signature in compiled.signatures]
    for name, compiled in [*loops(), own]
}))
"""

Found = dict[str, list[tuple[int, list[str]]]]  # by loop and signature: parts with vectors, and the code of the others


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """Compile all loops for x86-64-v3, whatever machine this is, and look at what became of them."""
    environment = {**os.environ, "NUMBA_CPU_NAME": "x86-64-v3", "NUMBA_CPU_FEATURES": ""}
    environment |= {"NUMBA_CACHE_DIR": str(tmp_path_factory.mktemp("numba")), "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-c", _COUNT]
    done = subprocess.run(
        line, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=2 * HANGING, check=False
    )
    assert done.returncode == 0, done.stderr
    parts: Found = json.loads(done.stdout)
    return parts


def test_innermost_loops_are_vectorised_for_avx2(found: Found) -> None:
    for name, signatures in found.items():
        for vectors, alone in signatures if name != "under_a_condition" else ():
            allowed, _ = ALONE.get(name, (0, ""))
            assert vectors, name
            assert len(alone) <= allowed, f"{name}:\n" + "\n\n".join(alone)


def test_a_store_under_a_condition_is_not_vectorised(found: Found) -> None:
    ((vectors, alone),) = found["under_a_condition"]
    assert not vectors
    assert any("store i8" in code for code in alone)
