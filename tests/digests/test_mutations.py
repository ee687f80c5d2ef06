"""The code broken in many places, one at a time: the digest of what was broken changes, and no other.

Breaking is done in this process, in the module where the thing is; what is not said here to change has to stay.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.config.registry import REGISTRIES, Registry
from harness.data import views
from harness.digests import record
from harness.digests.compare import LOOP, RESUMED, SHARED, Record, RecordComparison

pytestmark = pytest.mark.slow

COSTLY = {"encoder resnet18", "encoder resnet34", "encoder resnet50", "encoder resnet101", "encoder resnet152",
          "dataset torchvision", "evaluation tsne", SHARED}  # fmt: skip
"""Watched only where they are what is broken."""
PANEL = [label for label in record.labels() if label not in COSTLY]


@pytest.fixture(scope="module")
def unbroken() -> dict[str, Record]:
    return {}


def changed(
    unbroken: dict[str, Record], expected: str, change: Callable[[], None], panel: Iterable[str] = PANEL
) -> set[str]:
    """The labels of ``panel``, and of what is ``expected``, that differ once ``change`` was made."""
    watched = {*panel, expected}
    for label in watched - unbroken.keys():
        unbroken[label] = record.record([label])
    before = {label: unbroken[label].components[label] for label in watched}
    change()
    after = record.record(watched)
    return {*RecordComparison.of(Record(after.code, after.place, before), after).own}


def scaled(by: float) -> Callable[[Any], Any]:
    def scale(result: Any) -> Any:
        return result * by if isinstance(result, Tensor | float) else result

    return scale


def wrap(patch: pytest.MonkeyPatch, target: str, after: Callable[[Any], Any]) -> None:
    """``after`` what the function at this dotted path returns."""
    name, _, attribute = target.rpartition(".")
    holder = functools.reduce(getattr, name.split(".")[1:], __import__(name.split(".")[0]))
    before = getattr(holder, attribute)

    @functools.wraps(before)
    def broken(*arguments: Any, **named: Any) -> Any:
        return after(before(*arguments, **named))

    patch.setattr(holder, attribute, broken)


def given(patch: pytest.MonkeyPatch, target: str, before_call: Callable[..., tuple[Any, ...]]) -> None:
    """The function at this dotted path is called with what ``before_call`` makes of its arguments."""
    name, _, attribute = target.rpartition(".")
    holder = functools.reduce(getattr, name.split(".")[1:], __import__(name.split(".")[0]))
    intact = getattr(holder, attribute)

    @functools.wraps(intact)
    def broken(*arguments: Any, **named: Any) -> Any:
        return intact(*before_call(*arguments), **named)

    patch.setattr(holder, attribute, broken)


# --- one per cent on what each component gives ---------------------------------------------------------------------

GIVES = {"augmentation": "__call__", "objective": "__call__", "optimizer": "peak_lr", "evaluation": "__call__",
         "dataset": "load", "schedule": "__call__", "head": "build", "encoder": "build", "method": "build"}  # fmt: skip


def moved(kind: str, result: Any) -> Any:
    """What a component gives, changed a little."""
    if kind == "evaluation":
        return ((name, 1.01 * one + 0.01 if isinstance(one, float) else one) for name, one in result)
    if kind == "dataset":
        return result._replace(train=result.train.part(torch.arange(len(result.train)).flip(0)))
    if kind in ("head", "encoder", "method"):
        parameter = next((one for one in result.parameters() if one.ndim > 1), None)
        if parameter is None or parameter.is_meta:
            result.register_buffer("another", torch.zeros(1))
        else:
            parameter.data.mul_(1.01)
        return result
    return 1.01 * result


WITHIN = {"augmentation color": {"augmentation jigsaw"}}
"""Components that another one's examples are made of: it changes with them."""


@pytest.mark.parametrize(
    ("known", "name"),
    [pytest.param(known, name, id=f"{kind} {name}") for kind, known in REGISTRIES.items() for name in known.names()],
)
def test_one_per_cent_of_a_component_is_seen_and_is_its_own(
    unbroken: dict[str, Record], monkeypatch: pytest.MonkeyPatch, known: Registry, name: str
) -> None:
    cls, attribute, label = known.get(name), GIVES[known.kind], f"{known.kind} {name}"
    intact = getattr(cls, attribute)

    def broken(self: Any, *arguments: Any, **named: Any) -> Any:
        result = intact(self, *arguments, **named)
        return moved(known.kind, result) if type(self) is cls else result

    apart = (
        "evaluation ",
        *(() if known.kind == "method" else ("method ",)),
    )  # these train, crop and load by themselves
    others = [one for one in PANEL if not one.startswith(apart)]
    found = changed(unbroken, label, lambda: monkeypatch.setattr(cls, attribute, broken), others)
    assert found == {label, *WITHIN.get(label, ())}


# --- and within them -----------------------------------------------------------------------------------------------

Break = Callable[[pytest.MonkeyPatch], None]


def reverse_steps(patch: pytest.MonkeyPatch) -> None:
    intact = views.steps_of_epoch

    def broken(count: int, *, shuffle: bool, **named: Any) -> list[Tensor]:
        return intact(count, shuffle=shuffle, **named)[:: -1 if shuffle else 1]

    patch.setattr(views, "steps_of_epoch", broken)


