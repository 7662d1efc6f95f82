"""Decoding of single pictures, made as their writers make them: the right pixels, or a refusal by name."""

import io
import struct
import warnings
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from cnnpar.data.readers.fitting import Look, PictureError
from cnnpar.data.readers.pictures import decode, form_of, opened

AS_IT_IS, RED = Look(), Look(background=(255, 0, 0))
WHITE, GREY_WORLD = 255, Look(background=(100, 100, 100))
LOSSLESS = ("PNG", "BMP", "TIFF", "GIF", "WEBP")
SMOOTH = np.add.outer(np.arange(40) * 4, np.arange(56) * 1).astype(np.uint8)  # (40, 56), which a JPEG keeps


def noise(*shape: int, most: int = 256) -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, most, shape).astype(np.uint8 if most == 256 else np.uint16)


def encoded(image: Image.Image | NDArray[Any], kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(stream, kind, **options)
    return stream.getvalue()


def read(content: bytes, look: Look = AS_IT_IS) -> tuple[NDArray[Any], bool]:
    """Decode a picture; return (H, W, C) and whether it has transparency."""
    with warnings.catch_warnings(action="ignore"), opened(content) as picture:
        form = form_of(picture, look)
        pixels, transparent = decode(picture, look, form)
    return np.frombuffer(pixels, form.pixels).reshape(form[:3]), transparent


def refusal(content: bytes, look: Look = AS_IT_IS) -> str:
    with pytest.raises(PictureError) as caught:
        read(content, look)
    return str(caught.value)


def png(rows: NDArray[Any], kind: int, depth: int, clear: tuple[int, ...] = ()) -> bytes:
    """Write a PNG as libpng does without filters; `rows` are its bytes, `kind` its colour type, `clear` its tRNS."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = rows.shape[:2]
    header = struct.pack(">2I5B", width, height, depth, kind, 0, 0, 0)
    transparency = chunk(b"tRNS", struct.pack(f">{len(clear)}H", *clear)) if clear else b""
    order = rows.astype(">u2") if depth == 16 else rows
    data = b"".join(b"\0" + (np.packbits(row) if depth == 1 else row).tobytes() for row in order)
    body = transparency + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_lossless_kinds_give_the_pixels_that_were_written(kind: str, mode: str) -> None:
    image = Image.fromarray(noise(12, 9, 3)).convert(mode)
    found, transparent = read(encoded(image, kind, **({"lossless": True} if kind == "WEBP" else {})), Look(channels=3))
    assert np.array_equal(found, np.asarray(image.convert("RGB")))
    assert not transparent


@pytest.mark.parametrize(
    ("mode", "kind", "channels"),
    [
        ("L", "PNG", 1),
        ("1", "PNG", 1),
        ("L", "JPEG", 1),
        ("L", "BMP", 1),
        ("L", "TIFF", 1),
        ("P", "PNG", 3),
        ("RGB", "PNG", 3),
    ],
)
def test_grey_pictures_have_one_channel_and_others_three(mode: str, kind: str, channels: int) -> None:
    assert read(encoded(Image.new(mode, (4, 3), 1), kind))[0].shape == (3, 4, channels)


def test_channels_are_what_the_setting_says() -> None:
    colour = noise(5, 4, 3)
    grey, _ = read(encoded(colour, "PNG"), Look(channels=1))
    assert np.array_equal(grey[:, :, 0], np.asarray(Image.fromarray(colour).convert("L")))
    three, _ = read(encoded(colour[:, :, 0], "PNG"), Look(channels=3))
    assert np.array_equal(three, np.repeat(colour[:, :, :1], 3, axis=2))


def test_cmyk_jpeg_becomes_rgb() -> None:
    ink = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # magenta and yellow
    for kind in ("JPEG", "TIFF"):
        found, _ = read(encoded(ink, kind))
        assert abs(found[0, 0].astype(int) - (255, 0, 0)).max() <= 3
    found, _ = read(encoded(Image.new("YCbCr", (4, 4), (76, 85, 255)), "TIFF"))
    assert abs(found[0, 0].astype(int) - (254, 0, 0)).max() <= 2


def test_mpo_gives_its_first_picture() -> None:
    first, second = (Image.fromarray(SMOOTH + add) for add in (0, 30))
    content = encoded(first, "MPO", save_all=True, append_images=[second], quality=95)
    assert b"MPF" in content
    assert abs(read(content)[0][:, :, 0].astype(int) - SMOOTH).max() < 8


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG"])
def test_the_first_frame_of_several_is_taken(kind: str) -> None:
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "lime")]
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    found, _ = read(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options))
    assert found.shape == (3, 4, 3)
    assert (found == (255, 0, 0)).all()


# Row 0 and column 0 of what is stored, by EXIF: the first row is at the (side), the first column at the (side).
STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: upright.swapaxes(0, 1)[::-1],
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: upright.swapaxes(0, 1)[:, ::-1],
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "MPO"])
@pytest.mark.parametrize("size", [(), (20, 28)])
def test_orientation_of_exif_is_applied(orientation: int, kind: str, size: tuple[int, ...]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(STORED[orientation](SMOOTH))
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    content = encoded(np.repeat(stored[:, :, None], 3, axis=2), kind, exif=exif, quality=95, **options)
    found, _ = read(content, Look(size=size))
    expected = np.asarray(Image.fromarray(SMOOTH).resize((28, 20), Image.Resampling.BOX)) if size else SMOOTH
    assert found.shape == (*expected.shape, 3)
    assert abs(found[1:-1, 1:-1, 0].astype(int) - expected[1:-1, 1:-1]).max() < 8


def test_damaged_metadata_do_not_matter() -> None:
    content = encoded(SMOOTH, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\xff" + bytes(20))
    assert read(content)[0].shape == (40, 56, 1)


@pytest.mark.parametrize(("kind", "channels"), [(0, 1), (2, 3)])
def test_png_of_16_bits_keeps_them(kind: int, channels: int) -> None:
    pixels = noise(5, 4, channels, most=65536)
    found, _ = read(png(pixels, kind, 16))
    assert found.dtype == np.uint16
    assert np.array_equal(found, pixels)
    dark = pixels % 100  # of which the upper 8 bits are all zero
    assert np.array_equal(read(png(dark, kind, 16))[0], dark)


@pytest.mark.parametrize(("kind", "channels"), [(4, 2), (6, 4)])
def test_png_of_16_bits_with_alpha_is_composited(kind: int, channels: int) -> None:
    pixels = noise(5, 4, channels, most=65536)
    found, transparent = read(png(pixels, kind, 16), GREY_WORLD)
    alpha = pixels[:, :, -1:] / 65535
    assert transparent
    assert found.dtype == np.uint16
    assert abs(found - (pixels[:, :, :-1] * alpha + 25700 * (1 - alpha))).max() < 0.51
    pixels[:, :, -1] = 65535
    found, transparent = read(png(pixels, kind, 16))
    assert np.array_equal(found, pixels[:, :, :-1])
    assert not transparent


@pytest.mark.parametrize(("kind", "channels"), [(0, 1), (2, 3)])
def test_transparent_colour_of_16_bits_is_composited(kind: int, channels: int) -> None:
    pixels = noise(5, 4, channels, most=65536)
    found, transparent = read(png(pixels, kind, 16, tuple(pixels[2, 1])), GREY_WORLD)
    pixels[2, 1] = 25700
    assert transparent
    assert np.array_equal(found, pixels)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_deflate"])
def test_grey_tiff_of_16_bits_keeps_them(compression: str) -> None:
    pixels = noise(5, 4, most=65536)
    found, _ = read(encoded(pixels, "TIFF", compression=compression))
    assert found.dtype == np.uint16
    assert np.array_equal(found[:, :, 0], pixels)


def tiff(pixels: NDArray[Any], order: str, *, photometric: int = 2, planes: int = 1, sample_format: int = 1) -> bytes:
    """Write an uncompressed TIFF of 16 bits in one strip; `order` is "<" or ">"."""
    height, width, channels = pixels.shape
    data = (pixels if planes == 1 else pixels.transpose(2, 0, 1)).astype(f"{order}u2").tobytes()
    entries = [
        *((256, 3, 1, width), (257, 3, 1, height), (258, 3, channels, None), (259, 3, 1, 1), (262, 3, 1, photometric)),
        *((273, 4, 1, None), (277, 3, 1, channels), (278, 3, 1, height), (279, 4, 1, len(data)), (284, 3, 1, planes)),
        (339, 3, 1, sample_format),
    ]
    behind = 8 + 2 + 12 * len(entries) + 4
    bits, extra = [16] * channels, behind + (2 * channels if channels > 1 else 0)
    fields = b""
    for tag, kind, count, value in entries:
        if tag == 258:
            field = struct.pack(f"{order}I", behind) if channels > 1 else struct.pack(f"{order}2H", 16, 0)
        elif tag == 273:
            field = struct.pack(f"{order}I", extra)
        else:
            field = struct.pack(f"{order}2H", value, 0) if kind == 3 else struct.pack(f"{order}I", value)
        fields += struct.pack(f"{order}2HI", tag, kind, count) + field
    more = struct.pack(f"{order}{channels}H", *bits) if channels > 1 else b""
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HI", 42, 8)
    return head + struct.pack(f"{order}H", len(entries)) + fields + bytes(4) + more + data


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [1, 3])
def test_tiff_of_16_bits_keeps_them_in_either_byte_order(order: str, channels: int) -> None:
    pixels = noise(6, 5, channels, most=65536)
    found, _ = read(tiff(pixels, order, photometric=1 if channels == 1 else 2))
    assert found.dtype == np.uint16
    assert np.array_equal(found, pixels)


def test_tiff_in_which_white_is_zero_is_inverted() -> None:
    pixels = noise(6, 5, 1, most=65536)
    assert np.array_equal(read(tiff(pixels, "<", photometric=0))[0], 65535 - pixels)


def test_pixels_that_cannot_be_taken_as_they_are_are_refused() -> None:
    pixels = noise(6, 5, 3, most=65536)
    assert "mode RGB of 16 bits in a TIFF; convert" in refusal(tiff(pixels, "<", planes=2))
    assert "pixels with a sign" in refusal(tiff(pixels[:, :, :1], "<", photometric=1, sample_format=2))
    assert "pixels with a sign" in refusal(encoded(np.ones((3, 4), np.int32), "TIFF"))
    assert "mode LAB in a TIFF" in refusal(encoded(Image.new("LAB", (4, 3)), "TIFF"))
    assert "not a PNG, JPEG, BMP, GIF, WebP or TIFF picture" in refusal(encoded(Image.new("L", (4, 3)), "PPM"))


def test_float_tiff_is_float32_and_finite() -> None:
    pixels = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    found, _ = read(encoded(pixels, "TIFF"))
    assert found.dtype == np.float32
    assert np.array_equal(found[:, :, 0], pixels)
    assert read(encoded(pixels, "TIFF"), Look((2, 2), "crop"))[0].shape == (2, 2, 1)
    assert "floats have no colour to be padded with" in refusal(encoded(pixels, "TIFF"), Look((2, 2), "pad"))
    pixels[1, 1] = np.nan
    assert "a pixel that is not finite" in refusal(encoded(pixels, "TIFF"))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_alpha_is_composited_on_the_background(kind: str) -> None:
    pixels = noise(6, 5, 4)
    pixels[0, 0, 3], pixels[0, 1, 3] = 0, 255
    options: dict[str, Any] = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    found, transparent = read(encoded(pixels, kind, **options), RED)
    alpha = pixels[:, :, 3:] / 255
    assert transparent
    assert abs(found - (pixels[:, :, :3] * alpha + (255, 0, 0) * (1 - alpha))).max() <= 1
    assert found[0, 0].tolist() == [255, 0, 0]
    assert np.array_equal(found[0, 1], pixels[0, 1, :3])
    pixels[:, :, 3] = 255
    found, transparent = read(encoded(pixels, kind, **options), RED)
    assert np.array_equal(found, pixels[:, :, :3])
    assert not transparent


def test_grey_with_alpha_stays_grey_on_grey() -> None:
    pixels = noise(6, 5, 2)
    content = encoded(pixels, "PNG")
    alpha = pixels[:, :, 1] / 255
    found, transparent = read(content, GREY_WORLD)
    assert transparent
    assert abs(found[:, :, 0] - (pixels[:, :, 0] * alpha + 100 * (1 - alpha))).max() <= 1
    assert read(content, RED)[0].shape == (6, 5, 3)


def test_transparent_colours_of_palettes_and_trns_are_composited() -> None:
    grey = np.array([[10, 20, 30]], np.uint8)
    assert read(encoded(grey, "PNG", transparency=20))[0].ravel().tolist() == [10, WHITE, 30]
    colour = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)
    assert read(encoded(colour, "PNG", transparency=(4, 5, 6)))[0].tolist() == [[[1, 2, 3], [WHITE] * 3]]
    palette = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "L").copy()
    palette = Image.frombytes("P", (3, 1), bytes([0, 1, 2]))
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    found, transparent = read(encoded(palette, "PNG", transparency=bytes([255, 0, 255])))
    assert transparent
    assert found.tolist() == [[[10, 20, 30], [WHITE] * 3, [70, 80, 90]]]
    found, transparent = read(encoded(palette, "GIF", transparency=2))
    assert transparent
    assert found.tolist() == [[[10, 20, 30], [40, 50, 60], [WHITE] * 3]]


@pytest.mark.parametrize(("depth", "packed", "clear"), [(2, 0b00011011, 1), (4, 0b00010011, 1), (1, 0b01010101, 1)])
def test_transparent_greys_of_few_bits_are_found(depth: int, packed: int, clear: int) -> None:
    """Pillow brings the pixels to 8 bits, but of 2 and 4 bits not the transparent grey."""
    count = 8 // depth
    values = np.array([packed >> (8 - depth * (place + 1)) & (2**depth - 1) for place in range(count)])
    rows = np.full((1, count), packed, np.uint8)
    content = png(rows, 0, 8, (clear,))
    header = b"IHDR" + struct.pack(">2I5B", count, 1, depth, 0, 0, 0, 0)
    start = content.index(b"IHDR")
    content = content[:start] + header + struct.pack(">I", zlib.crc32(header)) + content[start + 21 :]
    found, transparent = read(content, GREY_WORLD)
    assert transparent
    expected = np.where(values == clear, 100, values * (255 // (2**depth - 1)))
    assert found.ravel().tolist() == expected.tolist()


FITS = st.sampled_from(["stretch", "crop", "pad"])


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 30), st.integers(1, 30), FITS, st.sampled_from([1, 3]))
def test_every_picture_gets_the_size_wanted(
    width: int, height: int, to_height: int, to_width: int, fit: Any, channels: int
) -> None:
    look = Look((to_height, to_width), fit, channels, (0, 0, 0))
    content = encoded(Image.new("RGB", (width, height), (90, 90, 90)), "PNG")
    found, _ = read(content, look)
    assert found.shape == (to_height, to_width, channels)
    if fit == "pad":
        rows, columns = (found[:, :, 0] == 90).any(axis=1), (found[:, :, 0] == 90).any(axis=0)
        assert rows.all() or columns.all()
        assert (found[:, :, 0] == 90).sum() == rows.sum() * columns.sum()
    else:
        assert (found == 90).all()


def test_crop_keeps_the_middle_and_pad_the_whole() -> None:
    wide = np.zeros((10, 40, 3), np.uint8)
    wide[:, :10], wide[:, 15:25], wide[:, 30:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    content = encoded(wide, "PNG")
    crop, _ = read(content, Look((10, 10), "crop"))
    assert (crop[:, 1:-1] == (0, 255, 0)).all()
    pad, _ = read(content, Look((40, 40), "pad", 0, (7, 8, 9)))
    assert np.array_equal(pad[15:25], wide)
    assert (pad[:15] == (7, 8, 9)).all()
    assert (pad[25:] == (7, 8, 9)).all()
    stretch, _ = read(content, Look((10, 20), "stretch"))
    assert (stretch[:, 1:4] == (255, 0, 0)).all()


def test_pictures_of_16_bits_are_scaled_as_those_of_8() -> None:
    small = noise(30, 40)
    for fit in ("stretch", "crop", "pad"):
        look = Look((16, 16), fit, 0, (255, 255, 255))
        eight, _ = read(encoded(small, "PNG"), look)
        sixteen, _ = read(encoded(small.astype(np.uint16) * 257, "PNG"), look)
        assert sixteen.dtype == np.uint16
        assert abs(sixteen / 257 - eight).max() <= 1.01


def test_reduced_decoding_of_a_large_jpeg_gives_the_same_picture() -> None:
    photo = np.asarray(Image.fromarray(noise(12, 16, 3)).resize((1600, 1200), Image.Resampling.BICUBIC))
    for fit in ("stretch", "crop", "pad"):
        look = Look((60, 60), fit)
        from_jpeg, _ = read(encoded(photo, "JPEG", quality=95), look)
        from_png, _ = read(encoded(photo, "PNG", compress_level=1), look)
        assert abs(from_jpeg.astype(int) - from_png).mean() < 2


def test_large_pictures_are_scaled_and_larger_ones_refused() -> None:
    large = encoded(Image.new("1", (12000, 9000), 1), "PNG")  # 108 megapixels
    assert (read(large, Look((8, 8)))[0] == 255).all()
    assert "12000 x 12000 pixels, at most 134,217,728" in refusal(
        encoded(Image.new("1", (12000, 12000)), "PNG"), Look((8, 8))
    )
