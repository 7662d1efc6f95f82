"""Arrays as small pictures: single images, and the maps of a layer side by side."""

import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import fromarray
from PIL.PngImagePlugin import PngInfo

from cnnpar.report.html.contents import Image, Maps
from cnnpar.report.html.theme import Drawing
from cnnpar.report.plots import SOFTWARE

_COLUMNS = 8
_TILE, _ALONE = 48, 96  # pixels of a map's longer side, at least: of several, and of a single one
_GAP = 4  # pixels between maps, through which the page is seen
_LARGEST = 96  # pixels of the longer side of an image or a map, at most


def as_image(image: NDArray[Any], low: float, high: float) -> Image:
    """Return an image (H, W, C), whose pixels are from `low` to `high`, as grey or colour of 8 bits.

    Of two channels, and of more than three, the first one or three are shown.
    """
    scaled = np.clip((image.astype(np.float64) - low) * (255 / max(high - low, 1e-12)), 0, 255)
    pixels = np.rint(scaled).astype(np.uint8)
    return pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., 0]


def png(image: Image) -> bytes:
    """Return an image as a PNG file, at most 96 pixels high and wide."""
    picture = fromarray(image)
    picture.thumbnail((_LARGEST, _LARGEST))
    return _saved(picture)


def mosaic(name: str, layer: Maps) -> Drawing:
    """Return the picture of a layer's maps, in rows of eight; small ones are enlarged by a whole number."""
    stride = max(1, math.ceil(max(layer.maps.shape[1:3]) / _LARGEST))
    tiles = _colours(layer.maps[:, ::stride, ::stride])  # (number, h, w, 4)
    number, height, width, _ = tiles.shape
    factor = max(1, (_TILE if number > 1 else _ALONE) // max(height, width))
    tiles = tiles.repeat(factor, axis=1).repeat(factor, axis=2)
    columns = min(number, _COLUMNS)
    tall, wide = tiles.shape[1] + _GAP, tiles.shape[2] + _GAP
    sheet = np.zeros((math.ceil(number / columns) * tall - _GAP, columns * wide - _GAP, 4), np.uint8)
    for place, tile in enumerate(tiles):
        top, left = place // columns * tall, place % columns * wide
        sheet[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return Drawing(name, alt_of(layer), _saved(fromarray(sheet)))


def alt_of(layer: Maps) -> str:
    """Say what a layer's picture shows."""
    if layer.of == 1:
        return layer.title
    shown = f"{len(layer.maps)} of {layer.of:,}" if layer.of > len(layer.maps) else f"{layer.of}"
    return f"{layer.title}: {shown} maps"


def _colours(maps: NDArray[Any]) -> NDArray[np.uint8]:
    """Return maps in colours (number, h, w, 4). Those of three channels are colours already, in 0..1.

    NaN has no colour. Maps with negative values get a scale whose middle is 0, others one that begins at 0.
    """
    from matplotlib import colormaps

    if maps.ndim == 4:
        opaque = np.full((*maps.shape[:3], 1), 255, np.uint8)
        return np.concatenate([np.rint(255 * maps).astype(np.uint8), opaque], axis=3)
    most = max(float(np.nanmax(np.abs(maps), initial=0.0)), 1e-12)
    if np.nanmin(maps, initial=0.0) < 0:
        return colormaps["RdBu_r"](np.ma.masked_invalid(maps / most / 2 + 0.5), bytes=True)
    return colormaps["viridis"](np.ma.masked_invalid(maps / most), bytes=True)


def _saved(picture: Any) -> bytes:
    content, info = io.BytesIO(), PngInfo()
    info.add_text("Software", SOFTWARE)
    picture.save(content, format="png", pnginfo=info)
    return content.getvalue()
