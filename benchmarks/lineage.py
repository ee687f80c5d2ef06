"""The methods after SimCLR, each beside lightly's modules for it (part of section b).

Ours is the loop's body with the recipe of ``experiments/lineage.yaml`` at scale ``micro``. lightly's is the example of
its documentation (``examples/pytorch`` of its repository) with the sizes of that recipe: the same encoder, head,
predictor, queue and prototypes, as many views of the same sizes and the same operators, made by its own transforms in
loader workers; a forward pass per view, its loss, its momentum update, SGD. What differs: its examples normalise
colors, and its MoCo neither shuffles keys nor has batch-norm groups (ours has eight), so that ours does more there.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from benchmarks.clock import Contender, Effort, in_turns
from benchmarks.pretraining import EXPERIMENTS, LIGHTLY, Ours, Script, loop, parts_from
from benchmarks.record import OURS, Section, Target, rows_of
from benchmarks.views import pictures
from harness.components import Parts
from harness.config.experiment import load_experiment
from harness.config.grid import expand
from harness.models.norm import Norm

BATCH, STEPS = 256, 4
TINY_BATCH = 16
"""Two images for each of MoCo's eight batch-norm groups."""

TITLES = {"byol": "BYOL", "moco": "MoCo v2", "simsiam": "SimSiam", "dino": "DINO"}
JITTER = {"cj_strength": 0.5, "cj_bright": 0.8, "cj_contrast": 0.8, "cj_sat": 0.8, "cj_hue": 0.2}
"""Of the recipe, in lightly's words; it multiplies the four by the first."""

PLAIN = {"gaussian_blur": 0.0, **JITTER}
MOMENTUM = 0.99


def recipe(method: str, batch: int) -> Parts:
    """The first arm of this method in ``lineage.yaml``: that without an ablation."""
    arms = expand(load_experiment(EXPERIMENTS / "lineage.yaml", "micro"))
    return parts_from(next(arm.tree for arm in arms if method in arm.tree["method"]), batch)


def body(parts: Parts) -> nn.Module:
    """The recipe's encoder with torch's memory order and one group of batch norm, as scripts have it."""
    encoder: nn.Module = parts.encoder.build(Norm())
    return encoder


def frozen(network: nn.Module) -> nn.Module:
    from lightly.models.utils import deactivate_requires_grad

    made = copy.deepcopy(network)
    deactivate_requires_grad(made)
    return made


class BYOL(Script):
    """``examples/pytorch/byol.py``."""

    def __init__(self, parts: Parts) -> None:
        from lightly.loss import NegativeCosineSimilarity
        from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead

        super().__init__()
        head, predictor = parts.head, parts.method.predictor
        self.backbone = body(parts)
        self.projection = BYOLProjectionHead(self.backbone.out_dim, head.hidden_dim, head.out_dim)
        self.prediction = BYOLPredictionHead(head.out_dim, predictor.hidden_dim, predictor.out_dim)
        self.target_backbone, self.target_projection = frozen(self.backbone), frozen(self.projection)
        self.criterion = NegativeCosineSimilarity()

    def loss(self, views: Sequence[Tensor]) -> Tensor:
        from lightly.models.utils import update_momentum

        update_momentum(self.backbone, self.target_backbone, m=MOMENTUM)
        update_momentum(self.projection, self.target_projection, m=MOMENTUM)
        first, second = views
        p1, t1 = self.online(first), self.target(first)
        p2, t2 = self.online(second), self.target(second)
        return cast(Tensor, 0.5 * (self.criterion(p1, t2) + self.criterion(p2, t1)))

    def online(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.prediction(self.projection(self.backbone(images))))

    def target(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.target_projection(self.target_backbone(images)).detach())


class MoCo(Script):
    """``examples/pytorch/moco.py``."""

    def __init__(self, parts: Parts) -> None:
        from lightly.loss import NTXentLoss
        from lightly.models.modules import MoCoProjectionHead

        super().__init__()
        self.backbone = body(parts)
        width = parts.head.hidden_dim or self.backbone.out_dim
        self.projection = MoCoProjectionHead(self.backbone.out_dim, width, parts.head.out_dim)
        self.key_backbone, self.key_projection = frozen(self.backbone), frozen(self.projection)
        bank = (parts.method.queue, parts.head.out_dim)
        self.criterion = NTXentLoss(temperature=parts.method.temperature, memory_bank_size=bank)

    def loss(self, views: Sequence[Tensor]) -> Tensor:
        from lightly.models.utils import update_momentum

        update_momentum(self.backbone, self.key_backbone, m=MOMENTUM)
        update_momentum(self.projection, self.key_projection, m=MOMENTUM)
        first, second = views
        query = self.projection(self.backbone(first))
        key = self.key_projection(self.key_backbone(second)).detach()
        return cast(Tensor, self.criterion(query, key))


