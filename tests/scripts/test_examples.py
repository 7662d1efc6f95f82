"""The notebooks: stored without outputs, and each runs from top to bottom."""

import json
import re
from pathlib import Path

import pytest

from tests.helpers.limits import HANGING
from tests.helpers.tiny_runs import ROOT

NOTEBOOKS = sorted((ROOT / "scripts" / "examples").glob("*.ipynb"))
LONGEST_LINE = 120


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs(path: Path) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    assert texts[0].startswith("# ")
    assert any("## Exercises" in text for text in texts)
    for link in re.findall(r"\]\(([^)]+)\)", "\n".join(texts)):
        assert (path.parent / link).exists()
    assert max(len(line) for cell in cells for line in "".join(cell["source"]).splitlines()) <= LONGEST_LINE


def test_the_examples_are_there() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["first_network", "own_layer", "parameter_server", "same_bits"]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ipykernel")
    nbconvert = pytest.importorskip("nbconvert.preprocessors")
    nbformat = pytest.importorskip("nbformat")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(path, as_version=4)
    run = nbconvert.ExecutePreprocessor(timeout=HANGING, kernel_name="python3")
    run.preprocess(notebook, {"metadata": {"path": str(tmp_path)}})  # raises what a cell raises
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert [output for output in shown if output.get("name") == "stderr"] == []
    assert any("image/png" in output.get("data", {}) for output in shown)
