"""Crop, color distortion, blur, Sobel and the bits of the random numbers on a CPU, compiled image by image (numba).

What the tensor code in ``geometry``, ``color`` and ``rng`` says in some hundred calls over a whole batch, each a pass
through memory, is here one loop per image whose pixels stay in the cache: 4 to 8 times as fast for 32x32 images. That
code remains what runs on a GPU and where numba is not installed, and it is the oracle in the tests; the two agree to
float32 rounding (sums may be reordered and products fused, so not to the bit), the bits of the random numbers exactly.

Arrays are C-contiguous; images float32 [B, 3, H, W]; nobody checks. Do not import this
module: :func:`harness.data.ops.numba_cache.kernels` loads it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar, cast

import numba
import numpy as np

Array = Any
"""A numpy array in Python; numba's compiler gives it a type of its own."""

F = TypeVar("F", bound=Callable[..., object])

ZERO, ONE, TWO, FOUR, SIX = np.float32(0), np.float32(1), np.float32(2), np.float32(4), np.float32(6)
HALF, THREE_HALVES, FIVE_HALVES = np.float32(0.5), np.float32(1.5), np.float32(2.5)
SIXTH, GREEN, BLUE = np.float32(1 / 6), np.float32(1 / 3), np.float32(2 / 3)
"""Literals would be float64, and with them everything they touch."""
LUMA_R, LUMA_G, LUMA_B = np.float32(0.2989), np.float32(0.587), np.float32(0.114)
TINY = np.float32(1e-12)
HUE = 3
ONE_ON = np.uintp(1)
ROUNDING = {"reassoc", "contract", "nsz"}
"""What LLVM may do to sums: enough to vectorise them. NaN and infinity keep their meaning."""


IMAGES, ROWS, NUMBERS, FLAGS, INDICES = "f4[:,:,:,::1]", "f4[:,::1]", "f4[::1]", "b1[::1]", "i8[:,::1]"
"""Types: images, one row or one number of each image, yes or no, whole numbers."""


def compiled(*signatures: str) -> Callable[[F], F]:
    """To machine code for these types at once (for those it is called with, if none are given); kept on disk."""

    def compile_(function: F) -> F:
        how: dict[str, Any] = {"nogil": True, "fastmath": ROUNDING, "error_model": "numpy"}
        for kept in (True, False):
            with suppress(RuntimeError):  # no folder for the cache: then every process compiles
                return cast(F, numba.njit(list(signatures) or None, cache=kept, **how)(function))
        raise AssertionError("numba compiles without a cache")

    return compile_


@compiled()
def clamp(x: Any) -> Any:
    """Clamp a number to [0, 1]."""
    x = x if x > ZERO else ZERO
    return x if x < ONE else ONE


@compiled(*(f"void({kind}, {ROWS}, {ROWS}, f4, {IMAGES})" for kind in (IMAGES, "u1[:,:,:,::1]")))
def resample(images: Array, vertical: Array, horizontal: Array, full: float, out: Array) -> None:
    """Bilinear interpolation at the grid of ``vertical`` [n, h] x ``horizontal`` [n, w]; ``out`` [n, 3, h, w].

    The i-th is made of image i modulo B. Vertical centers ascend in [0, H - 1]; horizontal ones lie in [0, W - 1];
    H and W are at least 2. ``images``,
    uint8 or float32, go up to ``full``, what comes out to one.
    """
    count, channels, height, width = images.shape
    tall, wide = vertical.shape[1], horizontal.shape[1]
    left = np.empty(wide, np.uintp)  # without a sign no index is looked at for being negative
    weight = np.empty(wide, np.float32)
    line = np.empty(width, np.float32)
    mixed = np.empty((height, wide), np.float32)
    for i in range(out.shape[0]):
        source = i % count
        for x in range(wide):
            near = min(int(horizontal[i, x]), width - 2)
            left[x] = near
            weight[x] = horizontal[i, x] - np.float32(near)
        first, last = min(int(vertical[i, 0]), height - 2), min(int(vertical[i, tall - 1]) + 1, height - 1)
        for c in range(channels):
            for y in range(first, last + 1):  # fewer rows than come out, since a crop is enlarged
                for x in range(width):
                    line[x] = np.float32(images[source, c, y, x]) / full
                for x in range(wide):
                    value = line[left[x]]
                    mixed[y, x] = value + weight[x] * (line[left[x] + ONE_ON] - value)
            for y in range(tall):
                above = min(int(vertical[i, y]), height - 2)
                share = vertical[i, y] - np.float32(above)
                for x in range(wide):
                    value = mixed[above, x]
                    out[i, c, y, x] = clamp(value + share * (mixed[above + 1, x] - value))


