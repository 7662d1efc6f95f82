"""The fingerprint of a process: all that decides the bits besides configuration and data.

Two processes of equal fingerprint compute equal gradients from equal inputs.
"""

import hashlib
import platform
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
from threadpoolctl import ThreadpoolController

from cnnpar.blas import l2_cache_kb
from cnnpar.compiling import compiles
from cnnpar.version import __version__

Fingerprint = dict[str, str]

# Source that cannot change a bit of the weights. All other files count, new ones too.
_CANNOT_MATTER = (
    *("__init__.py", "__main__.py", "api.py", "errors.py", "files.py", "fingerprint.py", "machine.py", "text.py"),
    "version.py",
    *("cli", "report", "sklearn"),
    *("exchange/__init__.py", "exchange/export.py", "exchange/extras.py", "exchange/trained.py"),
    *("exchange/onnx_graph.py", "exchange/onnx_layers.py", "exchange/onnx_model.py"),
    "config",  # settings are compared by their values
    *("run/__init__.py", "run/answers.py", "run/compare.py", "run/cross_validation.py", "run/evaluate.py"),
    *("run/features.py", "run/first_epoch.py", "run/headline.py", "run/imported.py", "run/in_memory.py"),
    *("run/kernels.py", "run/lr_find.py", "run/measures.py", "run/model.py", "run/predict.py"),
    *("run/python_settings.py", "run/python_words.py", "run/recorder.py", "run/report.py", "run/resume.py"),
    *("run/samples.py", "run/stop.py", "run/summary.py"),
    *("storage/__init__.py", "storage/atomic.py", "storage/json_check.py", "storage/lock.py", "storage/position.py"),
    *("storage/find.py", "storage/folder.py", "storage/holder.py", "storage/rundir.py", "storage/saver.py"),
    *("data/readers", "data/load.py", "data/given.py"),  # what they read has a digest of its own, the data fingerprint
    *("data/duplicates.py", "data/suspicion.py"),  # they look, and change nothing
    *("parallel/direct", "parallel/on_ray", "parallel/scheduling"),  # they move vectors, and say who computes them
    *("parallel/__init__.py", "parallel/in_process.py", "parallel/launcher.py", "parallel/mailbox.py"),
    *("parallel/start.py", "parallel/transport.py", "parallel/work.py"),
    *("training/__init__.py", "training/advice.py", "training/lr_curve.py"),
    *("nn/__init__.py", "nn/confusion.py", "nn/user_layers.py"),  # users' layers have digests of their own
)


def fingerprint(libraries: Iterable[str] = ()) -> Fingerprint:
    """Return the fingerprint of this process: versions, digest of the source code, CPU kernels.

    `libraries`: packages besides numpy that a network computes with (`Network.libraries`).
    """
    simd = np.show_config(mode="dicts")["SIMD Extensions"]  # type: ignore[call-overload, index, unused-ignore]
    return {
        "cnnpar": __version__,
        "code": _code(),
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()),
        "numpy": np.__version__,
        "simd": " ".join([*simd["baseline"], *simd.get("found", [])]),
        "blas": _blas(),
        "blas_l2_kb": l2_cache_kb(),
        "loops": "numba" if compiles() else "numpy",
        **{name: version(name) for name in sorted(libraries)},
    }


def decides_bits(file: str) -> bool:
    """Tell whether weights may depend on a source file, by its path within the package, such as nn/losses.py."""
    return not any(file == place or file.startswith(f"{place}/") for place in _CANNOT_MATTER)


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


@cache  # numpy's is loaded with it: what is loaded later is no part of the weights
def _blas() -> str:
    pools = [pool for pool in ThreadpoolController().info() if pool["user_api"] == "blas"]
    own = [pool for pool in pools if "numpy.libs" in Path(pool["filepath"]).parts]  # others may have brought theirs
    names = sorted(
        f"{pool['internal_api']} {pool['version']} {pool.get('architecture', '')}".strip() for pool in own or pools
    )
    return "; ".join(names) or "unknown"


@cache
def _code() -> str:
    return code_digest(Path(__file__).resolve().parent)


def differences(expected: Mapping[str, str], found: Mapping[str, str]) -> str:
    """Return what differs, for people: `numpy: 2.3.0 instead of 2.4.6, ...`; empty when nothing does.

    Loops may differ: compiled ones have the same bits (tests/nn/loops/test_loops.py).
    """
    return ", ".join(
        f"{key}: {found.get(key, 'none')} instead of {expected.get(key, 'none')}"
        for key in sorted({*expected, *found})
        if key != "loops" and expected.get(key) != found.get(key)
    )
