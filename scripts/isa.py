"""Instruction sets: run a script, and every library and process in it, as on a machine that has less than this one.

Libraries look at the processor as they are loaded. So `restart_with` puts into the environment what each of them asks
for, and starts the script again.

Sources: numpy, "CPU/SIMD optimizations"; OpenBLAS, "Runtime variables"; numba, "Environment variables"; PyTorch,
`ATEN_CPU_CAPABILITY`, and of `torch.compile` `TORCHINDUCTOR_CPP_MARCH`; oneDNN, "CPU dispatcher control"; oneMKL,
"Instruction set specific dispatching"; XLA, `xla_cpu_max_isa`. One library has no such setting, and goes on using
AVX-512: YNNPACK, which computes JAX's products and convolutions (jax 0.10).
"""

import argparse
import os
import sys

from cnnpar.blas import portable_environment
from cnnpar.fingerprint import fingerprint

CHOICES = ("native", "avx2", "avx512")
_CHOSEN = "CNNPAR_BENCH_ISA"  # in the environment of a script that was started again


def add_option(parser: argparse.ArgumentParser) -> None:
    """Give a parser the option `--isa`."""
    parser.add_argument(
        "--isa",
        choices=CHOICES,
        default="native",
        help="instruction set of all contestants: this machine's, AVX2 as on a machine without AVX-512, or AVX-512",
    )


def chosen() -> str:
    """Return the choice that is in force."""
    return os.environ.get(_CHOSEN, "native")


def restart_with(isa: str) -> None:
    """Start the script again under an instruction set, unless it is in force. Ends it where the machine lacks it."""
    if chosen() == isa:
        return
    if isa not in supported():
        sys.exit(f"{isa}: this machine has {', '.join(supported())}")
    arguments = sys.orig_argv[1:]
    os.execve(sys.executable, [sys.executable, *arguments], {**os.environ, **environment(isa), _CHOSEN: isa})


def environment(isa: str) -> dict[str, str]:
    """Return the environment that keeps all libraries to an instruction set; empty for `native`."""
    if isa == "avx2":
        return {
            "NPY_DISABLE_CPU_FEATURES": portable_environment().get("NPY_DISABLE_CPU_FEATURES", ""),
            "OPENBLAS_CORETYPE": "Haswell",
            "NUMBA_CPU_NAME": "x86-64-v3",
            "NUMBA_CPU_FEATURES": "",
            "ATEN_CPU_CAPABILITY": "avx2",
            "TORCHINDUCTOR_CPP_MARCH": "x86-64-v3",
            "ONEDNN_MAX_CPU_ISA": "AVX2",
            "MKL_ENABLE_INSTRUCTIONS": "AVX2",
            "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
        }
    return {"OPENBLAS_CORETYPE": "SkylakeX"} if isa == "avx512" else {}


def supported() -> tuple[str, ...]:
    """Return the choices that this machine has."""
    features = set(fingerprint()["simd"].split())
    if features & {"X86_V4", "AVX512F"}:  # numpy's names since 2.4, and before
        return CHOICES
    return CHOICES[:2] if features & {"X86_V3", "AVX2"} else CHOICES[:1]
