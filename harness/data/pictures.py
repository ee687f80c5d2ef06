"""Decode one image file to 8-bit RGB, or refuse it with an error that names it. Covers every mode of Pillow.

Torch-free. What a picture says of itself beside its pixels is not heeded, as in torchvision and as the field's numbers
are made: the orientation tag of a camera (EXIF), color profiles, gamma. Of an animation the first frame is taken.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from harness.config.errors import SpecError
from harness.data.layout import readable

MOST_PIXELS = 2**29
"""Larger pictures are refused: decoded, Pillow holds four bytes a pixel, 2 GiB."""

MOST_RATIO = 1000
"""Of the sides of a picture, the longer to the shorter."""

FORMATS = ("JPEG", "PNG", "PPM", "BMP", "WEBP", "GIF", "TIFF")
"""What is read, whatever a file is called. Other formats of Pillow start programs or have no plain pixels."""

Image.MAX_IMAGE_PIXELS = None
# Pillow's own limit is a third of ours and its exception names no file; ours is checked once a header is read.


@contextmanager
def naming(name: object, what: str = "cannot be read as an image") -> Iterator[None]:
    """Whatever is raised within says which picture it was: :class:`SpecError`, or ``MemoryError`` if it was one.

    Decoders raise what they like: of one kind of damage ``OSError``, of others ``ValueError``, ``SyntaxError``,
    ``struct.error`` and more.
    """
    try:
        yield
    except SpecError:
        raise
    except MemoryError as error:
        raise MemoryError(f"{readable(name)}: no memory left to decode it {error}".rstrip()) from error
    except UnidentifiedImageError as error:
        raise SpecError(f"{readable(name)} {what}: it is none of {', '.join(FORMATS)}") from error
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise SpecError(f"{readable(name)} {what}: {said}") from error


def opened(path: Path) -> Image.Image:
    """The file in memory, its header read, its pixels not yet decoded. Raises as :func:`naming` has it."""
    with naming(path):
        content = path.read_bytes()
        if not content:
            raise ValueError("the file is empty")
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    check_size(path, *image.size)
    check_mode(path, image)
    return image


def check_size(name: object, width: int, height: int) -> None:
    """Raises :class:`SpecError` where a picture is too large, or a line: resized, its long side would be too large."""
    if max(width, height) > MOST_RATIO * min(width, height):
        raise SpecError(
            f"{readable(name)} has {width} x {height} pixels, and the longer side may be at most "
            f"{MOST_RATIO} times: cut it, or remove it"
        )
    if width * height > MOST_PIXELS:
        raise SpecError(
            f"{readable(name)} has {width} x {height} pixels, and more than {MOST_PIXELS:,} would take over "
            f"{4 * MOST_PIXELS >> 30} GiB of memory: shrink it once, to little more than what `resize` asks for"
        )


def check_mode(name: object, image: Image.Image) -> None:
    """Raises :class:`SpecError` where nobody can say which number is white."""
    if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM", None)):
        kind = "floats" if image.mode == "F" else "32-bit integers"
        raise SpecError(
            f"{readable(name)} has mode {image.mode} ({image.format}): {kind} do not say which is white; "
            "save it with 8 or 16 bits"
        )


def rgb(name: object, image: Image.Image) -> Image.Image:
    """Its pixels in mode RGB; ``name`` is for messages.

    Gray of 16 bits is scaled by its range, 65535 to 255 (colors of 16 bits come from Pillow as their upper byte).
    What is transparent is laid on white, so that no color counts that nobody has seen. Raises :class:`SpecError` for
    modes without a range (F, and I but for 16-bit files), for a wholly transparent picture and for damage.
    """
    check_mode(name, image)
    with naming(name):
        if image.mode == "I" or image.mode.startswith("I;16"):
            return _of_16_bits(image).convert("RGB")
        if not image.has_transparency_data:
            return image.convert("RGB")
        colors = image.convert("RGBA")
        alpha = colors.getchannel("A")
        least, most = alpha.getextrema()
        if most == 0:
            raise ValueError(f"mode {image.mode}, and every pixel is transparent")
        if least == 255:
            return colors.convert("RGB")
        paper = Image.new("RGB", image.size, "white")
        paper.paste(colors.convert("RGB"), mask=alpha)
        return paper


def _of_16_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"mode {image.mode} with values from {values.min()} to {values.max()}, not of 16 bits")
    gray = ((values + 128) // 257).astype(np.uint8)
    key = image.info.get("transparency")
    if isinstance(key, int):
        clear = values == key
        if clear.all():
            raise ValueError(f"mode {image.mode}, and every pixel is transparent")
        gray[clear] = 255
    return Image.fromarray(gray)
