"""The picture accuracy.png: accuracies over the epochs of a run."""

import logging
from collections.abc import Sequence
from errno import EEXIST
from pathlib import Path
from typing import TYPE_CHECKING

from cnnpar.storage import atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from cnnpar.report.picture import Picture
    from cnnpar.training.state import EpochRecord

TRAINING, VALIDATION = "#8fa3b5", "#c8102e"  # distinct in grey, and for colour-blind people
Point = tuple[int, float]  # epoch, and accuracy in percent
SOFTWARE = "cnnpar"  # noted in a picture, in whose first bytes it is found again
_HEAD = 256  # bytes
FEW = 40  # epochs up to which each one gets a dot


def draw_accuracy(
    history: "Sequence[EpochRecord]",
    path: str | Path,
    title: str,
    best_epoch: int | None = None,
    folder: int | None = None,
) -> None:
    """Draw `accuracy_figure` into a PNG file, which is replaced as a whole.

    `folder`: descriptor of the folder that the file is in, if it is open. Raises OSError if the file cannot be written,
    or is a picture of the user's; ValueError if the history is empty.
    """
    require_ours(Path(path), folder)
    write(accuracy_figure(history, title, best_epoch), Path(path), folder)


def accuracy_figure(history: "Sequence[EpochRecord]", title: str, best_epoch: int | None = None) -> "Picture":
    """Return the curves of training and validation accuracy (percent) over the epochs.

    The legend has the last values, and a ring marks the best epoch; by default that of the highest accuracy (of the
    validation, if there is any). Low accuracies of the first quarter of the epochs may lie below the frame, so that
    the others are readable. Raises ValueError if the history is empty.
    """
    if not history:
        raise ValueError("nothing to draw: no epoch is finished")
    figure, axes = new_figure(title)
    from matplotlib.ticker import MaxNLocator  # after `new_figure`, which has silenced matplotlib

    training = [(record.epoch, 100 * record.train_accuracy) for record in history]
    validation = [
        (record.epoch, 100 * record.validation_accuracy) for record in history if record.validation_accuracy is not None
    ]

    _plot(axes, "training", TRAINING, training)
    _plot(axes, "validation", VALIDATION, validation)
    _ring(axes, validation or training, best_epoch)

    first, last = training[0][0], training[-1][0]
    margin = max(0.5, 0.015 * (last - first))
    axes.set_xlim(first - margin, last + margin)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=12, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10]))  # no 2.5: at most one decimal
    axes.set_ylim(*frame(training, validation))
    dress(axes, "epoch", "accuracy (%)")
    # Above the axes, where no curve can run beneath it.
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, frameon=False, borderaxespad=0.2)
    return figure


def require_ours(path: Path, folder: int | None = None, mark: bytes = SOFTWARE.encode()) -> None:
    """Raise OSError if there is a file of that name that cnnpar has not written: one without a mark at its beginning.

    `folder`: descriptor of the folder that the file is in, if it is open.
    """
    if not atomic.may_replace(path, mark, _HEAD, folder):
        raise FileExistsError(EEXIST, "is not of a run, and stays as it is", str(path))


def _plot(axes: "Axes", name: str, colour: str, points: Sequence[Point]) -> None:
    """Plot one curve, with its last value in the legend."""
    if points:
        epochs, percents = zip(*points, strict=True)
        few = len(points) <= FEW
        axes.plot(
            epochs,
            percents,
            color=colour,
            linewidth=1.6 if few else 1.1,
            marker="o" if few else None,
            markersize=4,
            label=f"{name} {percents[-1]:.2f} %",
        )


def _ring(axes: "Axes", points: Sequence[Point], best_epoch: int | None) -> None:
    """Draw a ring around the best epoch; None: the epoch of the highest accuracy, the first of equals."""
    if best_epoch is None:
        best_epoch = max(points, key=lambda point: point[1])[0]
    best = dict(points)[best_epoch]
    axes.plot(
        [best_epoch],
        [best],
        linestyle="none",
        marker="o",
        markersize=10,
        markerfacecolor="none",
        markeredgecolor="black",
        markeredgewidth=1.4,
        clip_on=False,
        label=f"best {best:.2f} % in epoch {best_epoch}",
    )


def frame(*curves: Sequence[Point]) -> tuple[float, float]:
    """Return the limits of the percent axis, around all values.

    Values of the first quarter are left out if they would take more than two thirds of the height.
    """
    all_values = [value for curve in curves for _, value in curve]
    later_values = [value for curve in curves for _, value in curve[len(curve) // 4 :]]
    high, low, later_low = max(all_values), min(all_values), min(later_values)
    if high - low > 3 * (high - later_low):
        low = later_low
    low = min(low, high - 1)  # one percent at least: a finer axis would show noise
    room = 0.06 * (high - low)
    return max(low - room, -room / 3), min(high + room, 100 + room / 3)


def silence() -> None:
    """Keep matplotlib from warning about its cache folder, which is of no use; call it before importing it."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)


def new_figure(title: str) -> "tuple[Picture, Axes]":
    """Return a figure with a title, and its empty axes, which leave room for a legend above them."""
    # Imported here, as it takes longer than all other imports.
    silence()
    from cnnpar.report.picture import Picture

    figure = Picture(figsize=(8, 4.5), dpi=125)
    axes = figure.add_axes((0.095, 0.115, 0.885, 0.735))
    figure.text(0.095, 0.945, title, fontsize=13, parse_math=False)
    return figure, axes


def dress(axes: "Axes", x: str, y: str, grid: str = "#e4e4e4") -> None:
    """Label the axes and draw a grid behind the curves."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(color=grid, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def write(figure: "Picture", path: Path, folder: int | None = None) -> None:
    """Write the picture as a PNG file, which is replaced as a whole. Raises OSError if it cannot be written.

    `folder`: descriptor of the folder that the file is in, if it is open.
    """
    atomic.write(path, figure.png({"Software": SOFTWARE}), folder=folder)
