"""The reliability curve of a report: how often answers of a probability are right."""

from typing import TYPE_CHECKING

from cnnpar.report import intervals
from cnnpar.report.html.contents import Calibration
from cnnpar.report.html.theme import Drawing, Theme, draw
from cnnpar.report.plots import dress

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def calibration_picture(found: Calibration) -> Drawing:
    """Return the picture: share of right answers and its interval over their probability, and how many there are."""
    there = [one for one in found.bins if one.images]
    total = sum(one.images for one in there)
    reach = [intervals.of_share(round(one.right * one.images), one.images) for one in there]
    below = [100 * max(one.right - low, 0.0) for one, (low, _) in zip(there, reach, strict=True)]
    above = [100 * max(high - one.right, 0.0) for one, (_, high) in zip(there, reach, strict=True)]

    def paint(figure: "Figure", theme: Theme) -> None:
        curve, bars = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        curve.plot([0, 100], [0, 100], color=theme.first, linewidth=1, linestyle="--", label="as it should be")
        x, y = [100 * one.probability for one in there], [100 * one.right for one in there]
        curve.errorbar(
            x,
            y,
            yerr=[below, above],
            color=theme.second,
            marker="o",
            markersize=4.5,
            linewidth=1.3,
            elinewidth=0.9,
            capsize=2.5,
            label="this model",
            clip_on=False,
        )
        curve.set_xlim(0, 100)
        curve.set_ylim(0, 100)
        dress(curve, "", "right (%)", theme.faint)
        curve.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, frameon=False, borderaxespad=0.2)
        bars.bar(
            [50 * (one.low + one.high) for one in there],
            [100 * one.images / total for one in there],
            width=9,
            color=theme.first,
        )
        bars.set_ylim(0, 100)
        dress(bars, "probability of the answer (%)", "images (%)", theme.faint)

    alt = f"Share of right answers over their probability; expected calibration error {found.error:.2%}."
    return draw("calibration", alt, paint, (5.2, 4.4))
