"""Notebooks: what a real kernel shows of a run and its result, and what interrupting it does."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cnnpar.report.display import Part
from cnnpar.report.notebook import FIRST, LAST, Cell, html_table
from cnnpar.storage.checkpoint import read
from tests.helpers.kernels import Kernel, started_kernel

pytest.importorskip("ipykernel")

RUN = "cnnpar.train({'train': {'epochs': %d}, 'engine': {'workers': %d}}, run_dir=%r, quiet=False)"
LAYER = """
SLOPE = 0.1

def bent(x, slope):
    return np.where(x > 0, x, slope * x)

@cnnpar.register
class Bent(cnnpar.Layer, frozen=True, tag="bent"):
    slope: float = SLOPE

    def forward(self, x, work):
        return bent(x, x.dtype.type(self.slope))

    def backward(self, dy, work):
        return np.where(work.x > 0, dy, dy.dtype.type(self.slope) * dy)
"""
LAYERS = [{"type": "flatten"}, {"type": "dense", "units": 16}, {"type": "bent"}, {"type": "dense"}]


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with started_kernel(tmp_path_factory.mktemp("kernel")) as started:
        started.run("import cnnpar, numpy as np")
        yield started


@pytest.mark.slow
def test_progress_is_one_output_that_is_replaced(kernel: Kernel, tmp_path: Path) -> None:
    first, *later = kernel.run("_ = " + RUN % (3, 0, str(tmp_path / "run")))
    assert first["type"] == "display_data"
    assert {output["type"] for output in later} == {"update_display_data"}
    ids = {output["transient"]["display_id"] for output in (first, *later)}
    assert len(ids) == 1
    lines = later[-1]["data"]["text/plain"].splitlines()
    assert lines[0].startswith("cnnpar ")
    assert [line[:9] for line in lines[-3:]] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]


@pytest.mark.slow
def test_a_result_is_a_table_and_its_plot_a_picture(kernel: Kernel, tmp_path: Path) -> None:
    kernel.run("result = " + RUN % (2, 0, str(tmp_path / "<run>")))
    (shown,) = kernel.run("result")
    assert "<th" in shown["data"]["text/html"]
    assert "&lt;run&gt;/model.json" in shown["data"]["text/html"]
    assert "<run>" not in shown["data"]["text/html"]
    (drawn,) = kernel.run("result.plot()")
    from PIL import Image

    assert Image.open(io.BytesIO(base64.b64decode(drawn["data"]["image/png"]))).size[0] >= 800


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_interrupting_the_kernel_saves(kernel: Kernel, tmp_path: Path, workers: int) -> None:
    asked: list[str] = []

    def interrupt(text: str) -> None:
        if "samples/s" in text and not asked:
            asked.append(text)
            kernel.manager.interrupt_kernel()

    outputs = kernel.run(RUN % (10**6, workers, str(tmp_path / "run")), interrupt)
    error = outputs[-1]
    assert error["ename"] == "KeyboardInterrupt"
    assert "goes on" in "".join(error["traceback"])
    saved = read(tmp_path / "run" / "model.json")
    assert saved.state.step > 0
    (after,) = kernel.run("1 + 1")  # the kernel is well
    assert after["data"]["text/plain"] == "2"
    going_on = f"cnnpar.train({{'train': {{'epochs': {saved.state.epoch + 1}}}}}, resume={str(tmp_path / 'run')!r})"
    (number,) = kernel.run(f"{going_on}.summary.epochs")
    assert number["data"]["text/plain"] == str(saved.state.epoch + 1)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_layer_may_be_defined_in_a_cell(kernel: Kernel, tmp_path: Path, workers: int) -> None:
    config: dict[str, Any] = {"model": {"layers": LAYERS}, "train": {"epochs": 1}, "engine": {"workers": workers}}
    shas = []
    for number in range(2):  # its cell is run once more
        assert kernel.run(LAYER) == []
        (shown,) = kernel.run(f"cnnpar.train({config}, run_dir={str(tmp_path / str(number))!r}).weights_sha256")
        shas.append(shown["data"]["text/plain"])
    assert shas[0] == shas[1]
    assert "layer bent" in read(tmp_path / "0" / "model.json").fingerprint


def test_of_many_lines_the_first_and_the_last_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(Cell, "_show", lambda cell, *status: shown.append(cell.text(*status)))
    cell = Cell()
    parts: list[Part] = [(0, "epoch 1"), (1, "50%")]
    for number in range(100):
        cell.line(str(number))
    cell.status(0.5, parts)
    lines = shown[-1].splitlines()
    assert lines[:FIRST] == [str(number) for number in range(FIRST)]
    assert lines[FIRST] == f"... {100 - FIRST - LAST} lines ..."
    assert lines[-LAST - 1 : -1] == [str(number) for number in range(100 - LAST, 100)]
    assert lines[-1] == f"epoch 1 {'━' * 15}{'─' * 15} 50%"
    cell.close()
    assert shown[-1].splitlines() == lines[:-1]


def test_a_table_in_html_is_escaped() -> None:
    assert "<b>" not in html_table([("<b>", "<b>")])
