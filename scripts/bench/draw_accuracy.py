"""Draw test accuracy against training time: .images/accuracy-time.png, from what accuracy.py wrote with `--curves`.

    python -m scripts.bench.draw_accuracy CURVES.json [--out .images/accuracy-time.png]

Each recipe is a band over its seeds, with the median as a line; beside them stand the two figures of the seed project,
from which cnnpar grew: 96.1 % in an hour and 99.36 % in 20 hours, on one CPU. Both axes are logarithmic: seconds, and
the share of the test images that is classified wrongly.
"""

import json
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from cnnpar.report.plots import TRAINING, VALIDATION, dress
from scripts.harness import ROOT, make_parser

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"cnnpar": VALIDATION, "PyTorch": TRAINING}
STYLES = ("-", "--", ":")
SEED_PROJECT = [(3600, 0.961), (72_000, 0.9936)]  # seconds, test accuracy
MARKS = (0.90, 0.961, 0.98, 0.99, 0.9936, 0.995, 0.997)


def draw(recipes: dict[str, dict[str, list[Any]]], path: Path) -> None:
    """Draw the recipes' curves and write the picture."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    figure = Figure(figsize=(8, 4.8), dpi=125)
    axes = figure.add_axes((0.095, 0.115, 0.885, 0.86))
    for style, (recipe, contestants) in zip(STYLES, recipes.items(), strict=False):
        for who, curves in contestants.items():
            name = f"{who}, {recipe}, {len(curves)} seed{'s' * (len(curves) > 1)}"
            _band(axes, curves, COLOURS[who], style, name)
    seconds, accuracies = zip(*SEED_PROJECT, strict=True)
    axes.plot(seconds, [100 * (1 - accuracy) for accuracy in accuracies], "o", color="black", markersize=6)
    for moment, accuracy in SEED_PROJECT:
        words = f"seed project, {100 * accuracy:g} %\nin {moment // 3600} h on one CPU"
        axes.annotate(
            words, (moment, 100 * (1 - accuracy)), (0, 9), textcoords="offset points", ha="center", fontsize=9
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(0.5, 300_000)
    axes.set_ylim(12, 0.2)
    axes.yaxis.set_major_locator(FixedLocator([100 * (1 - mark) for mark in MARKS]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda error, _: f"{100 - error:.4g}"))
    axes.xaxis.set_major_locator(FixedLocator([1, 10, 60, 600, 3600, 36_000]))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda x, _: f"{x:g} s" if x < 60 else f"{x / 60:g} min" if x < 3600 else f"{x / 3600:g} h")
    )
    dress(axes, "training time on 2 cores", "test accuracy (%)")
    axes.legend(loc="lower left", frameon=False)
    figure.savefig(path)


def _band(axes: "Axes", curves: list[Any], colour: str, style: str, name: str) -> None:
    """Draw a line at the median of the seeds, and shade what lies between the lowest and the highest."""
    points = list(zip(*curves, strict=True))  # all seeds at the same number of samples
    seconds = [median(point[0] for point in seeds) for seeds in points]
    errors = [[100 * (1 - point[2]) for point in seeds] for seeds in points]
    axes.plot(seconds, [median(some) for some in errors], style, color=colour, linewidth=1.6, label=name)
    axes.fill_between(seconds, list(map(min, errors)), list(map(max, errors)), color=colour, alpha=0.15, linewidth=0)


def main() -> None:
    parser = make_parser(__doc__, json=False)
    parser.add_argument("curves", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / ".images" / "accuracy-time.png")
    options = parser.parse_args()
    draw(json.loads(options.curves.read_text()), options.out)
    print(options.out)


if __name__ == "__main__":
    main()
