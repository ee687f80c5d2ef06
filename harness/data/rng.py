"""Randomness as a function: every draw is determined by (seed, epoch, image, stream, position in the stream).

A generator with a state would make a draw depend on who drew before it, hence on the number of devices, on the
order of the batch and on where a run was interrupted. Here a draw is a hash (the finaliser of SplitMix64; Steele,
Lea and Flood, "Fast splittable pseudorandom number generators", 2014) of what it belongs to. Integer arithmetic
modulo 2^64 is the same everywhere, so a CPU, a GPU and every slicing of a batch see the same numbers.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from harness.data.ops.numba_cache import arrays, suits


def signed(value: int) -> int:
    """``value`` modulo 2^64 as torch's int64 holds it."""
    return (value + 2**63) % 2**64 - 2**63


STEP = signed(0x9E3779B97F4A7C15)
FACTORS = (signed(0xBF58476D1CE4E5B9), signed(0x94D049BB133111EB))


def shifted(x: Tensor, by: int) -> Tensor:
    """Logical shift to the right (torch's own keeps the sign)."""
    return (x >> by).bitwise_and_((1 << (64 - by)) - 1)


def mixed(x: Tensor) -> Tensor:
    """A bijection of int64 whose every output bit depends on every input bit."""
    x = (x ^ shifted(x, 30)).mul_(FACTORS[0])
    x ^= shifted(x, 27)
    x *= FACTORS[1]
    return x.bitwise_xor_(shifted(x, 31))


class ImageRng:
    """An independent stream of random numbers for each image of a batch.

    ``images`` int64 [B]: the images' places in their data set. All draws have B as their first dimension and lie
    on ``device``; drawing advances the streams of all B images alike. ``child`` starts new streams that depend on
    nothing drawn so far, so an operator's numbers do not change when another operator is added or removed.
    """

    def __init__(self, *, seed: int, epoch: int, images: Tensor, device: torch.device | str | None = None) -> None:
        run = mixed(mixed(torch.tensor([signed(seed)])) + signed(epoch * STEP))
        self.keys = mixed(run + images.to("cpu", torch.int64) * STEP).to(device or "cpu", non_blocking=True)
        self.drawn = 0

    def _with(self, keys: Tensor) -> ImageRng:
        other = object.__new__(ImageRng)
        other.keys, other.drawn = keys, 0
        return other

    def __len__(self) -> int:
        """B."""
        return len(self.keys)

    @classmethod
    def joined(cls, parts: Sequence[ImageRng]) -> ImageRng:
        """The streams of all parts, from their beginning, as those of one larger batch."""
        return parts[0]._with(torch.cat([one.keys for one in parts]))

    def child(self, name: str) -> ImageRng:
        """The streams called ``name`` beneath these; equal names give equal streams."""
        code = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little", signed=True)
        return self._with(mixed(self.keys ^ code))

    def cut(self, count: int) -> list[ImageRng]:
        """The streams, from their beginning, of ``count`` consecutive parts of the batch."""
        return [self._with(keys) for keys in self.keys.chunk(count)]

    def to(self, device: torch.device | str) -> ImageRng:
        """The same streams, from their beginning, drawn on ``device``."""
        return self._with(self.keys.to(device, non_blocking=True))

    def bits(self, *shape: int) -> Tensor:
        """int64 [B, *shape], all 64 bits random."""
        count = math.prod(shape)
        first = self.drawn + 1
        self.drawn += count
        if kernels := suits(self.keys):
            out = torch.empty(len(self.keys), count, dtype=torch.int64)
            kernels.bits(*arrays(self.keys), first, *arrays(out))
            return out.view(-1, *shape)
        places = torch.arange(first, first + count, device=self.keys.device) * STEP
        return mixed(self.keys[:, None] + places).view(-1, *shape)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """float32 [B, *shape] in [low, high), in 2^24 steps."""
        return shifted(self.bits(*shape), 40).to(torch.float32).mul_((high - low) * 2.0**-24).add_(low)

    def bernoulli(self, p: float) -> Tensor:
        """bool [B], true with probability ``p``; exact at 0 and 1."""
        return self.uniform(0.0, 1.0) < p

    def integers(self, n: int | Tensor, *shape: int) -> Tensor:
        """int64 [B, *shape] in 0..n-1; ``n`` (below 2^31) may differ by image, then it broadcasts to the shape."""
        return (shifted(self.bits(*shape), 33) * n) >> 31

    def normal(self, *shape: int) -> Tensor:
        """float32 [B, *shape], standard normal (Box-Muller: both numbers of each pair are used)."""
        count = math.prod(shape)
        bits = self.bits((count + 1) // 2)
        # 1 - u lies in (0, 1], so the logarithm is finite.
        radius = shifted(bits, 40).to(torch.float32).mul_(-(2.0**-24)).add_(1.0).log_().mul_(-2.0).sqrt_()
        angle = (bits & 0xFFFFFF).to(torch.float32).mul_(2.0**-24 * 2.0 * math.pi)
        pairs = torch.cat([radius * angle.cos(), radius.mul_(angle.sin_())], dim=1)
        return pairs[:, :count].reshape(-1, *shape)

    def permutation(self, n: int) -> Tensor:
        """int64 [B, n]: each row an order of 0..n-1, all orders equally likely."""
        return self.bits(n).argsort(dim=1, stable=True)
