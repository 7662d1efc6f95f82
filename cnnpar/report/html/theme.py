"""Pictures of a report, each drawn for light and for dark pages."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from cnnpar.report.plots import SOFTWARE, silence

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SIZE = (5.2, 3.3)  # inches: small, so that the letters can be read at a phone's width
_DPI = 160


@dataclass(frozen=True)
class Theme:
    """Colours of a picture; those of the page are in style.css."""

    paper: str
    ink: str
    faint: str
    first: str  # training, or what is usual
    second: str  # validation, or what stands out
    right: str
    wrong: str


LIGHT = Theme("#ffffff", "#1c1e21", "#e2e5e9", "#7d93a8", "#c8102e", "#2f6fb2", "#d1352b")
DARK = Theme("#15181c", "#e6e8eb", "#30363d", "#8fa3b5", "#ff7a8a", "#4f94dc", "#ff6b5e")


class Drawing(NamedTuple):
    """A picture as PNG, for light and for dark pages."""

    name: str  # of its file, without ending
    alt: str  # what it shows, for those who cannot see it
    light: bytes
    dark: bytes | None = None  # None: the same on a dark page


def draw(
    name: str,
    alt: str,
    paint: Callable[["Figure", Theme], None],
    size: tuple[float, float] = _SIZE,
    themes: Sequence[Theme] = (LIGHT, DARK),
) -> Drawing:
    """Return a picture that `paint` draws into an empty figure of `size` inches, once for each theme."""
    silence()
    import matplotlib as mpl

    from cnnpar.report.picture import Picture

    drawn = []
    for theme in themes:
        settings: dict[Any, Any] = {  # of matplotlib
            "figure.facecolor": theme.paper,
            "axes.facecolor": theme.paper,
            "axes.edgecolor": theme.ink,
            "axes.labelcolor": theme.ink,
            "text.color": theme.ink,
            "xtick.color": theme.ink,
            "ytick.color": theme.ink,
            "text.parse_math": False,  # names of classes are no formulas
            "font.size": 11,
        }
        with mpl.rc_context(settings):
            figure = Picture(figsize=size, dpi=_DPI, layout="constrained")
            paint(figure, theme)
            drawn.append(figure.png({"Software": SOFTWARE}))
    return Drawing(name, alt, *drawn)
