"""The output of `cnnpar-test`: scores of a model, for each class too, from the counts of an evaluation."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from cnnpar.nn import confusion
from cnnpar.parallel.server import Evaluation
from cnnpar.report import intervals
from cnnpar.report.page import page
from cnnpar.text import one_line

_WIDEST = 12  # classes whose confusion matrix fits into 80 columns


class ClassScore(NamedTuple):
    """Scores of one class, in 0..1."""

    name: str
    images: int  # that are of the class: its support
    precision: float | None  # None if it was never predicted
    recall: float | None  # None if it has no image
    f1: float | None  # the harmonic mean of both; None if it has no image and was never predicted


class Scores(msgspec.Struct, frozen=True):
    """Scores; shares are in 0..1. Precision of a class is None if it was never predicted, recall if it has none."""

    accuracy: float
    correct: int
    total: int
    loss: float
    top5_accuracy: float
    precision: dict[str, float | None] | None  # by class name; None where there are too many classes
    recall: dict[str, float | None] | None
    confusion: list[list[int]] | None  # rows are labels, columns predictions
    interval: tuple[float, float]  # Wilson's, of the accuracy
    confidence: float = intervals.CONFIDENCE  # of the interval


def scores(evaluation: Evaluation, class_names: tuple[str, ...]) -> Scores:
    """Return the scores of an evaluation that has counts."""
    sums, vector = evaluation
    matrix = confusion.matrix(vector, len(class_names))
    by_class = None if matrix is None else class_scores(matrix, class_names)
    return Scores(
        accuracy=sums.correct / sums.count,
        correct=sums.correct,
        total=sums.count,
        loss=sums.loss / sums.count,
        top5_accuracy=int(vector[0]) / sums.count,
        precision=None if by_class is None else {one.name: one.precision for one in by_class},
        recall=None if by_class is None else {one.name: one.recall for one in by_class},
        confusion=None if matrix is None else matrix.tolist(),
        interval=intervals.of_share(sums.correct, sums.count),
    )


def as_text(found: Scores, by_class: bool) -> str:
    """Return the scores as text in 80 columns; `by_class`: with tables of the classes and of their confusion."""
    near = (
        f"top-5 {found.top5_accuracy:.2%}, " if found.confusion is None or len(found.confusion) > confusion.NEAR else ""
    )
    loss = f"{found.loss:.4f}" if found.loss < 1000 else f"{found.loss:.4g}"
    lines = f"{accuracy(found.correct, found.total, found.interval)}\n{near}loss {loss}"
    if not by_class:
        return lines
    if found.confusion is None or found.precision is None or found.recall is None:
        return f"{lines}\nno table of the classes: there are more than {confusion.MOST_CLASSES:,}"
    names = list(found.recall)
    table = Table(box=None, header_style="", padding=(0, 2, 0, 0))
    table.add_column("class", overflow="fold")
    for column in ("images", "precision", "recall"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, row in zip(names, found.confusion, strict=True):
        table.add_row(
            Text(one_line(name, 40)), f"{sum(row):,}", _percent(found.precision[name]), _percent(found.recall[name])
        )
    parts = [lines, page(table)]
    if len(names) <= _WIDEST:
        parts.append(f"rows: what it is, columns: what it was taken for\n{page(_matrix(names, found.confusion))}")
    else:
        parts.append(f"the confusion matrix of more than {_WIDEST} classes is in --json")
    return "\n\n".join(parts)


def accuracy(correct: int, total: int, interval: intervals.Interval) -> str:
    """Return an accuracy and its interval for people, in at most 76 columns."""
    within = f"{intervals.CONFIDENCE:.0%} interval {intervals.as_percent(interval)}"
    return f"accuracy {correct / total:.2%} ({correct:,} of {total:,}; {within})"


def _matrix(names: list[str], confusion: list[list[int]]) -> Table:
    """Return the confusion matrix as a table; columns have numbers of classes, as names are too long."""
    table = Table(box=None, header_style="", padding=(0, 1, 0, 0))
    table.add_column("")
    for number in range(len(names)):
        table.add_column(f"{number}", justify="right", no_wrap=True)
    for number, (name, row) in enumerate(zip(names, confusion, strict=True)):
        title = f"{number}" if name == f"{number}" else f"{number} {one_line(name, 12)}"
        table.add_row(Text(title), *(f"{count}" if count else "." for count in row))
    return table


def class_scores(matrix: NDArray[np.int64], names: Sequence[str]) -> list[ClassScore]:
    """Return the scores of each class, from a confusion matrix, whose rows are labels and whose columns are answers."""
    hits, answers, images = matrix.diagonal().tolist(), matrix.sum(axis=0).tolist(), matrix.sum(axis=1).tolist()
    return [
        ClassScore(name, own, _share(hit, given), _share(hit, own), _share(2 * hit, given + own))
        for name, hit, given, own in zip(names, hits, answers, images, strict=True)
    ]


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}"
