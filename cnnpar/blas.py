"""BLAS and vector loops of this process: one thread, and kernels that other processes can be made to choose.

`handed_on` makes workers on other machines choose the kernels that this process has; `portable_environment` makes every
process choose those that all x86-64-v3 machines have.
"""

import os
import platform
from pathlib import Path

import numpy as np
from threadpoolctl import ThreadpoolController

from cnnpar.errors import InputError, RunError

# OpenBLAS: the kernels, and the cache they cut their blocks for; numpy: its own vector loops.
_CORE, _CACHE, _SIMD = "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "NPY_DISABLE_CPU_FEATURES"

_BEYOND_V3 = (
    "X86_V4",
    "AVX512F",
    "AVX512CD",
    "AVX512_SKX",
    "AVX512_CLX",
    "AVX512_CNL",
    "AVX512_ICL",
    "AVX512_SPR",
)


def use_one_thread() -> None:
    """Limit BLAS to one thread, and check it: with more, the order of a product's sums depends on the machine."""
    pools = ThreadpoolController()  # of the libraries loaded so far; looking for them takes milliseconds
    pools.limit(limits=1)
    wrong = [pool for pool in pools.info() if pool["num_threads"] != 1]
    if wrong:
        names = ", ".join(f"{pool['internal_api']} ({pool['num_threads']} threads)" for pool in wrong)
        raise RunError(f"cannot limit {names} to one thread; set OMP_NUM_THREADS=1 before the start")


def handed_on() -> dict[str, str]:
    """Return the environment that makes a process on another machine choose this one's kernels, as far as it can."""
    cores = {pool.get("architecture") for pool in ThreadpoolController().info() if pool["internal_api"] == "openblas"}
    environment = {_CACHE: l2_cache_kb()}
    if len(cores) == 1:
        environment[_CORE] = str(cores.pop())
    if _SIMD in os.environ:
        environment[_SIMD] = os.environ[_SIMD]
    return {name: value for name, value in environment.items() if value}


def portable_environment() -> dict[str, str]:
    """Return the environment that pins kernels to what every x86-64-v3 machine has; empty when it is in force.

    It works only in a process that has not loaded numpy yet. Raises InputError on another kind of machine.
    """
    if platform.machine() not in ("x86_64", "AMD64"):
        raise InputError(f"engine.portable: is for x86-64 machines, and this one is {platform.machine()}")
    compiled = np.show_config(mode="dicts")["SIMD Extensions"]  # type: ignore[call-overload, index, unused-ignore]
    known = [*compiled.get("found", []), *compiled.get("not found", [])]
    wanted = {_CORE: "Haswell", _CACHE: "256", _SIMD: " ".join(name for name in known if name in _BEYOND_V3)}
    return {} if all(os.environ.get(name) == value for name, value in wanted.items()) else wanted


def l2_cache_kb() -> str:
    """Return the L2 size in KB that OpenBLAS reckons with; empty when unknown."""
    if _CACHE in os.environ:
        return os.environ[_CACHE]
    file = Path("/sys/devices/system/cpu/cpu0/cache/index2/size")
    try:
        return file.read_text().strip().removesuffix("K")
    except OSError:
        return ""
