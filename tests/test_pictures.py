import io
import struct

import numpy as np
import pytest
from PIL import Image

from minigen.data.pictures import TURNS, read_picture

PIXELS = np.random.default_rng(0).integers(0, 255, (12, 20, 3), dtype=np.uint8)


def encoded(format="JPEG", pixels=PIXELS, **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format, **options)
    return buffer.getvalue()


def exif(*entries):
    """EXIF bytes of (tag, type, count, four bytes of value)."""
    head = b"Exif\0\0II*\x00\x08\x00\x00\x00" + struct.pack("<H", len(entries))
    return head + b"".join(struct.pack("<HHI4s", *e) for e in entries) + b"\0\0\0\0"


TURNED = (0x0112, 3, 1, b"\x06\0\0\0")


@pytest.mark.filterwarnings("ignore:Truncated File Read")
@pytest.mark.parametrize(
    "odd",
    [
        (0x011A, 2, 4, b"abc\0"),  # XResolution as text: Pillow's own turning trips over it
        (0x011A, 5, 1, b"\xff\xff\xff\xff"),  # a fraction that lies outside the file
        (0x8769, 4, 1, b"\xff\xff\xff\x7f"),  # a directory that does
        (0x8825, 2, 4, b"abc\0"),
        (0x0132, 7, 999999, b"\0\0\0\0"),
    ],
)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_odd_metadata_do_no_harm_and_the_picture_is_turned(odd, format):
    data = encoded(format, exif=exif(TURNED, odd))
    pixels, shape = read_picture(data, 8)
    assert pixels.shape == (8, 8, 3) and shape in ((12, 20), (20, 12))
    if format == "JPEG" and odd[:2] == (0x011A, 2):
        assert shape == (12, 20)  # the orientation could be read, so it is applied


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_that_of_pillow(orientation):
    from PIL import ImageOps

    tag = Image.Exif()
    tag[0x0112] = orientation
    data = encoded("PNG", exif=tag)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    side = min(upright.shape[:2])
    top, left = (upright.shape[0] - side) // 2, (upright.shape[1] - side) // 2
    got, shape = read_picture(data, side, "box")
    assert (
        np.array_equal(got, upright[top : top + side, left : left + side])
        and shape == upright.shape[1::-1]
    )
    assert len(TURNS) == 7


@pytest.mark.parametrize(
    "format", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF", "JPEG2000"]
)
def test_formats(format):
    if format not in Image.registered_extensions().values():
        pytest.skip(f"this Pillow has no {format}")
    assert read_picture(encoded(format), 8)[0].shape == (8, 8, 3)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no readable bytes"),
        (b"text", "not an image"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC.*pillow-heif"),
        (encoded()[:200], "damaged image"),
        (encoded("PNG")[:60], "damaged image"),
        (encoded("PNG", np.zeros((8, 8), np.uint16)), "8 bits"),
    ],
)
def test_what_is_no_picture_is_a_reason(data, words):
    with pytest.raises(ValueError, match=words):
        read_picture(data, 8)


def test_whatever_a_decoder_raises_is_a_reason(monkeypatch):
    for error in (
        TypeError("odd"),
        struct.error("odd"),
        AttributeError("odd"),
        SyntaxError("odd"),
        MemoryError(),
    ):
        monkeypatch.setattr(Image.Image, "convert", lambda *a, e=error: (_ for _ in ()).throw(e))
        with pytest.raises(ValueError, match=r"damaged image .odd|damaged image .MemoryError"):
            read_picture(encoded(), 8)


def test_the_crop_is_the_middle_also_where_the_rest_is_odd():
    wide = np.zeros((4, 13, 3), np.uint8)
    wide[:, 4:8] = 200  # 9 columns to spare: 4 on the left, 5 on the right
    assert (read_picture(encoded("PNG", wide), 4, "box")[0] == 200).all()
    assert (read_picture(encoded("PNG", wide.transpose(1, 0, 2).copy()), 4, "box")[0] == 200).all()


def test_centre_crop_and_antialiasing():
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 200  # the centre square
    assert (read_picture(encoded("PNG", wide), 10)[0] == 200).all()
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))[..., None].repeat(3, 2)
    small = read_picture(encoded("PNG", stripes), 16)[0].astype(float)
    assert abs(small - 127.5).max() < 25  # without antialiasing: 0 or 255


def test_modes_and_orientation():
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    assert read_picture(encoded("PNG", grey), 8)[0].shape == (8, 8, 3)
    clear = np.zeros((8, 8, 4), np.uint8)
    assert (read_picture(encoded("PNG", clear), 8)[0] == 255).all()  # transparent becomes white
    turned = Image.Exif()
    turned[0x0112] = 6  # "turned": width and height swap
    data = encoded("JPEG", np.zeros((8, 16, 3), np.uint8), exif=turned.tobytes())
    assert read_picture(data, 8)[1] == (8, 16)
    with pytest.raises(ValueError, match="8 bits"):
        read_picture(encoded("PNG", np.zeros((8, 8), np.uint16)), 8)