def forget_momentum(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(torch.optim.SGD, "load_state_dict", lambda self, state: None)


def forget_sums(patch: pytest.MonkeyPatch) -> None:
    wrap(patch, "harness.train.checkpoint.load_newest", lambda held: held and {**held, "totals": {}})


def double_gathered(patch: pytest.MonkeyPatch) -> None:
    given(patch, "harness.distributed._Gather.backward", lambda ctx, grad: (ctx, 2 * grad))


INSIDE: dict[str, tuple[str, Break, set[str]]] = {
    "hue a tenth wider": (
        "augmentation color",
        lambda patch: given(
            patch,
            "harness.data.ops.color.distort",
            lambda images, jitter: (images, jitter._replace(hue=1.1 * jitter.hue)),
        ),
        {"augmentation jigsaw"},
    ),
    "blur sharper": (
        "augmentation blur",
        lambda patch: given(
            patch, "harness.data.ops.geometry.gaussian_blur", lambda images, sigma, size: (images, 0.95 * sigma, size)
        ),
        set(),
    ),
    "crops of another ratio": (
        "augmentation crop",
        lambda patch: given(
            patch,
            "harness.data.ops.geometry.random_boxes",
            lambda rng, height, width, scale, ratio, flip: (rng, height, width, scale, (ratio[0] * 0.9, 1.4), flip),
        ),
        {"evaluation linear", "evaluation fine_tune", "evaluation transfer_fine_tune"},
    ),
    "sobel without offset": (
        "augmentation sobel",
        lambda patch: given(patch, "harness.data.ops.geometry.sobel", lambda images, gain, _: (images, gain, 0.45)),
        {"evaluation head_information"},
    ),
    "erasing in another gray": (
        "augmentation cutout",
        lambda patch: given(
            patch, "harness.data.ops.geometry.erase", lambda images, at, fill: (images, at, 0.99 * fill)
        ),
        set(),
    ),
    "cross-entropy one per mille larger": (
        "objective nt_xent",
        lambda patch: wrap(patch, "harness.objectives.contrastive.mean_cross_entropy", scaled(1.001)),
        set(),
    ),
    "gradient of the loss alone": (
        "objective nt_xent",
        lambda patch: given(
            patch, "harness.objectives.blockwise._MeanCrossEntropy.backward", lambda c, g: (c, 1.01 * g)
        ),
        {"method nnclr"},
    ),
    "the farthest negative": (
        "objective nt_logistic",
        lambda patch: given(patch, "harness.objectives.contrastive.closest", lambda s, eligible: (-s, eligible)),
        {"objective margin_triplet"},
    ),
    "trust": (
        "optimizer lars",
        lambda patch: wrap(patch, "harness.optim.optimizers.trust_ratios", scaled(1.001)),
        set(),
    ),
    "batch norm's running statistics": (
        "encoder micro",
        lambda patch: given(
            patch,
            "harness.models.norm.BatchNorm._batch_norm",
            lambda self, x, mean, var, momentum: (self, x, mean, var, momentum * 0.99),
        ),
        {"encoder timm", "head linear", "head nonlinear", "head mlp", "head prototypes"},
    ),
    "groups of two batch norms": (
        LOOP,
        lambda patch: given(
            patch, "harness.models.norm.BatchNorm._groups_of_this_rank", lambda self, x, groups: (self, x, 1)
        ),
        {"method moco"},  # whose example has groups too
    ),
    "initialisation": (
        "encoder micro",
        lambda patch: patch.setattr("harness.models.encoders.TRUNCATED_STD", 0.88),
        set(),
    ),
    "learning rate of the probe": (
        "evaluation linear",
        lambda patch: wrap(patch, "harness.evaluate.linear.cosine", scaled(1.01)),
        set(),
    ),
    "votes": (
        "evaluation knn",
        lambda patch: wrap(patch, "harness.evaluate.knn.KNN._weights", lambda weights: weights.square()),
        set(),
    ),
    "standardised features": (
        "evaluation head_information",
        lambda patch: wrap(
            patch, "harness.evaluate.trained.Trained.changed", lambda found: (found[0].square(), found[1])
        ),
        set(),
    ),
    "order of batches": (
        LOOP,
        reverse_steps,
        {"evaluation contrastive", "evaluation fine_tune", "evaluation transfer_fine_tune"},
    ),
    "warm-up rounded up": (
        LOOP,
        lambda patch: wrap(patch, "harness.train.loop.schedule_steps", lambda steps: (steps[0] + 1, steps[1])),
        set(),
    ),
    "cosine of the loop": (
        LOOP,
        lambda patch: wrap(patch, "harness.optim.optimizers.Rates.at", scaled(1.001)),
        set(),
    ),
    "momentum lost by a resume": (RESUMED, forget_momentum, set()),
    "an epoch's sums lost by a resume": (RESUMED, forget_sums, set()),
    "gathered gradients twice": (SHARED, double_gathered, set()),
}
"""What is broken, the component whose digest must change, how, and which others rightly do."""


@pytest.mark.parametrize("what", [*INSIDE])
def test_what_is_broken_is_named(unbroken: dict[str, Record], monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    expected, act, also = INSIDE[what]
    assert changed(unbroken, expected, lambda: act(monkeypatch)) == {expected, *also}


def test_nothing_broken_changes_nothing(unbroken: dict[str, Record]) -> None:
    assert not changed(unbroken, LOOP, lambda: None)
