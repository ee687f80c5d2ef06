"""Batch normalisation whose statistics are defined by groups of images, never by devices (design, law 8)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from harness import distributed


@dataclass(frozen=True, kw_only=True)
class Norm:
    """Which images share batch statistics, and how they are tracked.

    ``groups``: the global batch is cut into this many groups of consecutive images (all views of an image in
    the same group), each normalised by its own statistics. ``1`` is the paper's global BN (section 2.2);
    ``32`` is what 32 unsynchronised replicas compute, on however many devices there are.
    ``momentum`` (torch's convention: the weight of the *new* value; the official code's decay is 0.9) and
    ``eps`` follow resnet.py and run.py of google-research/simclr.
    """

    groups: Annotated[int, Field(ge=1)] = 1
    momentum: Annotated[float, Field(gt=0, le=1)] = 0.1
    eps: Annotated[float, Field(gt=0)] = 1e-5

    def build(self, channels: int, *, affine_bias: bool = True, affine: bool = True) -> BatchNorm:
        """A layer for [N, channels] or [N, channels, H, W].

        ``affine_bias=False`` leaves out beta; ``affine=False`` gamma too, which then is 1 and no parameter that learns.
        """
        return BatchNorm(channels, self, affine_bias=affine_bias and affine, affine_weight=affine)


class BatchNorm(nn.Module):
    """Batch norm over groups of consecutive rows; for one group on one device it is ``F.batch_norm``.

    Input and output [N, C] or [N, C, H, W], where N rows are this rank's slice of the batch in image-major
    order. Parameters and buffers have torch's names, so a state loads into ``nn.BatchNorm2d``. Running
    statistics move to the mean over groups of mean and unbiased variance, and are what evaluation mode uses.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, norm: Norm, *, affine_bias: bool = True, affine_weight: bool = True) -> None:
        super().__init__()
        self.norm = norm
        self.passes = 1  # see in_passes
        self.noted: Tensor | None = None
        self.weight = nn.Parameter(torch.ones(channels), requires_grad=affine_weight)
        self.bias = nn.Parameter(torch.zeros(channels)) if affine_bias else None
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x``. Raises ``ValueError`` where rows, ranks or passes do not divide into the groups."""
        world, groups = distributed.world(), self.norm.groups
        if not self.training or groups == world == 1:
            return self._batch_norm(x, self.running_mean, self.running_var, self.norm.momentum)
        if groups % world and world % groups:
            raise ValueError(f"norm.groups: {groups} groups cannot be laid out on {world} processes")
        if groups % (world * self.passes) and self.passes > 1:
            raise ValueError(f"norm.groups: {groups} groups cannot be cut into {self.passes} passes each on {world}")
        if groups < world:
            return self._shared_between_ranks(x, world // groups)
        return self._groups_of_this_rank(x, groups // world // self.passes)

    def _batch_norm(self, x: Tensor, mean: Tensor, var: Tensor, momentum: float) -> Tensor:
        return F.batch_norm(x, mean, var, self.weight, self.bias, self.training, momentum, self.norm.eps)

    def _groups_of_this_rank(self, x: Tensor, groups: int) -> Tensor:
        if len(x) % groups:
            raise ValueError(f"norm.groups: {len(x)} rows do not divide into {groups} groups")
        # With momentum 1 the kernel leaves the statistics of the group in the buffers it is given (plus 0 times what
        # they held, hence zeros).
        means, variances = x.new_zeros(2, groups, x.shape[1], dtype=self.running_mean.dtype).unbind()
        parts = zip(x.chunk(groups), means, variances, strict=True)
        normalised = torch.cat([self._batch_norm(part, mean, var, 1.0) for part, mean, var in parts])
        self._track(means.mean(0), variances.mean(0))
        return normalised

    def _shared_between_ranks(self, x: Tensor, ranks: int) -> Tensor:
        """One group spans ``ranks`` ranks. Two passes, mean before variance, lose no digits to cancellation."""
        over = [dim for dim in range(x.dim()) if dim != 1]
        shape = [1, -1] + [1] * (x.dim() - 2)
        mean = distributed.mean_over_ranks(x.float().mean(over), ranks)
        centred = x.float() - mean.view(shape)
        var = distributed.mean_over_ranks(centred.square().mean(over), ranks)
        count = ranks * x.numel() // x.shape[1]
        self._track(mean.detach(), var.detach() * count / max(count - 1, 1))
        normalised = centred * (torch.rsqrt(var + self.norm.eps) * self.weight).view(shape)
        return (normalised if self.bias is None else normalised + self.bias.view(shape)).to(x.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor) -> None:
        if self.noted is not None:
            self.noted.add_(torch.stack([mean, var, torch.ones_like(mean)]))
            return
        self.running_mean.lerp_(mean, self.norm.momentum)
        self.running_var.lerp_(var, self.norm.momentum)

    @torch.no_grad()
    def _track_noted(self, noted: Tensor) -> None:
        """``noted`` [3, C]: sums of means and variances, and the number of passes, 0 where this layer had none."""
        mean, var, passes = noted
        moved = self.norm.momentum * (passes > 0)
        self.running_mean.lerp_(mean / passes.clamp(min=1), moved)
        self.running_var.lerp_(var / passes.clamp(min=1), moved)

    def ordinary(self) -> nn.Module:
        """torch's layer of the same values, for inputs of any shape: no groups, no other rank to wait for."""
        plain = _Ordinary(len(self.weight), self.norm.eps, self.norm.momentum)
        plain.load_state_dict(self.state_dict(), strict=False)  # all but torch's count of batches
        return plain.to(self.weight.device)

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, {self.norm}, bias={self.bias is not None}"


class _Ordinary(nn.BatchNorm2d):
    """It checks the number of dimensions, on which nothing else depends."""

    def _check_input_dim(self, input: Tensor) -> None:
        del input


@contextmanager
def in_passes(module: nn.Module, passes: int, *, track: bool) -> Iterator[None]:
    """Within, each forward of ``module`` gets one of ``passes`` equal parts of this rank's slice of a batch.

    A part holds whole groups, so it is normalised as it would be among the others. With ``track`` the running
    statistics move at the end, once, by the mean over all groups of the slice, as after one forward of the whole
    slice; without it they stay.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, BatchNorm)]
    # A tensor, not a list: a compiled layer would be compiled anew for every length of the list.
    noted = [layer.running_mean.new_zeros(3, len(layer.running_mean)) for layer in layers]
    for layer, sums in zip(layers, noted, strict=True):
        layer.passes, layer.noted = passes, sums
    try:
        yield
    finally:
        for layer in layers:
            layer.passes, layer.noted = 1, None
    if track:
        for layer, sums in zip(layers, noted, strict=True):
            layer._track_noted(sums)


def groups_of(module: nn.Module) -> int:
    """The largest number of groups of the batch-norm layers of ``module``; 1 where it has none."""
    return max((layer.norm.groups for layer in module.modules() if isinstance(layer, BatchNorm)), default=1)
