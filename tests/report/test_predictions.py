"""The table of `cnnpar predict`: 80 columns on a terminal, whole names elsewhere, one header."""

import numpy as np
import pytest
from rich.cells import cell_len

from cnnpar.data.readers.unlabelled import Origin
from cnnpar.errors import InputError
from cnnpar.report.predictions import Answers, Shown, Table


def table(names: tuple[str, ...], files: list[str], *, terminal: bool, **shown: int) -> list[str]:
    """Return the lines of a table in which all classes are equally likely."""
    written = list[str]()
    made = Table(Shown(names, top=shown.get("top", 1), all=bool(shown.get("all"))), written.append, terminal)
    for begin in range(0, len(files), 64):
        origins = [Origin(file) for file in files[begin : begin + 64]]
        made.add(Answers(origins, np.full((len(origins), len(names)), 1 / len(names))))
    made.end([])
    return "\n".join(written).split("\n")


@pytest.mark.parametrize("name", ["a/" * 200 + "b.png", "\u6570" * 100 + ".png", "c.png"])
@pytest.mark.parametrize("kind", ["cat", "long-haired " * 5, "\u732b" * 30])
def test_a_terminal_gets_80_columns_whatever_the_names(name: str, kind: str) -> None:
    lines = table((kind, "dog"), [name, "d.png"], terminal=True, top=2)
    assert len({cell_len(line) for line in lines}) == 1
    assert cell_len(lines[0]) <= 80
    assert name[-5:] in lines[1]
    assert lines[2].startswith(" ")
    whole = table((kind, "dog"), [name, "d.png"], terminal=False, top=2)
    assert all(name in line for line in whole[1:3])
    assert kind.strip() in whole[1]


def test_many_rows_have_one_header(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = table(("cat", "dog"), [f"{number}.png" for number in range(2500)], terminal=True)
    assert len(lines) == 2501
    assert sum(line.startswith("input") for line in lines) == 1


def test_classes_that_do_not_fit_a_terminal_are_refused() -> None:
    names = tuple(f"class {number}" for number in range(20))
    assert len(table(names, ["a.png"], terminal=False, all=1)[1].split()) == 23
    with pytest.raises(InputError, match=r"^--proba: 20 classes do not fit into 80 columns; --out FILE.csv holds them"):
        table(names, ["a.png"], terminal=True, all=1)
