"""The worst mistakes as one picture; on the page they are pictures and texts of their own."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cnnpar.report.html.contents import Mistake
from cnnpar.report.html.theme import LIGHT, Drawing, Theme, draw
from cnnpar.text import one_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = 8
_LONGEST = 12  # characters of a class's name
_CELL = (1.0, 1.45)  # inches of a mistake, of which the image takes a square


def mistakes_picture(mistakes: Sequence[Mistake]) -> Drawing:
    """Return the picture of mistakes in rows of eight, each with label, answer and probability."""
    columns, rows = min(len(mistakes), _COLUMNS), math.ceil(len(mistakes) / _COLUMNS)
    width, height = _CELL

    def paint(figure: "Figure", theme: Theme) -> None:
        axes = figure.add_subplot()
        for place, one in enumerate(mistakes):
            left, top = place % columns * width, -(place // columns) * height
            tall, wide = one.image.shape[0], one.image.shape[1]
            side = 0.9 / max(tall, wide)
            extent = (left, left + wide * side, top - tall * side, top)
            axes.imshow(one.image, extent=extent, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            label, answer = one_line(one.label, _LONGEST), one_line(one.answer, _LONGEST)
            said = f"{label}, taken\nfor {answer}\nwith {one.probability:.1%}"
            axes.text(left, top - 0.94, said, va="top", fontsize=6.5, linespacing=1.15, color=theme.ink)
        axes.set_xlim(0, columns * width)
        axes.set_ylim(-rows * height, 0)
        axes.set_axis_off()

    alt = f"The {len(mistakes)} worst mistakes, each with label, answer and probability"
    return draw("mistakes", alt, paint, (columns * width + 0.1, rows * height + 0.1), (LIGHT,))
