"""Shared parts of the scripts: options, the machine's description, aims and verdict, tables, and a server to step.

The `main` of a script that measures something reads

    options = make_parser(__doc__).parse_args()
    report = Report()
    ...
    report.check("what was measured", measured, "at most", limit, "ms")
    return report.end({"every": "number"}, options.json)

and the script ends with `sys.exit(main())`: 0 when every aim is met, 1 when one is missed.
"""

import argparse
import importlib.util
import json
import operator
import os
import platform
import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Self

from cnnpar import optim
from cnnpar.config.sections import Config
from cnnpar.data.dataset import Dataset
from cnnpar.fingerprint import fingerprint
from cnnpar.parallel.server import Value
from cnnpar.parallel.start import start
from cnnpar.parallel.work import Kind, Prepared, Step, Work
from cnnpar.training.state import TrainState
from scripts import isa

ROOT = Path(__file__).resolve().parents[1]  # of the checkout
_LIBRARIES = ("numpy", "numba", "ray", "torch", "jax")
_ENVIRONMENT = (
    "CNNPAR_",
    "NUMBA_",
    "OPENBLAS_",
    "OMP_",
    "MKL_",
    "NPY_",
    "MALLOC_",
    "GLIBC_",
    "LD_PRELOAD",
    "RAY_",
    "TORCH",
    "ATEN_",
    "ONEDNN_",
    "XLA_",
)
_SECRET = "RAY_AUTH_TOKEN"

Relation = Literal["at most", "at least", "below"]
_HOLDS: dict[str, Callable[[float, float], bool]] = {
    "at most": operator.le,
    "at least": operator.ge,
    "below": operator.lt,
}


def make_parser(doc: str, json: bool = True) -> argparse.ArgumentParser:
    """Return a parser that shows a script's docstring as its help and, unless told otherwise, has `--json`."""
    spec = sys.modules["__main__"].__spec__  # None where the script was not started by `python -m`
    made = argparse.ArgumentParser(
        prog=f"python -m {spec.name}" if spec else None,
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if json:
        made.add_argument("--json", action="store_true", help="print all numbers as one object, on the last line")
    return made


def integers(text: str) -> list[int]:
    """Read an option's value such as `1,2,4`."""
    return [int(part) for part in text.split(",")]


def names_among(known: Collection[str]) -> Callable[[str], list[str]]:
    """Return a reader of an option's value such as `small,bn`. Of an unknown one it raises ArgumentTypeError."""

    def read(text: str) -> list[str]:
        for name in text.split(","):
            if name not in known:
                raise argparse.ArgumentTypeError(f"no {name!r}; there are {', '.join(known)}")
        return text.split(",")

    return read


def machine() -> dict[str, Any]:
    """Describe what numbers depend on besides the code: processor, instruction set, libraries, environment, load."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    own = fingerprint()
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "isa": isa.chosen(),
        "simd": own["simd"],
        "blas": own["blas"],
        "system": platform.platform(),
        "python": platform.python_version(),
        **{library: version(library) for library in _LIBRARIES if importlib.util.find_spec(library)},
        "environment": {
            name: text for name, text in os.environ.items() if name.startswith(_ENVIRONMENT) and name != _SECRET
        },
        "load_before": os.getloadavg()[0],
    }


@dataclass(frozen=True)
class Aim:
    """A measured number and the limit that it is to keep."""

    name: str
    measured: float
    relation: Relation
    limit: float
    unit: str
    met: bool

    def __str__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        verdict = "met" if self.met else "MISSED"
        return f"{verdict:<6}  {self.name}: {self.measured:.5g}{unit}, aim: {self.relation} {self.limit:g}{unit}"


class Report:
    """The frame of a script's output: the machine first, then what the script prints, the verdict, and the JSON."""

    def __init__(self) -> None:
        """Print the machine's description."""
        self.aims: list[Aim] = []
        self.machine = machine()
        for key, value in self.machine.items():
            print(f"{key}: {value}")
        print(flush=True)

    def check(self, name: str, measured: float, relation: Relation, limit: float, unit: str = "") -> None:
        """Note an aim; the verdict is printed by `end`."""
        met = _HOLDS[relation](measured, limit)
        self.aims.append(Aim(name, measured, relation, limit, unit, met))

    def end(self, results: Mapping[str, Any], as_json: bool) -> int:
        """Print the verdict and, if asked for, all as one JSON object on the last line. Returns the exit code."""
        missed = sum(not aim.met for aim in self.aims)
        if self.aims:
            print("\n" + "\n".join(map(str, self.aims)))
            print(f"{missed} of {len(self.aims)} aims MISSED" if missed else "all aims met")
        if as_json:
            aims = [asdict(aim) for aim in self.aims]
            print(json.dumps({**results, "aims": aims, "machine": self.machine}))
        return int(missed > 0)


class Table:
    """A Markdown table that is printed row by row; each column is as wide as its heading."""

    def __init__(self, *headings: str) -> None:
        """Print the headings, padded with spaces where columns are to be wider."""
        self._widths = [len(heading) for heading in headings]
        print("| " + " | ".join(headings) + " |")
        print("| " + " | ".join("-" * max(width, 3) for width in self._widths) + " |", flush=True)

    def row(self, first: object, *others: object) -> None:
        """Print a row: the first cell aligned to the left, the others to the right."""
        cells = [f"{first!s:<{self._widths[0]}}"]
        cells += [f"{cell!s:>{width}}" for cell, width in zip(others, self._widths[1:], strict=True)]
        print("| " + " | ".join(cells) + " |", flush=True)


def to_stderr(text: str) -> None:
    """Show a message of the engine's."""
    print(text, file=sys.stderr)


class WithoutInputs:
    """The half of a `Work` that has neither data nor inputs to prepare: for works that compute something else."""

    libraries: frozenset[str] = frozenset()

    def load_loops(self) -> None:
        """Load nothing."""

    def with_data(self, data: Mapping[Kind, Dataset]) -> Self:
        """Return this work."""
        del data
        return self

    def following(self, step: Step) -> Step | None:
        """Return no step to prepare for."""
        del step
        return None

    def prepare(self, step: Step, microbatch: int) -> Prepared:
        """Prepare nothing."""
        del step, microbatch


class Stepper:
    """A server with its workers and a training's state, driven one optimizer step at a time."""

    def __init__(
        self,
        config: Config,
        work: Work,
        data: Mapping[Kind, Dataset],
        state: TrainState,
        notice: Callable[[str], None] = to_stderr,
    ) -> None:
        """Start the server and its workers; `state` is where the training begins, and changes in place."""
        self.config = config
        self.server = start(config.engine, work, data, notice, lambda: False)
        self.state = state
        state.parameters = self.server.adopt(state.parameters)

    def gradient(self, number: int) -> Value:
        """Have the gradient of batch `number` of the first epoch computed, and nothing updated."""
        return self.server.gradient(self.state.parameters, 0, number)

    def step(self) -> float:
        """Do the next optimizer step as the training loop does; seconds that it took."""
        state, rule = self.state, self.config.optimizer
        began = time.perf_counter()
        gradient_sum, sums = self.gradient(state.step)
        shapes = [gradient_sum.shape]
        rate = rule.learning_rate
        optim.update(rule, state.optimizer, state.parameters, gradient_sum, sums.count, rate, state.step, shapes)
        state.advance(sums, 0.0)
        return time.perf_counter() - began

    def close(self) -> None:
        """End the workers."""
        self.server.close()