class SimSiam(Script):
    """``examples/pytorch/simsiam.py``, with as many layers in the projector as the recipe has."""

    def __init__(self, parts: Parts) -> None:
        from lightly.loss import NegativeCosineSimilarity
        from lightly.models.modules import SimSiamPredictionHead
        from lightly.models.modules.heads import ProjectionHead

        super().__init__()
        head, predictor = parts.head, parts.method.predictor
        self.backbone = body(parts)
        widths = [self.backbone.out_dim, *[head.hidden_dim] * head.hidden_layers]
        hidden = [(a, b, nn.BatchNorm1d(b), nn.ReLU()) for a, b in pairwise(widths)]
        last = (widths[-1], head.out_dim, nn.BatchNorm1d(head.out_dim, affine=False), None)
        self.projection = ProjectionHead([*hidden, last])
        self.prediction = SimSiamPredictionHead(head.out_dim, predictor.hidden_dim, predictor.out_dim)
        self.criterion = NegativeCosineSimilarity()

    def loss(self, views: Sequence[Tensor]) -> Tensor:
        (z1, p1), (z2, p2) = (self.both(one) for one in views)
        return cast(Tensor, 0.5 * (self.criterion(z1, p2) + self.criterion(z2, p1)))

    def both(self, images: Tensor) -> tuple[Tensor, Tensor]:
        z = self.projection(self.backbone(images))
        return z.detach(), self.prediction(z)


class DINO(Script):
    """``examples/pytorch/dino.py``, past the epoch in which the last layer is held."""

    def __init__(self, parts: Parts) -> None:
        from lightly.loss import DINOLoss
        from lightly.models.modules import DINOProjectionHead

        super().__init__()
        head = parts.head
        self.backbone = body(parts)
        sizes = (self.backbone.out_dim, head.hidden_dim, head.bottleneck, head.out_dim)
        self.projection = DINOProjectionHead(*sizes, freeze_last_layer=1)
        self.teacher_backbone, self.teacher_projection = frozen(self.backbone), DINOProjectionHead(*sizes)
        self.teacher_projection.requires_grad_(False)
        self.criterion = DINOLoss(output_dim=head.out_dim, warmup_teacher_temp_epochs=5)

    def loss(self, views: Sequence[Tensor]) -> Tensor:
        from lightly.models.utils import update_momentum

        update_momentum(self.backbone, self.teacher_backbone, m=MOMENTUM)
        update_momentum(self.projection, self.teacher_projection, m=MOMENTUM)
        teacher = [self.teacher_projection(self.teacher_backbone(one)) for one in views[:2]]
        student = [self.projection(self.backbone(one)) for one in views]
        return cast(Tensor, self.criterion(teacher, student, epoch=1))

    def before_update(self) -> None:
        self.projection.cancel_last_layer_gradients(current_epoch=1)


def transforms(parts: Parts) -> dict[str, Callable[[Any], Any]]:
    """lightly's own for each method, with the recipe's operators: no blur, solarize where the paper has it."""
    from lightly import transforms as theirs

    solarized = {"solarization_prob": 0.2}
    views = {"input_size": 32, **PLAIN}
    crops = [one for one in parts.views.parts if one.size is not None]
    return {
        "byol": theirs.BYOLTransform(
            view_1_transform=theirs.BYOLView1Transform(**views),
            view_2_transform=theirs.BYOLView2Transform(**views, **solarized),
        ),
        "moco": theirs.MoCoV2Transform(**views),
        "simsiam": theirs.SimSiamTransform(**views),
        "dino": theirs.DINOTransform(
            global_crop_size=32,
            local_crop_size=crops[0].size if crops else 16,
            n_local_views=sum(one.count for one in crops),
            **{**PLAIN, "gaussian_blur": (0.0, 0.0, 0.0)},
            **solarized,
        ),
    }


SCRIPTS: dict[str, Callable[[Parts], Script]] = {"byol": BYOL, "moco": MoCo, "simsiam": SimSiam, "dino": DINO}


def contenders(method: str, effort: Effort) -> list[Contender]:
    """Ours, and lightly's where it is installed."""
    batch = effort.of(BATCH, BATCH, TINY_BATCH)
    split, parts = pictures(batch * effort.of(STEPS, STEPS, 1)), recipe(method, batch)
    found = [Contender(OURS, Ours(split, parts).epoch, len(split))]
    if find_spec("lightly"):
        torch.manual_seed(0)
        script = loop(split.images, batch, transforms(parts)[method], SCRIPTS[method](parts))
        found.append(Contender(LIGHTLY, script, len(split), script.helpers))
    return found


def measure(section: Section, effort: Effort) -> None:
    """Add a case for every method, and its target."""
    for method, title in TITLES.items():
        timings = in_turns(contenders(method, effort), budget_s=effort.seconds(60.0))
        section.rows += rows_of(f"micro, {title}", timings, unit="ms per image")
        if LIGHTLY in timings:
            share = timings[OURS].times(timings[LIGHTLY])[1]
            says = f"micro, {title}: processor time of ours over lightly's"
            section.targets.append(Target(says, share, at_most=1 / 3))
