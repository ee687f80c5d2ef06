"""Vision transformers (Dosovitskiy et al. 2021) over timm's blocks, as DINO, iBOT, MoCo v3 and MAE train them.

Parameter names are those of timm's ``VisionTransformer`` and of DINO, so a state loads there and back. Initialisation
is that of dino/vision_transformer.py: linear layers, class token and learned positions from a normal of deviation 0.02
truncated at +-2, biases zero, the patch embedding as torch leaves a convolution. (MAE draws linear layers from Xavier's
uniform, and the patch embedding as if it were one of them.)

timm is imported when a network is built: it takes a second, and brings torch's compiler with it.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from harness.config.registry import Examples, encoder
from harness.models.encoder import Encoder, refused
from harness.models.norm import Norm
from harness.models.stochastic import DropPath

Count = Annotated[int, Field(ge=1)]


@encoder("vit")
@dataclass(frozen=True, kw_only=True)
class ViT:
    """Vision transformer; the defaults are ViT-S/16 of DINO: 21.6M parameters at 224 pixels, h of 384.

    ``pool``: h is the class token after the last norm, or (without a class token) the ``mean`` of the patches after it.
    ``positions``: ``learned`` (DINO; at other image sizes interpolated bicubically), or ``sincos``, the fixed 2-D sines
    and cosines of MAE and MoCo v3 (at other sizes computed anew). ``drop_path``: the probability of dropping a residual
    branch of an image, rising linearly from 0 at the first block to this at the last; two draws per block.
    """

    tiny: ClassVar[Examples] = (
        {"patch_size": 8, "width": 16, "depth": 2, "heads": 2},
        {"patch_size": 16},
        {"width": 32},
        {"depth": 1},
        {"heads": 4},
        {"mlp_ratio": 2.0},
        {"pool": "mean"},
        {"positions": "sincos"},
        {"drop_path": 0.5},
    )
    patch_size: Count = 16
    width: Count = 384
    depth: Count = 12
    heads: Count = 6
    mlp_ratio: Annotated[float, Field(gt=0)] = 4.0
    pool: Literal["class", "mean"] = "class"
    positions: Literal["learned", "sincos"] = "learned"
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width: {self.width} channels do not divide into {self.heads} heads")
        if self.positions == "sincos" and self.width % 4:
            raise ValueError(f"width: sincos positions need a multiple of 4 channels, not {self.width}")

    def build(self, norm: Norm, image_size: int = 32, channels: int = 3) -> Transformer:
        """A freshly initialised network (torch's global generator). There is no batch norm in it.

        Raises :class:`SpecError` where images do not divide into patches.
        """
        return Transformer(self, image_size, channels)


class Transformer(Encoder):
    """Patches, positions, blocks, norm, for every image size that ``patch_size`` divides."""

    def __init__(self, spec: ViT, image_size: int, channels: int) -> None:
        super().__init__()
        from timm.models.vision_transformer import Block

        self.spec, self.out_dim, self.depth = spec, spec.width, spec.depth
        self.class_tokens = int(spec.pool == "class")
        self.grid = self._grid_of(image_size, image_size)
        width, patches = spec.width, self.grid[0] * self.grid[1]
        embedding = nn.Conv2d(channels, width, spec.patch_size, spec.patch_size)
        self.patch_embed = nn.Sequential(OrderedDict(proj=embedding))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width)) if self.class_tokens else None
        learned = spec.positions == "learned"
        self.pos_embed = nn.Parameter(torch.zeros(1, self.class_tokens + patches, width)) if learned else None
        self.register_parameter("mask_token", None)
        norm = partial(nn.LayerNorm, eps=1e-6)
        self.blocks = nn.ModuleList(
            Block(width, spec.heads, spec.mlp_ratio, qkv_bias=True, norm_layer=norm) for _ in range(spec.depth)
        )
        for place, block in enumerate(self.blocks):
            p = spec.drop_path * place / max(1, spec.depth - 1)
            if p > 0:
                block.drop_path1, block.drop_path2 = DropPath(p, 2 * place), DropPath(p, 2 * place + 1)
        self.norm = norm(width)
        for drawn in (self.pos_embed, self.cls_token):
            if drawn is not None:
                nn.init.trunc_normal_(drawn, std=0.02)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def add_mask_token(self) -> None:
        """It starts at zero, as iBOT's."""
        self.mask_token = nn.Parameter(torch.zeros(1, 1, self.out_dim, device=self.norm.weight.device))

    def depth_of(self, name: str) -> int:
        """By block; the last norm lies behind the blocks."""
        part, *rest = name.split(".")
        if part == "blocks":
            return 1 + int(rest[0])
        return self.depth + 1 if part == "norm" else 0

    def forward(self, images: Tensor) -> Tensor:
        """The class token, or the mean of the patches."""
        tokens = self.tokens(images)
        return tokens[:, 0] if self.class_tokens else tokens.mean(1)

    def maps(self, images: Tensor) -> Tensor:
        """The patches' tokens in their places, [N, ``out_dim``, H / patch_size, W / patch_size]."""
        patches = self.tokens(images)[:, self.class_tokens :]
        return patches.transpose(1, 2).reshape(len(images), -1, *self._grid_of(*images.shape[2:]))

    def tokens(self, images: Tensor, keep: Tensor | None = None, masked: Tensor | None = None) -> Tensor:
        """After the last norm; see :meth:`Encoder.tokens`. Masking comes before keeping."""
        grid = self._grid_of(*images.shape[2:])
        x = self.patch_embed(images).flatten(2).transpose(1, 2)
        if masked is not None:
            if self.mask_token is None:
                raise refused("nobody called add_mask_token() of this vit when it was built, so it masks nothing")
            x = torch.where(masked[..., None], self.mask_token.to(x.dtype), x)
        first, places = self._positions(grid)
        x = x + places
        if keep is not None:
            x = x.gather(1, keep[..., None].expand(-1, -1, x.shape[2]))
        if first is not None:
            x = torch.cat([first.expand(len(x), -1, -1).to(x.dtype), x], dim=1)
        for block in self.blocks:
            x = block(x)
        normalised: Tensor = self.norm(x)
        return normalised

    def _grid_of(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of patches."""
        size = self.spec.patch_size
        if height % size or width % size:
            raise refused(f"images of {height}x{width} pixels do not divide into patches of {size} (patch_size)")
        return height // size, width // size

    def _positions(self, grid: tuple[int, int]) -> tuple[Tensor | None, Tensor]:
        """What the class token starts as, [1, 1, D], and what is added to the patches, [1, P, D]."""
        if self.pos_embed is None:  # a class token is at no place
            return self.cls_token, sine_cosine(*grid, self.out_dim, self.norm.weight.device)
        first, places = self.pos_embed[:, : self.class_tokens], self.pos_embed[:, self.class_tokens :]
        if grid != self.grid:
            places = resized(self.grid, grid, places.device) @ places
        return None if self.cls_token is None else self.cls_token + first, places


def sine_cosine(rows: int, columns: int, width: int, device: torch.device | None = None) -> Tensor:
    """[1, rows * columns, width]: MAE's fixed positions. The first half of the channels tells the column, the second
    the row; each is sines, then cosines, of the place over 10000^(0 .. 1).
    """
    share = torch.arange(width // 4, dtype=torch.float64, device=device) / (width // 4)

    def waves(places: Tensor) -> Tensor:
        angles = places.flatten()[:, None] * 10000.0**-share
        return torch.cat([angles.sin(), angles.cos()], dim=1)

    axes = [torch.arange(count, dtype=torch.float64, device=device) for count in (rows, columns)]
    down, across = torch.meshgrid(*axes, indexing="ij")
    return torch.cat([waves(across), waves(down)], dim=1).float()[None]


@torch.no_grad()
def resized(old: tuple[int, int], new: tuple[int, int], device: torch.device | None = None) -> Tensor:
    """[P new, P old]: the matrix that interpolates positions bicubically from one grid to another.

    A matrix, because the backward pass of torch's own interpolation adds in no fixed order on a GPU. DINO's gives torch
    a scale (with 0.1 added to guard against rounding) where this gives the size, and so samples places a little off.
    """
    count = old[0] * old[1]
    each = torch.eye(count, device=device).view(1, count, *old)
    return F.interpolate(each, size=new, mode="bicubic", align_corners=False).view(count, -1).T
