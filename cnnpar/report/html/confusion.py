"""The confusion matrix of a report, and the classes that are confused most often."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnpar.report.html.theme import Drawing, Theme, draw
from cnnpar.text import one_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NUMBERED = 20  # classes up to which each cell has its number
_NAMED = 40  # classes up to which rows and columns have their names
_LONGEST = 12  # characters of a name
_FAINTEST = 0.25  # strength of the colour of a single confusion


class Confused(NamedTuple):
    """Images of one class that were taken for another."""

    label: str
    answer: str
    times: int
    of: int  # images of the class


def most_confused(matrix: NDArray[np.int64], names: Sequence[str], most: int = 10) -> list[Confused]:
    """Return the largest numbers of a confusion matrix beside its diagonal, the largest first."""
    wrong = matrix * ~np.eye(len(matrix), dtype=np.bool_)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    places = [divmod(int(place), len(matrix)) for place in order]
    totals = matrix.sum(axis=1)
    return [
        Confused(names[row], names[column], int(wrong[row, column]), int(totals[row]))
        for row, column in places
        if wrong[row, column]
    ]


def confusion_picture(matrix: NDArray[np.int64], names: Sequence[str]) -> Drawing:
    """Return the picture of a confusion matrix: right answers in one colour, wrong ones in another."""
    count = len(matrix)

    def paint(figure: "Figure", theme: Theme) -> None:
        axes = figure.add_subplot()
        axes.imshow(_coloured(matrix, theme), interpolation="nearest")
        axes.set_xlabel("answer")
        axes.set_ylabel("label")
        if count <= _NAMED:
            short = [one_line(name, _LONGEST) for name in names]
            letters = 9 if count <= _NUMBERED else 6
            axes.set_xticks(range(count), short, fontsize=letters)
            if max(map(len, short)) > 2:
                axes.tick_params(axis="x", rotation=90)
            axes.set_yticks(range(count), short, fontsize=letters)
        axes.tick_params(length=0)
        axes.spines[:].set_color(theme.faint)
        if count <= _NAMED:
            edges = np.arange(1, count) - 0.5
            axes.hlines(edges, -0.5, count - 0.5, color=theme.faint, linewidth=0.6)
            axes.vlines(edges, -0.5, count - 0.5, color=theme.faint, linewidth=0.6)
        if count <= _NUMBERED:
            for (row, column), number in np.ndenumerate(matrix):
                if number:
                    size = 8 if count <= 12 and number < 1000 else 5.5
                    axes.text(column, row, f"{number}", ha="center", va="center", fontsize=size)

    wrong = int(matrix.sum() - matrix.trace())
    alt = f"Confusion matrix of {count} classes: {matrix.trace():,} right answers and {wrong:,} wrong ones"
    if found := most_confused(matrix, names, 1):
        most = found[0]
        alt += f", most often {one_line(most.label, 40)} taken for {one_line(most.answer, 40)} ({most.times:,} times)"
    return draw("confusion", f"{alt}.", paint, (5.2, 5.0))


def _coloured(matrix: NDArray[np.int64], theme: Theme) -> NDArray[np.float64]:
    """Return the colours of the cells, (K, K, 3): right answers by their share of the class, wrong ones by number."""
    from matplotlib.colors import to_rgb

    paper, right, wrong = (np.array(to_rgb(name)) for name in (theme.paper, theme.right, theme.wrong))
    diagonal = np.eye(len(matrix), dtype=np.bool_)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    most = max(int((matrix * ~diagonal).max()), 1)
    errors = np.where(matrix > 0, _FAINTEST + (1 - _FAINTEST) * matrix / most, 0)
    strength = np.where(diagonal, 0.75 * shares, 0.9 * errors)[..., np.newaxis]
    colours = np.where(diagonal[..., np.newaxis], right, wrong)  # (K, K, 3)
    mixed: NDArray[np.float64] = paper * (1 - strength) + colours * strength
    return mixed
