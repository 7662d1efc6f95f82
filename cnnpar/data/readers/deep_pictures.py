"""Decode pictures of more than 8 bits a channel: PNG and TIFF of 16 bits, and TIFF of floats.

Pillow keeps 16 bits of one channel, but 8 of colours. So colours are decoded twice, to the upper and the lower bytes.
"""

import sys
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnpar.data.readers.fitting import Form, Look, PictureError, padded, scaled

_ONE_CHANNEL = ("I;16", "I;16B", "I;16N", "I;12")
# How Pillow unpacks rows of 16 bits to their upper bytes, and how it would take the lower ones. All four bytes of grey
# with transparency are those of RGBA.
_OTHER_END = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}  # big, little, the machine's own
_LOWER = {f"{mode};16{end}": f"{mode};16{other}" for mode in ("RGB", "RGBA") for end, other in _OTHER_END.items()}
_BOTH = {"LA;16B": "RGBA"}
_PHOTOMETRIC, _PLANES = 262, 284  # tags of TIFF
_MOST_FLOAT = 1e9  # as of other sources, see cnnpar/data/pixels.py
_MOST = 65535.0
_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R 601-2, as Pillow converts


def is_known(image: Image.Image, rawmode: str) -> bool:
    """Tell whether all 16 bits of an image can be had."""
    tags: Any = getattr(image, "tag_v2", {})
    together = tags.get(_PLANES, 1) == 1
    return rawmode in _ONE_CHANNEL or (together and (rawmode in _LOWER or rawmode in _BOTH))


def decode_deep(
    image: Image.Image, content: bytes, rawmode: str, orientation: int, look: Look, form: Form
) -> tuple[bytes, bool]:
    """Return the pixels of an image, whose form is known, as bytes, and whether it is transparent anywhere."""
    pixels, alpha = _pixels(image, content, rawmode)  # (H, W, C), (H, W) or None
    background = [257.0 * value for value in look.background]
    grey = sum(weight * value for weight, value in zip(_LUMINANCE, background, strict=True))
    as_colour = pixels.shape[2] == 3 or form.channels == 3
    planes = []
    for index in range(3 if as_colour else 1):
        plane = pixels[:, :, index % pixels.shape[2]].astype(np.float32)
        behind = background[index] if as_colour else grey
        if alpha is not None:
            plane += (behind - plane) * (1 - alpha)
        planes.append(np.asarray(padded(scaled(Image.fromarray(plane), look, orientation), look, behind)))
    if as_colour and form.channels == 1:
        red, green, blue = (weight * plane for weight, plane in zip(_LUMINANCE, planes, strict=True))
        planes = [red + green + blue]
    result = np.stack(planes, axis=-1)
    transparent = alpha is not None and bool((alpha < 1).any())
    if form.pixels == "uint16":
        result = np.rint(result.clip(0, _MOST)).astype(np.uint16)
    return result.tobytes(), transparent


def _pixels(image: Image.Image, content: bytes, rawmode: str) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
    """Return pixels (H, W, C), of uint16 or float32, and opacity (H, W) from 0 to 1, if there is one."""
    clear = image.info.get("transparency")
    if image.mode == "F":
        pixels = np.asarray(image)[:, :, None]
        if not (abs(pixels) <= _MOST_FLOAT).all():
            raise PictureError("a pixel that is not finite, or beyond 1e9")
    elif rawmode in _ONE_CHANNEL:
        pixels = np.asarray(image).astype(np.uint16)[:, :, None]
        tags: Any = getattr(image, "tag_v2", {})
        if tags.get(_PHOTOMETRIC) == 0:  # white is zero, which Pillow inverts for 8 bits only
            pixels = np.iinfo(np.uint16).max - pixels
    elif rawmode in _BOTH:
        pixels = np.asarray(_unpacked(content, _BOTH[rawmode])).view(">u2").astype(np.uint16)  # (H, W, 2)
    else:
        lower = np.asarray(_unpacked(content, _LOWER[rawmode]))
        pixels = np.asarray(image).astype(np.uint16)
        pixels <<= 8
        pixels |= lower
    if pixels.shape[2] in (2, 4):
        return pixels[:, :, :-1], pixels[:, :, -1].astype(np.float32) / np.float32(_MOST)
    if clear is None:
        return pixels, None
    return pixels, (pixels != np.array(clear)).any(axis=2).astype(np.float32)


def _unpacked(content: bytes, rawmode: str) -> Image.Image:
    """Decode a picture, with its rows unpacked in another way."""
    with Image.open(BytesIO(content), formats=("PNG", "TIFF")) as picture:
        undecoded: Any = picture  # its tiles say how; Pillow's types do not hold them for all formats
        undecoded.tile = [
            (codec, extents, offset, rawmode if isinstance(args, str) else (rawmode, *args[1:]))
            for codec, extents, offset, args in undecoded.tile
        ]
        picture.load()
        return picture
