"""Figures of matplotlib that notebooks show, without pyplot, whose figures are global state."""

import io
import warnings
from collections.abc import Mapping

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
