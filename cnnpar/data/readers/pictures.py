"""Decode one picture to pixels: PNG, JPEG, BMP, GIF, WebP and TIFF, in all modes that can be taken for what they are.

It is a file, or an image that a script has opened or made with Pillow. EXIF's orientation is applied; transparent
pixels are composited; of several frames or pages of a file the first is taken. Pixels have 8 bits a channel here, more
of them in deep_pictures.py, which alone needs numpy. Those of a file are a function of its bytes, the look, and the
versions of the codecs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from struct import Struct
from typing import Any, Literal, NamedTuple

from PIL import Image, UnidentifiedImageError

from cnnpar.data.readers.fitting import (
    UPRIGHT,
    Form,
    Look,
    PictureError,
    padded,
    scaled,
    size_to_decode,
    turned_size,
)
from cnnpar.errors import reason
from cnnpar.text import dimensions, one_line

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff")
KINDS = "PNG, JPEG, BMP, GIF, WebP or TIFF"
MOST_PIXELS = 1 << 22  # 2048 x 2048, in a picture that keeps its size
_MOST_SCALED = 1 << 27  # 134 megapixels, in a picture that is scaled down
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")  # Pillow's names
_GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "F")  # Pillow's modes of one channel, beside transparency
# Modes of up to 8 bits a channel without transparency, and what they are converted to; and those with transparency.
_OPAQUE = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB", "RGBX": "RGB", "CMYK": "RGB", "YCbCr": "RGB"}
_TRANSPARENT = ("LA", "La", "PA", "RGBA", "RGBa")
_GREYS_APART = {"L;2": 85, "L;4": 17}  # what Pillow multiplies the greys of a PNG by, but not the transparent one
_METADATA = frozenset({"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"})
_ORIENTATION = 0x0112  # tag of EXIF
_PNG_SIGNATURE, _CHUNK, _CHECKSUM = 8, Struct(">I4s"), 4  # of a PNG: bytes; length and kind of a chunk; bytes
_BITS, _SAMPLE_FORMAT = 258, 339  # tags of TIFF
_SIGNED = 2  # a sample format


class Opened(NamedTuple):
    """A picture of which only the header was read, or one that a script has given, loaded."""

    image: Image.Image
    content: bytes  # the file; b"" of a loaded one
    rawmode: str  # how Pillow unpacks the rows of a PNG or TIFF; "" for several ways; the mode of a loaded one
    orientation: int  # 1 to 8, as in EXIF


@contextmanager
def opened(content: bytes) -> Iterator[Opened]:
    """Open a picture. Raises PictureError, also for what Pillow raises while the picture is decoded."""
    with _as_picture_error(), Image.open(BytesIO(content), formats=_FORMATS) as image:
        yield Opened(image, content, _rawmode(image), _orientation(image, content))


@contextmanager
def loaded(image: Image.Image) -> Iterator[Opened]:
    """Load an image that a script has opened or made, and change nothing else of it. Raises PictureError as `opened`.

    It is what Pillow holds: 8 bits of a colour of 16, and the frame of an animation that was chosen.
    """
    with _as_picture_error():
        image.load()
        yield Opened(image, b"", image.mode, _orientation(image, b""))


@contextmanager
def _as_picture_error() -> Iterator[None]:
    """Raise PictureError for what Pillow raises while the block runs, but for a lack of memory."""
    try:
        yield
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise PictureError(f"too large for a training picture: {reason(error)}") from error
    except UnidentifiedImageError as error:
        raise PictureError(f"not a {KINDS} picture, whatever its name says") from error
    except (PictureError, MemoryError):
        raise
    except Exception as error:  # Pillow's parsers raise IndexError, struct.error and others for damaged pictures
        raise PictureError(f"cannot be read as a picture: {one_line(reason(error))}") from error


def form_of(picture: Opened, look: Look) -> Form:
    """Return the form of a picture by its header. Raises PictureError for pixels that cannot be taken as they are."""
    image = picture.image
    pixels = _pixel_type(picture, look)
    on_colour = len(set(look.background)) > 1 and (image.has_transparency_data or (look.size and look.fit == "pad"))
    is_grey = image.mode in _GREY or picture.rawmode == "LA;16B"  # palettes count as colour
    channels = look.channels or (1 if is_grey and not on_colour else 3)
    if not look.size:
        width, height = turned_size(image.size, picture.orientation)
        return Form(height, width, channels, pixels)
    if image.width * image.height > _MOST_SCALED:
        what = f"{dimensions(image.size)} pixels, at most {_MOST_SCALED:,} in all"
        raise PictureError(f"too large for a training picture: {what}")
    height, width = look.size
    return Form(height, width, channels, pixels)


def decode(picture: Opened, look: Look, form: Form) -> tuple[bytes, bool]:
    """Return the pixels of a picture, whose form is known, and whether it is transparent anywhere."""
    if form.pixels != "uint8":
        from cnnpar.data.readers.deep_pictures import decode_deep

        return decode_deep(picture.image, picture.content, picture.rawmode, picture.orientation, look, form)
    image = picture.image
    if look.size and image.format in ("JPEG", "MPO"):  # whose decoder can scale by 1/2, 1/4 and 1/8, and saves time
        image.draft(None, size_to_decode(image.size, look, picture.orientation))
    image.load()
    image = _in_eight_bits(image, picture.rawmode)
    transparent = image.mode == "RGBA" and image.getchannel("A").getextrema()[0] != 255
    image = scaled(image, look, picture.orientation)
    if image.mode == "RGBA":
        composite = Image.new("RGB", image.size, look.background)
        composite.paste(image, None, image)
        image = composite
    mode = "L" if form.channels == 1 else "RGB"
    if image.mode != mode:
        image = image.convert(mode)
    if look.fit == "pad":
        image = padded(image, look, Image.new("RGB", (1, 1), look.background).convert(mode).getpixel((0, 0)))
    return image.tobytes(), transparent


def _in_eight_bits(image: Image.Image, rawmode: str) -> Image.Image:
    """Return a loaded image as L or RGB, or RGBA if it has transparency."""
    if image.has_transparency_data:
        if image.mode == "L" and "transparency" in image.info:
            image.info["transparency"] *= _GREYS_APART.get(rawmode, 1)
        mode = "RGBA"
        if image.mode == "La":
            image = image.convert("LA")
    else:
        mode = _OPAQUE[image.mode]
    return image if image.mode == mode else image.convert(mode)


def _pixel_type(picture: Opened, look: Look) -> Literal["uint8", "uint16", "float32"]:
    """Return the type of pixels by the header. Raises PictureError for those that cannot be taken as they are."""
    image, bits = picture.image, 16 if "16" in picture.rawmode else 8
    if image.format == "TIFF":
        tags: Any = image.tag_v2  # type: ignore[attr-defined]
        if picture.content:
            bits = max(tags.get(_BITS, (1,)))
        if _SIGNED in tags.get(_SAMPLE_FORMAT, ()):
            raise PictureError("pixels with a sign; convert it to 8 or 16 bits without one")
    if image.mode == "F":
        if look.size and look.fit == "pad":
            raise PictureError('floats have no colour to be padded with; data.fit = "crop" or "stretch" needs none')
        return "float32"
    if bits > 8:
        from cnnpar.data.readers.deep_pictures import is_known

        if is_known(image, picture.rawmode):
            return "uint16"
    elif image.mode in _OPAQUE or image.mode in _TRANSPARENT:
        return "uint8"
    kind = f"mode {image.mode}" if bits <= 8 else f"mode {image.mode} of {bits} bits"
    raise PictureError(f"{kind} in a {image.format or 'picture'}; convert it to grey or RGB")


def _rawmode(image: Image.Image) -> str:
    """Return how Pillow unpacks the rows of a PNG or TIFF that is not loaded; "" where it does so in several ways."""
    if image.format not in ("PNG", "TIFF"):
        return ""
    tiles: Any = getattr(image, "tile", ())
    modes = {args if isinstance(args, str) else str(args[0]) if args else "" for _, _, _, args in tiles}
    return modes.pop() if len(modes) == 1 else ""


def _orientation(image: Image.Image, content: bytes) -> int:
    """Return how an image is to be turned, as in EXIF; 1 for TIFF, which Pillow turns itself."""
    found: object = 1
    try:
        if image.format == "PNG" and b"eXIf" in content:
            exif = Image.Exif()
            exif.load(_exif_of_png(content))
            found = exif.get(_ORIENTATION)
        elif image.format != "TIFF" and not _METADATA.isdisjoint(image.info):
            found = image.getexif().get(_ORIENTATION)
    except MemoryError:
        raise
    except Exception:  # damaged metadata, over which viewers pass
        return 1
    return found if isinstance(found, int) and found in UPRIGHT else 1


def _exif_of_png(content: bytes) -> bytes:
    """Return the EXIF data of a PNG; b"" if it has none. Pillow would decode the picture, as they may follow it."""
    place = _PNG_SIGNATURE
    while place + _CHUNK.size <= len(content):
        length, kind = _CHUNK.unpack_from(content, place)
        begin = place + _CHUNK.size
        if kind == b"eXIf":
            return content[begin : begin + length]
        place = begin + length + _CHECKSUM
    return b""
