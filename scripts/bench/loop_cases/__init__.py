"""All compiled loops of the package, and for each the shapes of real networks that it is measured with.

A new loop is found by itself, and needs cases in a file of this folder: tests/scripts/test_loops.py misses them.
"""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import cnnpar
from scripts.bench.loop_cases import maps, norms, resampling, vectors  # noqa: F401  # they fill the table of cases
from scripts.bench.loop_cases.case import CASES, Case


class Loop(NamedTuple):
    """A compiled loop: its name, `module.function` as in this file, and numba's dispatcher."""

    name: str
    compiled: Any


def loops() -> list[Loop]:
    """Load all loops that the package has: the functions, in any of its files, that `compiling.loop` decorates."""
    root = Path(cnnpar.__file__).parent
    found = []
    for path in sorted(root.rglob("*.py")):
        if "\n@loop(" not in path.read_text(encoding="utf-8"):
            continue
        module = import_module(".".join(("cnnpar", *path.relative_to(root).with_suffix("").parts)))
        # Functions that are compiled into others have no signatures of their own.
        names = [name for name, value in vars(module).items() if getattr(value, "nopython_signatures", None)]
        found += [Loop(f"{path.stem}.{name}", getattr(module, name)) for name in names]
    return found


def cases_of(loop: Loop) -> Iterator[Case]:
    """Yield the cases of a loop, one at a time, as they take memory. KeyError: it has none."""
    return CASES[loop.name]()
