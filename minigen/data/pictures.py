"""One picture's bytes to pixels: decoded, turned upright, cropped to a square, resized."""

import contextlib
import io
import threading

import numpy as np
from PIL import Image

from minigen.errors import first_line

KERNELS = {
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "box": Image.Resampling.BOX,
}
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF", "HEIF", "JPEG2000")
TURNS = {  # EXIF's orientation, and what turns it upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
HEIC = (b"heic", b"heix", b"hevc", b"mif1", b"msf1")
LARGE = 2**24  # pixels; pictures with more are decoded one at a time, however many the threads
one_at_a_time = threading.Lock()


def read_picture(
    data: bytes, size: int, kernel: str = "lanczos"
) -> tuple[np.ndarray, tuple[int, int]]:
    """Decode, turn upright, centre-crop to a square and resize with antialiasing.

    Pillow's filters widen as they shrink.

    Returns: (uint8 array (size, size, 3), (width, height) before).
    Raises: ValueError with the reason it cannot, whatever the decoder raised.
    """
    if not data:
        raise ValueError("no readable bytes")
    try:
        image = Image.open(io.BytesIO(data), formats=_formats())
        large = image.size[0] * image.size[1] > LARGE
        with one_at_a_time if large else contextlib.nullcontext():
            return _squared(image, size, kernel)
    except Image.UnidentifiedImageError:
        if data[4:8] != b"ftyp" or data[8:12] not in HEIC:
            raise ValueError("not an image") from None
        raise ValueError("a HEIC photograph, which Pillow reads after pip install pillow-heif and "
                         "pillow_heif.register_heif_opener(); or convert it to JPEG") from None
    except _Unusable as e:
        raise ValueError(str(e)) from None
    except Exception as e:  # decoders raise what they like; the reason goes into the manifest
        raise ValueError(f"damaged image ({first_line(e)})") from None


class _Unusable(Exception):
    """A whole image that the course cannot use."""


def _formats() -> list[str]:
    Image.init()
    return [f for f in FORMATS if f in Image.OPEN]


def _squared(
    image: Image.Image, size: int, kernel: str
) -> tuple[np.ndarray, tuple[int, int]]:
    image.load()
    if image.mode.startswith(("I", "F")):
        raise _Unusable(f"{image.mode} pixels of more than 8 bits: convert it to 8 bits a channel")
    image = _upright(image)
    width, height = image.size
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    image = image.convert("RGB").crop((left, top, left + side, top + side))
    return np.asarray(image.resize((size, size), KERNELS[kernel])), (width, height)


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF data ask, or as it lies where they cannot be read.

    Cameras write odd ones.
    """
    try:
        turn = TURNS.get(image.getexif().get(0x0112, 1))
    except Exception:  # so many ways to be damaged; the pixels are whole
        return image
    return image if turn is None else image.transpose(turn)
