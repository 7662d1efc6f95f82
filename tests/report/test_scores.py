"""The confusion matrix of a test, and the scores that `cnnpar-test` prints."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cnnpar
from cnnpar.nn import confusion
from cnnpar.nn.sums import Sums
from cnnpar.parallel.server import Evaluation
from cnnpar.report.scores import as_text, scores
from tests.helpers import tiny_runs
from tests.helpers.commands import call


@given(st.integers(1, 30), st.integers(1, 9), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_the_confusion_matrix_is_that_of_sorted_logits(samples: int, classes: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    logits = random.integers(0, 4, (samples, classes)).astype(np.float32)  # many are equal
    labels = random.integers(0, classes, samples)
    out = np.full(confusion.size(classes), np.nan, np.float32)
    confusion.count(logits, labels, out)
    order = np.argsort(-logits, axis=1, kind="stable")  # of equal ones the first class first
    matrix = np.zeros((classes, classes), int)
    for label, answer in zip(labels, order[:, 0], strict=True):
        matrix[label, answer] += 1
    assert out[0] == sum(label in row[: confusion.NEAR] for label, row in zip(labels, order, strict=True))
    np.testing.assert_array_equal(confusion.matrix(out.astype(np.int64), classes), matrix)


def test_over_1000_classes_have_no_confusion_matrix() -> None:
    out = np.empty(confusion.size(1001), np.float32)
    confusion.count(np.zeros((2, 1001), np.float32), np.array([4, 5]), out)
    assert out.tolist() == [1.0]
    found = scores(Evaluation(Sums(3.0, 1, 2), out.astype(np.int64)), tuple(map(str, range(1001))))
    assert (found.precision, found.recall, found.confusion, found.top5_accuracy) == (None, None, None, 0.5)
    lines = "accuracy 50.00% (1 of 2; 95% interval 9.5 to 90.5)\ntop-5 50.00%, loss 1.5000"
    assert as_text(found, by_class=False) == lines
    assert as_text(found, by_class=True) == f"{lines}\nno table of the classes: there are more than 1,000"


def test_precision_is_by_column_and_recall_by_row() -> None:
    matrix = np.array([[3, 1, 0], [0, 0, 0], [1, 0, 5]])
    found = scores(Evaluation(Sums(1.0, 8, 10), np.array([10, *matrix.ravel()])), ("a", "[b]", "c"))
    assert found.precision == {"a": 3 / 4, "[b]": 0.0, "c": 1.0}
    assert found.recall == {"a": 3 / 4, "[b]": None, "c": 5 / 6}
    text = as_text(found, by_class=True)
    assert max(map(len, text.splitlines())) <= 80
    rows = [line.split() for line in text.splitlines()]
    assert ["a", "4", "75.00%", "75.00%"] in rows
    assert ["[b]", "0", "0.00%", "-"] in rows
    assert ["2", "c", "1", ".", "5"] in rows


def test_the_test_command_prints_the_confusion_matrix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    test = tiny_runs.write_csv(Path("test.csv"), 50, seed=3)
    tiny_runs.train(tiny_runs.settings(tiny_runs.write_csv(Path("train.csv"))), Path("run"))
    assert call("cnnpar", "test", "--from-path", "run", "--test-data", str(test), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    rows = np.loadtxt(test, delimiter=",", dtype=np.int64)
    model = cnnpar.load("run")
    answers = model.predict(rows[:, 1:].astype(np.uint8).reshape(-1, 8, 8))
    expected = np.zeros((3, 3), int)
    np.add.at(expected, (rows[:, 0], answers), 1)
    assert found["confusion"] == expected.tolist()
    assert (found["correct"], found["total"], found["top5_accuracy"]) == (expected.trace(), 50, 1.0)
    low, high = found["interval"]
    assert found["confidence"] == 0.95
    assert low < found["accuracy"] <= high <= 1
    assert call("cnnpar", "test", "--from-path", "run", "--test-data", str(test), "--by-class") == 0
    text = capsys.readouterr().out
    assert text.startswith(f"accuracy {found['accuracy']:.2%}")
    assert "precision" in text
