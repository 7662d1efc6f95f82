"""Curves of a report: loss, accuracy and learning rate over the epochs."""

from typing import TYPE_CHECKING

from cnnpar.report.html.contents import Course
from cnnpar.report.html.theme import Drawing, Theme, draw
from cnnpar.report.plots import FEW, Point, dress, frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDE = 20  # ratio of the largest loss to the smallest one above which their axis is logarithmic

_FINE = 1000  # the same ratio up to which it is labelled at 1, 2 and 5 of each power of ten
_DENSE = 2  # recorded steps in an epoch from which they make a curve


def curves(course: Course) -> list[Drawing]:
    """Return the pictures of the curves; none where no epoch is finished."""
    if not course.history:
        return []
    return [_loss(course), _accuracy(course), _learning_rate(course)]


def _loss(course: Course) -> Drawing:
    training = [(record.epoch, record.train_loss) for record in course.history]
    validation = [(r.epoch, r.validation_loss) for r in course.history if r.validation_loss is not None]
    steps = [(one.step / course.steps_per_epoch, one.loss) for one in course.steps if one.loss is not None]
    values = [value for _, value in (*training, *validation)]

    def paint(figure: "Figure", theme: Theme) -> None:
        axes = figure.add_subplot()
        if len(steps) > _DENSE * len(training):
            axes.plot(*zip(*steps, strict=True), color=theme.first, alpha=0.7, linewidth=0.7, label="single steps")
        _curve(axes, training, theme.first, "training")
        _curve(axes, validation, theme.second, "validation")
        if min(values) > 0 and max(values) > _WIDE * min(values):
            _logarithmic(axes, max(values) / min(values))
        _finish(axes, "loss", theme)

    last = f"training loss {training[-1][1]:.4g}"
    if validation:
        last += f", validation loss {validation[-1][1]:.4g}"
    return draw("loss", f"Loss over {len(training)} epochs; after the last one {last}.", paint)


def _accuracy(course: Course) -> Drawing:
    training = [(r.epoch, 100 * r.train_accuracy) for r in course.history]
    validation = [(r.epoch, 100 * r.validation_accuracy) for r in course.history if r.validation_accuracy is not None]

    def paint(figure: "Figure", theme: Theme) -> None:
        axes = figure.add_subplot()
        _curve(axes, training, theme.first, "training")
        _curve(axes, validation, theme.second, "validation")
        axes.set_ylim(*frame(training, validation))
        _finish(axes, "accuracy (%)", theme)

    last = f"training {training[-1][1]:.2f} %"
    if validation:
        best = max(validation, key=lambda point: point[1])
        last += f", validation {validation[-1][1]:.2f} %, at best {best[1]:.2f} % in epoch {best[0]}"
    return draw("accuracy", f"Accuracy over {len(training)} epochs; after the last one {last}.", paint)


def _learning_rate(course: Course) -> Drawing:
    highest = max(rate for _, rate in course.rates)

    def paint(figure: "Figure", theme: Theme) -> None:
        axes = figure.add_subplot()
        axes.plot(*zip(*course.rates, strict=True), color=theme.first, linewidth=1.6)
        axes.set_ylim(0, 1.08 * highest)
        axes.yaxis.set_major_formatter("{x:g}")
        dress(axes, "epoch", "learning rate", theme.faint)

    last = course.rates[-1][1]
    alt = f"Learning rate as the settings have it: at most {highest:.3g}, and {last:.3g} in the last step."
    return draw("learning-rate", alt, paint)


def _curve(axes: "Axes", points: list[Point], colour: str, name: str) -> None:
    if points:
        few = len(points) <= FEW
        dots = "o" if few else None
        axes.plot(*zip(*points, strict=True), color=colour, linewidth=1.6, marker=dots, markersize=3.5, label=name)


def _logarithmic(axes: "Axes", ratio: float) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if ratio < _FINE else (1,)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:g}")


def _finish(axes: "Axes", y: str, theme: Theme) -> None:
    from matplotlib.ticker import MaxNLocator

    dress(axes, "epoch", y, theme.faint)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, frameon=False, borderaxespad=0.2)
