"""Figures of matplotlib that notebooks show, without pyplot, whose figures are global state."""

import io
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from matplotlib import artist as artists


@contextmanager
def _without_help() -> Iterator[None]:
    """Leave the lists of properties out of the help of matplotlib's classes that are imported in the block.

    They are a third of its import, and nobody can ask for them but in an interactive session, which keeps them.
    """
    if hasattr(sys, "ps1"):
        yield
        return
    kwdoc, artists.kwdoc = artists.kwdoc, lambda artist: ""  # noqa: ARG005  # its name
    try:
        yield
    finally:
        artists.kwdoc = kwdoc


with _without_help():
    from matplotlib.figure import Figure


class Picture(Figure):
    """A figure that is a picture where it is the result of a notebook's cell."""

    def png(self, metadata: Mapping[str, str] | None = None) -> bytes:
        """Return the picture as the bytes of a PNG file, with metadata of the format's usual names."""
        content = io.BytesIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # a title in a script that the font lacks
            self.savefig(content, format="png", metadata=metadata)
        return content.getvalue()

    _repr_png_ = png  # IPython asks for it