@compiled()
def taps_of(center: Any, first: int, last: int, scale: Any, cubic: bool, weights: Array) -> tuple[int, int]:
    """Of which pixels, from the first returned to before the second, a new one is made: ``geometry.resizing``.

    Their weights, which sum to one, go to the head of ``weights``.
    """
    reach = (TWO if cubic else ONE) * scale
    begin, end = max(first, int(np.ceil(center - reach))), min(last, int(np.floor(center + reach))) + 1
    total = ZERO
    for k in range(begin, end):
        x = abs(np.float32(k) - center) / scale
        weight = clamp(ONE - x)
        if cubic and x < ONE:
            weight = (THREE_HALVES * x - FIVE_HALVES) * x * x + ONE
        elif cubic and x < TWO:
            weight = ((FIVE_HALVES - HALF * x) * x - FOUR) * x + TWO
        weights[k - begin] = weight
        total += weight
    for k in range(end - begin):
        weights[k] /= total
    return begin, end


@compiled(*(f"void({kind}, {ROWS}, {ROWS}, {INDICES}, b1, f4, {IMAGES})" for kind in (IMAGES, "u1[:,:,:,::1]")))
def resize(
    images: Array, vertical: Array, horizontal: Array, boxes: Array, cubic: bool, full: float, out: Array
) -> None:
    """Boxes (top, left, height, width) [n, 4] resized by any factor, antialiased; ``out`` [n, 3, h, w].

    New pixels lie at ``vertical`` [n, h] x ``horizontal`` [n, w]. The i-th is cut from image i modulo B. ``images``,
    uint8 or float32, go up to ``full``, what comes out to one.
    """
    count, channels, height, width = images.shape
    tall, wide = out.shape[2], out.shape[3]
    weights_down, weights_across = np.empty((tall, height), np.float32), np.empty((wide, width), np.float32)
    down, across = np.empty((tall, 2), np.int64), np.empty((wide, 2), np.int64)
    line = np.empty(width, np.float32)
    mixed = np.empty((height, wide), np.float32)
    for i in range(out.shape[0]):
        source = i % count
        top, left, box_height, box_width = boxes[i, 0], boxes[i, 1], boxes[i, 2], boxes[i, 3]
        scale = max(ONE, np.float32(box_height) / np.float32(tall))
        for y in range(tall):
            taken = taps_of(vertical[i, y], top, top + box_height - 1, scale, cubic, weights_down[y])
            down[y, 0], down[y, 1] = taken
        scale = max(ONE, np.float32(box_width) / np.float32(wide))
        for x in range(wide):
            taken = taps_of(horizontal[i, x], left, left + box_width - 1, scale, cubic, weights_across[x])
            across[x, 0], across[x, 1] = taken
        for c in range(channels):
            for y in range(top, top + box_height):
                for x in range(left, left + box_width):
                    line[x] = np.float32(images[source, c, y, x]) / full
                for x in range(wide):
                    value = ZERO
                    for k in range(across[x, 0], across[x, 1]):
                        value += weights_across[x, k - across[x, 0]] * line[k]
                    mixed[y, x] = value
            for y in range(tall):
                for x in range(wide):
                    out[i, c, y, x] = ZERO
                for k in range(down[y, 0], down[y, 1]):
                    weight = weights_down[y, k - down[y, 0]]
                    for x in range(wide):
                        out[i, c, y, x] += weight * mixed[k, x]
                for x in range(wide):
                    out[i, c, y, x] = clamp(out[i, c, y, x])


@compiled()
def channel_at(away: Any, low: Any, chroma: Any) -> Any:
    """Of a channel whose corner of the hexagon of hues is ``away`` turns from the color's hue."""
    return low + clamp(TWO - SIX * abs(away - np.rint(away))) * chroma


@compiled()
def turn_hue(red: Array, green: Array, blue: Array, turn: Any) -> None:
    """See :func:`harness.data.ops.color.turn_hue_`."""
    for x in range(red.size):
        r, g, b = red[x], green[x], blue[x]
        low, high = (r, g) if r < g else (g, r)
        low = low if low < b else b
        high = high if high > b else b
        chroma = high - low
        hue = (g + b - r - low) / (chroma if chroma > TINY else TINY) + ONE
        hue = (hue if g >= b else -hue) * SIXTH
        red[x] = channel_at(turn + hue, low, chroma)
        green[x] = channel_at(turn - GREEN + hue, low, chroma)
        blue[x] = channel_at(turn - BLUE + hue, low, chroma)


