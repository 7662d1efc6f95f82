"""accuracy.png: how training went, in one picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol


class EpochAccuracy(Protocol):
    """What the picture needs of a finished epoch; accuracies in 0..1."""

    @property
    def epoch(self) -> int:
        """Counts from 1."""

    @property
    def train_accuracy(self) -> float:
        """On the training data, while the parameters were changing."""

    @property
    def validation_accuracy(self) -> float | None:
        """On data held out, or None where nothing was measured."""


def draw_accuracy(history: Sequence[EpochAccuracy], path: str | Path, title: str) -> None:
    """Draw training and validation accuracy (percent) over the epochs into a PNG file.

    The best validation accuracy is marked (without validation, the best training accuracy), and the legend says
    the last values. The file appears at once and whole. Raises OSError where it can't be written, and ValueError
    for an empty history.
    """
    if not history:
        raise ValueError("a picture needs at least one finished epoch")
    # Here because matplotlib takes longer to import than everything else; the plain classes instead of pyplot
    # because pyplot keeps every figure in a global list and looks for a screen.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter
    figure = Figure(figsize=(8, 4.5), dpi=125)
