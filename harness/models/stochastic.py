"""Layers that draw random numbers in training, each number a function of (seed, epoch, image, layer): law 8.

Torch's own draw from a generator with a state: what an image meets then depends on its place in the batch, on how many
devices share it, and on where a run was resumed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from harness.config.errors import SpecError
from harness.data.rng import ImageRng


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016): in training, a row of a residual branch is 0 with probability ``p``.

    What stays is divided by ``1 - p`` (unless ``scale`` is false), so that the expectation is the branch itself.
    ``number`` is the layer's place in its encoder and names its streams, so a copy of the encoder draws as the original
    does. Input and output [rows, ...], image-major: the rows of one image are neighbours, each with a draw of its own.
    """

    def __init__(self, p: float, number: int, *, scale: bool = True) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise SpecError(f"drop path: the probability of dropping must lie in [0, 1), not {p:g}")
        self.p, self.number, self.scale = p, number, scale
        self.rng: ImageRng | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Raises :class:`SpecError` in training outside :func:`drawing`, or where the rows are not its images'."""
        if not self.training or self.p == 0:
            return x
        if self.rng is None:
            raise SpecError(
                "drop path: nobody said which images these are; call the network within "
                "harness.models.stochastic.drawing(network, rng), or in evaluation mode"
            )
        if len(x) % len(self.rng):
            raise SpecError(f"drop path: {len(x)} rows are not the views of {len(self.rng)} images")
        # The streams from their beginning: whoever computes this again, as checkpointing does, draws the same.
        draws = self.rng.to(x.device).uniform(0.0, 1.0, len(x) // len(self.rng))
        kept = (draws >= self.p).to(x.dtype).view(-1, *[1] * (x.dim() - 1))
        return x * (kept / (1 - self.p) if self.scale else kept)

    def extra_repr(self) -> str:
        return f"{self.p:g}, number={self.number}"


@contextmanager
def drawing(module: nn.Module, rng: ImageRng) -> Iterator[None]:
    """Within, the random layers of ``module`` draw from the streams of these images, whose rows they get.

    The rows of a forward pass are V views of every image, image-major (``V * len(rng)`` in all, any V). Every forward
    pass within gives the same row the same draws; one that should not gets another child of the streams. What is
    recomputed in the backward pass (``torch.utils.checkpoint``) must be entered again there: this goes *inside* the
    function that is checkpointed.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, DropPath)]
    before = [layer.rng for layer in layers]
    for layer in layers:
        layer.rng = rng.child(f"drop path {layer.number}")
    try:
        yield
    finally:
        for layer, one in zip(layers, before, strict=True):
            layer.rng = one
