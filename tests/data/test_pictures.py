"""Every mode in every container: the value that numpy says, or a refusal that names the file."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness.config.errors import SpecError
from harness.data import pictures
from harness.data.check import examine

Array = np.ndarray
DRAW = np.random.default_rng(0)
GRAY = DRAW.integers(0, 256, (9, 7), dtype=np.uint8)
COLOR = DRAW.integers(0, 256, (9, 7, 3), dtype=np.uint8)
ALPHA = DRAW.choice(np.array([0, 1, 77, 128, 254, 255], dtype=np.uint8), (9, 7))


def saved(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def read(path: Path) -> Array:
    image = pictures.rgb(path, pictures.opened(path))
    assert image.mode == "RGB"
    return np.asarray(image)


def threefold(gray: Array) -> Array:
    return np.repeat(gray[..., None], 3, axis=2)


def on_white(color: Array, alpha: Array) -> Array:
    share = alpha.astype(np.float64)[..., None] / 255
    return np.floor(color * share + 255 * (1 - share) + 0.5).astype(np.uint8)


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(values: Array, kind: int, depth: int, extra: bytes = b"") -> bytes:
    """A PNG of whole samples, [H, W] or [H, W, C]; ``kind`` as the format numbers them."""
    rows = values.astype(">u2" if depth == 16 else "u1").reshape(len(values), -1)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], depth, kind, 0, 0, 0)
    content = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", content) + chunk(b"IEND", b"")


WIDE = (GRAY.astype(np.uint16) * 257) ^ DRAW.integers(0, 128, GRAY.shape, dtype=np.uint16)
SCALED = threefold(np.floor(WIDE / 257 + 0.5).astype(np.uint8))
PALETTE = DRAW.integers(0, 256, (8, 3), dtype=np.uint8)
PLACES = DRAW.integers(0, 8, (9, 7), dtype=np.uint8)
CLEAR = bytes([255, 0, 128, 255, 255, 9, 255, 255])


def palette() -> Image.Image:
    image = Image.fromarray(PLACES, "L").convert("P")
    image.putdata(PLACES.flatten().tolist())
    image.putpalette(PALETTE.flatten().tolist())
    return image


def values(tmp: Path) -> Iterator[tuple[str, Path, Array]]:
    """(case, file, the pixels that it has)."""
    for suffix in ("png", "bmp", "ppm", "webp"):
        options: dict[str, Any] = {"lossless": True} if suffix == "webp" else {}
        yield f"RGB {suffix}", saved(tmp / f"rgb.{suffix}", Image.fromarray(COLOR), **options), COLOR
    for suffix in ("png", "bmp", "ppm"):
        yield f"L {suffix}", saved(tmp / f"l.{suffix}", Image.fromarray(GRAY)), threefold(GRAY)
        bits = Image.fromarray(GRAY > 99)
        yield f"1 {suffix}", saved(tmp / f"1.{suffix}", bits), threefold(255 * (GRAY > 99)).astype(np.uint8)
    yield "upper case", saved(tmp / "rgb.PNG", Image.fromarray(COLOR), format="PNG"), COLOR
    yield "P", saved(tmp / "p.png", palette()), PALETTE[PLACES]
    yield "I;16 png", saved(tmp / "i16.png", Image.fromarray(WIDE)), SCALED
    exact = GRAY.astype(np.uint16) * 257
    yield "I;16 png, the issue's", saved(tmp / "i257.png", Image.fromarray(exact)), threefold(GRAY)
    yield "I;16B tiff within .png", saved(tmp / "b.png", Image.fromarray(WIDE.astype(">u2")), format="TIFF"), SCALED
    yield "I ppm", saved(tmp / "i16.ppm", Image.fromarray(WIDE), format="PPM"), SCALED
    (tmp / "12.ppm").write_bytes(b"P5 2 1 4095\n" + struct.pack(">HH", 4095, 1024))
    yield "12 bits", tmp / "12.ppm", threefold(np.array([[255, 64]], dtype=np.uint8))
    color16 = COLOR.astype(np.uint16) * 257
    (tmp / "c16.png").write_bytes(png(color16, 2, 16))
    yield "16-bit color", tmp / "c16.png", COLOR
    both = np.concatenate([WIDE[..., None] // 256 * 257, ALPHA[..., None].astype(np.uint16) * 257], axis=2)
    (tmp / "la16.png").write_bytes(png(both, 4, 16))
    yield "16-bit LA", tmp / "la16.png", on_white(threefold(WIDE // 256), ALPHA)
    (tmp / "key16.png").write_bytes(png(WIDE, 0, 16, chunk(b"tRNS", struct.pack(">H", int(WIDE[3, 3])))))
    yield "16-bit key", tmp / "key16.png", np.where(threefold(np.equal(WIDE, WIDE[3, 3])), 255, SCALED)
    rgba = Image.fromarray(np.concatenate([COLOR, ALPHA[..., None]], axis=2))
    for suffix in ("png", "webp"):
        options = {"lossless": True, "exact": True} if suffix == "webp" else {}
        yield f"RGBA {suffix}", saved(tmp / f"rgba.{suffix}", rgba, **options), on_white(COLOR, ALPHA)
    la = Image.fromarray(np.stack([GRAY, ALPHA], axis=2), "LA")
    yield "LA", saved(tmp / "la.png", la), on_white(threefold(GRAY), ALPHA)
    opaque = Image.fromarray(np.concatenate([COLOR, np.full((9, 7, 1), 255, np.uint8)], axis=2))
    yield "opaque RGBA", saved(tmp / "opaque.png", opaque), COLOR
    alpha = np.frombuffer(CLEAR, np.uint8)[PLACES]
    yield "P with alphas", saved(tmp / "pa.png", palette(), transparency=CLEAR), on_white(PALETTE[PLACES], alpha)
    one = np.where(PLACES == 3, 0, 255).astype(np.uint8)
    yield "P with a key", saved(tmp / "pk.png", palette(), transparency=3), on_white(PALETTE[PLACES], one)
    key = int(GRAY[0, 0])
    gray_key = saved(tmp / "lk.png", Image.fromarray(GRAY), transparency=key)
    yield "L with a key", gray_key, np.where(threefold(np.equal(GRAY, key)), 255, threefold(GRAY)).astype(np.uint8)
    hit = np.equal(COLOR, COLOR[2, 2]).all(2)
    color_key = saved(tmp / "rk.png", Image.fromarray(COLOR), transparency=tuple(map(int, COLOR[2, 2])))
    yield "RGB with a key", color_key, np.where(threefold(hit), 255, COLOR).astype(np.uint8)
    frames = [Image.fromarray(COLOR), Image.fromarray(255 - COLOR)]
    for suffix in ("png", "webp"):
        options = {"lossless": True} if suffix == "webp" else {}
        moving = saved(tmp / f"moving.{suffix}", frames[0], save_all=True, append_images=frames[1:], **options)
        yield f"animated {suffix}", moving, COLOR
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = saved(tmp / "turned.png", Image.fromarray(COLOR), exif=exif)
    yield "turned by the camera: as stored", turned, COLOR
    cmyk = Image.fromarray(np.tile(np.array([0, 255, 255, 0], np.uint8), (16, 16, 1)), "CMYK")
    red = np.tile(np.array([255, 0, 0], np.uint8), (16, 16, 1))
    yield "CMYK", saved(tmp / "cmyk.jpg", cmyk, quality=100), red
    yield (
        "YCbCr",
        saved(tmp / "flat.jpg", Image.new("YCbCr", (8, 8), (90, 128, 128)), quality=100),
        np.full((8, 8, 3), 90, np.uint8),
    )
    yield (
        "PA",
        saved(tmp / "pa2.png", palette().convert("PA"), format="TIFF"),
        PALETTE[PLACES],
    )


def test_every_mode_has_the_value_that_numpy_says(tmp_path: Path) -> None:
    cases = list(values(tmp_path))
    wrong = {case: read(path)[:2].tolist() for case, path, right in cases if not np.array_equal(read(path), right)}
    assert len(cases) > 30 and not wrong


def floats() -> bytes:
    return b"Pf 2 1 -1.0\n" + struct.pack("<ff", 0.5, 1.0)


def tiff(image: Image.Image) -> bytes:
    held = io.BytesIO()
    image.save(held, "TIFF")
    return held.getvalue()


def png_of(image: Image.Image) -> bytes:
    held = io.BytesIO()
    image.save(held, "PNG")
    return held.getvalue()


REFUSED = {
    "floats": (floats(), "mode F"),
    "32-bit integers": (tiff(Image.fromarray(WIDE.astype(np.int32))), r"mode I \(TIFF\)"),
    "nothing to see": (
        png_of(Image.new("RGBA", (4, 4), (200, 10, 10, 0))),
        "mode RGBA, and every pixel is transparent",
    ),
    "nothing to see in gray": (png_of(Image.new("LA", (4, 4), (9, 0))), "mode LA, and every pixel"),
    "empty": (b"", "empty"),
    "a page": (b"<html>404</html>", "none of JPEG"),
    "a program": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "none of JPEG"),
    "no number": (b"P6 4 x 255\n", "invalid literal"),
    "no range": (b"P6 4 4 0\n", "maxval"),
    "half a header": (b"P6 4 4", "cannot be read"),
    "no pixels": (b"P6 4 4 255\nabc", "truncated"),
    "text for numbers": (b"P3 1 1 255\n1 a 0", "invalid literal"),
    "truncated": (png_of(Image.fromarray(COLOR))[:-60], "cannot be read"),
    "damaged": (
        png_of(Image.fromarray(COLOR))[:80] + b"\0" * 9 + png_of(Image.fromarray(COLOR))[89:],
        "cannot be read",
    ),
    "a line": (b"P5 2000 1 255\n" + bytes(2000), "2000 x 1 pixels"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_names_the_file_and_the_mode(tmp_path: Path, case: str) -> None:
    content, said = REFUSED[case]
    path = tmp_path / "wörd\n\udcff.png"
    path.write_bytes(content)
    with pytest.raises(SpecError, match=said) as caught:
        read(path)
    assert str(caught.value).startswith(f"{tmp_path}/wörd\\n\\xff.png ")  # one line that every log can hold
    assert examine(path, decode=True).refused == str(caught.value)


def test_a_fair_scan_is_read_and_a_larger_one_refused_by_its_header(tmp_path: Path) -> None:
    """20 000 x 10 000 pixels, which Pillow alone takes for an attack; of the larger one no pixel is there at all."""
    path = tmp_path / "scan.ppm"
    path.write_bytes(b"P4 20000 10000\n" + b"\xaa" * (2500 * 10000))
    assert pictures.opened(path).size == (20000, 10000) and not examine(path).refused
    path.write_bytes(b"P5 40000 20000 255\n")
    with pytest.raises(SpecError, match=r"scan\.ppm has 40000 x 20000 pixels, .* 2 GiB .*shrink it once"):
        pictures.opened(path)
    assert "shrink it once" in examine(path).refused


@pytest.mark.parametrize("seed", range(12))
def test_damage_is_a_picture_or_a_refusal_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Bytes changed, cut out and cut off; a damaged header may claim any size, so that less is allowed here."""
    monkeypatch.setattr(pictures, "MOST_PIXELS", 1 << 20)
    luck = random.Random(seed)
    sound = [path for _, path, _ in values(tmp_path)]
    outcomes = set()
    for path in sound:
        content = bytearray(path.read_bytes())
        for _ in range(luck.choice((0, 1, 3, 20))):
            content[luck.randrange(len(content))] = luck.randrange(256)
        start, length = luck.randrange(len(content)), luck.choice((0, 0, 1, 30))
        del content[start : start + length]
        harmed = tmp_path / f"harmed{path.suffix}"
        harmed.write_bytes(content[: luck.choice((len(content), luck.randrange(len(content) + 1)))])
        try:
            outcomes.add(read(harmed).ndim)
        except SpecError as error:
            assert str(harmed) in str(error)
            outcomes.add(0)
        examine(harmed)
    assert 0 in outcomes and outcomes <= {0, 3}