@compiled()
def affine(red: Array, green: Array, blue: Array, step: Array) -> None:
    """See :func:`harness.data.ops.color.affine_`; ``step``: scale, tint, pull, shift."""
    scale, tint, pull, constant = step[0], step[1], step[2], step[3]
    if pull != ZERO:
        total = ZERO
        for x in range(red.size):
            total += LUMA_R * red[x] + LUMA_G * green[x] + LUMA_B * blue[x]
        constant += pull * (total / np.float32(red.size))
    for x in range(red.size):
        plane = tint * (LUMA_R * red[x] + LUMA_G * green[x] + LUMA_B * blue[x]) + constant
        red[x] = clamp(scale * red[x] + plane)
        green[x] = clamp(scale * green[x] + plane)
        blue[x] = clamp(scale * blue[x] + plane)


@compiled(f"void({IMAGES}, f4[:,:,::1], {INDICES}, {NUMBERS}, {FLAGS}, {FLAGS}, {IMAGES})")
def distort(images: Array, steps: Array, order: Array, turn: Array, jittered: Array, grayed: Array, out: Array) -> None:
    """Color distortion: each image's operators in its ``order`` [B, 4], then gray, each where asked.

    ``steps`` [B, 3, 4] are those of :func:`harness.data.ops.color.affine_steps`; ``turn`` [B] in turns of the circle.
    """
    count = images.shape[0]
    pixels = images.shape[2] * images.shape[3]
    for i in range(count):
        source, target = images[i].reshape(3 * pixels), out[i].reshape(3 * pixels)
        for x in range(3 * pixels):
            target[x] = source[x]
        red, green, blue = target[:pixels], target[pixels : 2 * pixels], target[2 * pixels :]
        if jittered[i]:
            done = 0
            for place in range(4):
                if order[i, place] == HUE:
                    turn_hue(red, green, blue, turn[i])
                else:
                    affine(red, green, blue, steps[i, done])
                    done += 1
        if grayed[i]:
            for x in range(pixels):
                plane = LUMA_R * red[x] + LUMA_G * green[x] + LUMA_B * blue[x]
                red[x] = plane
                green[x] = plane
                blue[x] = plane


@compiled()
def mirrored(place: int, length: int) -> int:
    """An index beyond a border, reflected without repeating the edge: -1 -> 1, length -> length - 2."""
    place = abs(place)
    return (length - 1) - abs((length - 1) - place)


@compiled(f"void({IMAGES}, {ROWS}, {IMAGES})")
def blur(images: Array, taps: Array, out: Array) -> None:
    """Each image with its symmetric ``taps`` [B, n], n odd, along both axes; borders reflect (n // 2 < H, W)."""
    count, channels, height, width = images.shape
    size = taps.shape[1]
    reach = size // 2
    padded = np.empty(width + 2 * reach, np.float32)
    plane = np.empty((height, width), np.float32)
    for i in range(count):
        for c in range(channels):
            for y in range(height):
                for x in range(width):
                    padded[reach + x] = images[i, c, y, x]
                for k in range(reach):
                    padded[k] = images[i, c, y, mirrored(k - reach, width)]
                    padded[reach + width + k] = images[i, c, y, mirrored(width + k, width)]
                for x in range(width):
                    plane[y, x] = taps[i, 0] * padded[x]
                for k in range(1, size):
                    for x in range(width):
                        plane[y, x] += taps[i, k] * padded[x + k]
            for y in range(height):
                for x in range(width):
                    out[i, c, y, x] = ZERO
                for k in range(size):
                    source = mirrored(y + k - reach, height)
                    for x in range(width):
                        out[i, c, y, x] += taps[i, k] * plane[source, x]
                for x in range(width):
                    out[i, c, y, x] = clamp(out[i, c, y, x])


@compiled(f"void({IMAGES}, f4, f4, {IMAGES})")
def sobel(images: Array, gain: float, offset: float, out: Array) -> None:
    """``offset + gain * (Gx + Gy)``, clamped; borders repeat the edge."""
    count, channels, height, width = images.shape
    for i in range(count):
        for c in range(channels):
            for y in range(height):
                up, down = max(y - 1, 0), min(y + 1, height - 1)
                for x in range(width):
                    left, right = max(x - 1, 0), min(x + 1, width - 1)
                    response = TWO * (images[i, c, down, right] - images[i, c, up, left])
                    response += TWO * (images[i, c, y, right] - images[i, c, y, left])
                    response += TWO * (images[i, c, down, x] - images[i, c, up, x])
                    out[i, c, y, x] = clamp(offset + gain * response)


@compiled(f"void(i8[::1], i8, {INDICES})")
def bits(keys: Array, first: int, out: Array) -> None:
    """``out`` [B, n] int64: numbers ``first``, ``first + 1``, ... of each stream (:meth:`ImageRng.bits`)."""
    for i in range(out.shape[0]):
        key = np.uint64(keys[i])
        for k in range(out.shape[1]):
            x = key + np.uint64(first + k) * np.uint64(0x9E3779B97F4A7C15)
            x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            out[i, k] = np.int64(x ^ (x >> np.uint64(31)))
