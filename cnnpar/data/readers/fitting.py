"""What pictures are brought to: size, fit, channels and background; and the scaling, turning and padding for it.

numpy is not needed here: processes that decode pictures of 8 bits start without it.
"""

from typing import Any, Literal, NamedTuple

from PIL import Image

_GAP = 2.0  # pictures are first reduced by whole numbers to not less than so many times the size wanted
_MOST_REDUCED = 1 << 14  # pixels to one; of more Pillow's fast reduction loses brightness, as it divides in 24 bits
UPRIGHT = {  # orientations of EXIF, and what turns such a picture upright; 1 is upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_FIRST_ON_ITS_SIDE = 5  # the first orientation in which rows are columns


class PictureError(Exception):
    """A picture that cannot be read; the text says why, and does not name the file."""


class Look(NamedTuple):
    """What pictures are brought to; see `cnnpar.config.data.Data`."""

    size: tuple[int, ...] = ()  # (height, width), or () for their own
    fit: Literal["stretch", "crop", "pad"] = "stretch"
    channels: int = 0  # 1, 3, or 0 for their own
    background: tuple[int, int, int] = (255, 255, 255)  # red, green, blue


class Form(NamedTuple):
    """Size and type of a picture's pixels, as they are given out."""

    height: int
    width: int
    channels: int  # 1 or 3
    pixels: Literal["uint8", "uint16", "float32"]


def turned_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Return (width, height) after turning upright; or before, as turning back does the same."""
    return size if orientation < _FIRST_ON_ITS_SIDE else (size[1], size[0])


def size_to_decode(size: tuple[int, int], look: Look, orientation: int) -> tuple[int, int]:
    """Return the least (width, height) that a picture of `size` may be decoded to, before it is scaled and turned."""
    width, height = _whole_size(size, look, orientation)
    return int(_GAP * width) + 1, int(_GAP * height) + 1


def scaled(image: Image.Image, look: Look, orientation: int) -> Image.Image:
    """Return an image scaled to `look.size`, if there is one, and upright; to be padded with fit "pad"."""
    if look.size:
        width, height = image.size
        target = _whole_size(image.size, look, orientation)
        left = top = 0.0
        if look.fit == "crop":
            target = turned_size((look.size[1], look.size[0]), orientation)
            scale = max(target[0] / width, target[1] / height)
            left = max(0.0, (width - target[0] / scale) / 2)
            top = max(0.0, (height - target[1] / scale) / 2)
        box = (left, top, width - left, height - top)
        area = (box[2] - left) * (box[3] - top) / (target[0] * target[1])
        image = image.resize(target, Image.Resampling.BICUBIC, box, _GAP if area < _MOST_REDUCED else None)
    return image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image


def padded(image: Image.Image, look: Look, fill: Any) -> Image.Image:
    """Return an image in the middle of `look.size`, if there is one, on a colour."""
    if not look.size or image.size == (look.size[1], look.size[0]):
        return image
    whole = Image.new(image.mode, (look.size[1], look.size[0]), fill)
    whole.paste(image, ((whole.width - image.width) // 2, (whole.height - image.height) // 2))
    return whole


def _whole_size(size: tuple[int, int], look: Look, orientation: int) -> tuple[int, int]:
    """Return (width, height) of a whole picture after scaling, without what is cut off or padded; not turned yet."""
    target = turned_size((look.size[1], look.size[0]), orientation)
    if look.fit == "stretch":
        return target
    ratios = [wanted / found for wanted, found in zip(target, size, strict=True)]
    scale = max(ratios) if look.fit == "crop" else min(ratios)
    # Rounding must neither leave a stripe of the larger side free nor make the smaller one vanish.
    width, height = (max(1, round(scale * found)) for found in size)
    return (width, height) if look.fit == "crop" else (min(width, target[0]), min(height, target[1]))
