"""What an encoder is: images -> h and, where a network has them, tokens and feature maps before pooling."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

from torch import Tensor, nn

from harness.config.errors import Complaint, SpecError
from harness.models.norm import Norm


class Encoder(nn.Module, ABC):
    """A network f: images [N, C, H, W] -> h [N, ``out_dim``].

    ``depth`` and :meth:`depth_of` say how deep a parameter lies, for learning rates that decay from layer to layer
    (BEiT, MAE): 0 is what meets the image (stem, patch embedding, positions, class and mask token), 1 to ``depth`` are
    the blocks or stages, and ``depth + 1`` is what follows the last of them, as heads do. The rate of a parameter is
    the peak times decay to the power ``depth + 1 - depth_of(name)``.
    """

    out_dim: int
    depth: int
    class_tokens: int = 0
    """How many of :meth:`tokens` stand before those of the patches, from position 0 on."""

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """h [N, ``out_dim``] of images [N, C, H, W]."""

    @abstractmethod
    def depth_of(self, name: str) -> int:
        """0 to ``depth + 1``: where the parameter of this name (as in ``named_parameters``) lies."""

    def tokens(self, images: Tensor, keep: Tensor | None = None, masked: Tensor | None = None) -> Tensor:
        """[N, ``class_tokens`` + P, D]: what h is taken from, one vector per patch (row by row) and class token.

        ``keep`` int64 [N, K]: the network sees these patches alone, in this order, each at its own position (MAE); K
        takes the place of P. ``masked`` bool [N, P]: there the mask token stands for the patch (iBOT); see
        :meth:`add_mask_token`. Raises :class:`SpecError` where a network has no such thing.
        """
        raise refused(f"{self._called()} has no tokens: a method that needs them takes another encoder, such as vit")

    def add_mask_token(self) -> None:
        """Learn what stands for masked patches; a method that masks calls this when it is built, once.

        Without it there is no such parameter, which would get no gradient from any other method.
        """
        raise refused(f"{self._called()} has no mask token: a method that masks takes another encoder, such as vit")

    def maps(self, images: Tensor) -> Tensor:
        """[N, D, h, w]: the feature maps before pooling. Raises :class:`SpecError` where a network has none."""
        raise refused(f"{self._called()} has no feature maps: take another encoder, such as resnet18")

    def _called(self) -> str:
        return f"a {type(self).__name__}"


def refused(what: str) -> SpecError:
    """The complaint of an encoder, at the place where a specification names it."""
    return SpecError([Complaint("encoder", what)])


class EncoderSpec(Protocol):
    """The component: a frozen dataclass."""

    def build(self, norm: Norm, image_size: int = 32, channels: int = 3) -> Encoder:
        """A freshly initialised network (torch's global generator) for [N, ``channels``, ``image_size``, the same].

        Raises :class:`SpecError` where the network cannot be built for such images.
        """
        ...
