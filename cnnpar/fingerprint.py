"""The fingerprint of a process: all that decides the bits besides configuration and data.

Two processes of equal fingerprint compute equal gradients from equal inputs. `handed_on` makes workers on other
machines choose the kernels that this process has; `portable_environment` makes every process choose those that all
x86-64-v3 machines have.
"""

import hashlib
import os
import platform
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from threadpoolctl import ThreadpoolController

from cnnpar.errors import InputError, RunError
from cnnpar.version import __version__

Fingerprint = dict[str, str]

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


# Where the source lies that decides bits: these folders and files, but for those within them that cannot.
_DECIDES = ("nn", "optim", "data", "parallel", "training", "compiling.py", "rng.py", "run/transfer.py")
_CANNOT = (
    *("data/readers", "data/load.py"),  # what they read has a digest of its own, the data fingerprint
    *("parallel/direct", "parallel/on_ray", "parallel/scheduling"),  # they move vectors, and say who computes them
    *("parallel/start.py", "parallel/transport.py", "training/lr_curve.py"),
)


def use_one_thread() -> None:
    """Limit BLAS to one thread, and check it: with more, the order of a product's sums depends on the machine."""
    ThreadpoolController().limit(limits=1)
    wrong = [pool for pool in ThreadpoolController().info() if pool["num_threads"] != 1]
    if wrong:
        names = ", ".join(f"{pool['internal_api']} ({pool['num_threads']} threads)" for pool in wrong)
        raise RunError(f"cannot limit {names} to one thread; set OMP_NUM_THREADS=1 before the start")


def fingerprint() -> Fingerprint:
    """Return the fingerprint of this process: versions, digest of the source code, CPU kernels."""
    pools = [pool for pool in ThreadpoolController().info() if pool["user_api"] == "blas"]
    own = [pool for pool in pools if "numpy.libs" in Path(pool["filepath"]).parts]  # others may have brought theirs
    blas = sorted(
        f"{pool['internal_api']} {pool['version']} {pool.get('architecture', '')}".strip() for pool in own or pools
    )
    simd = np.show_config(mode="dicts")["SIMD Extensions"]  # type: ignore[call-overload, index, unused-ignore]
    return {
        "cnnpar": __version__,
        "code": _code(),
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()),
        "numpy": np.__version__,
        "simd": " ".join([*simd["baseline"], *simd.get("found", [])]),
        "blas": "; ".join(blas) or "unknown",
        "blas_l2_kb": _cache_kb(),
        "loops": "numba" if find_spec("numba") else "numpy",
    }


def decides_bits(file: str) -> bool:
    """Tell whether weights depend on a source file, by its path within the package, such as nn/losses.py."""

    def within(places: tuple[str, ...]) -> bool:
        return any(file == place or file.startswith(f"{place}/") for place in places)

    return within(_DECIDES) and not within(_CANNOT)


def is_users(cls: type) -> bool:
    """Tell whether a user's module defines a struct class: its source is no part of cnnpar's code digest."""
    return cls.__module__.partition(".")[0] not in ("cnnpar", "msgspec")


def code_digest(package: Path) -> str:
    """Digest the source files of a package that decide bits: one may have been changed, and the version not."""
    digest = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        name = file.relative_to(package).as_posix()
        if decides_bits(name):
            digest.update(f"{name}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:12]


@cache
def _code() -> str:
    return code_digest(Path(__file__).resolve().parent)


def differences(expected: Mapping[str, str], found: Mapping[str, str]) -> str:
    """Return what differs, for people: `numpy: 2.3.0 instead of 2.4.6, ...`; empty when nothing does.

    Loops may differ: compiled ones have the same bits (tests/nn/test_loops.py).
    """
    return ", ".join(
        f"{key}: {found.get(key, 'none')} instead of {expected.get(key, 'none')}"
        for key in sorted({*expected, *found})
        if key != "loops" and expected.get(key) != found.get(key)
    )


def handed_on() -> dict[str, str]:
    """Return the environment that makes a process on another machine choose this one's kernels, as far as it can."""
    cores = {pool.get("architecture") for pool in ThreadpoolController().info() if pool["internal_api"] == "openblas"}
    environment = {_CACHE: _cache_kb()}
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


def _cache_kb() -> str:
    """Return the L2 size in KB that OpenBLAS reckons with; empty when unknown."""
    if _CACHE in os.environ:
        return os.environ[_CACHE]
    file = Path("/sys/devices/system/cpu/cpu0/cache/index2/size")
    try:
        return file.read_text().strip().removesuffix("K")
    except OSError:
        return ""
