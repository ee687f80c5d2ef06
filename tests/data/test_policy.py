"""AutoAugment against torchvision's: the same table, the same magnitudes, and the same pixels at the same draws."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from torchvision.transforms import AutoAugment, AutoAugmentPolicy, InterpolationMode
from torchvision.transforms.autoaugment import _apply_op

from harness.data import policy
from harness.data.ops import tone
from harness.data.rng import ImageRng

POLICIES = list(policy.POLICIES)


def theirs(name: str) -> AutoAugment:
    return AutoAugment(AutoAugmentPolicy(name))


def pictures(count: int, size: tuple[int, int] = (32, 32)) -> Tensor:
    """uint8, smooth enough that every operator changes something."""
    coarse = torch.rand(count, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    fine = torch.nn.functional.interpolate(coarse, size=size, mode="bilinear", align_corners=False)
    return (30 + 180 * fine).to(torch.uint8)


@pytest.mark.parametrize("name", POLICIES)
def test_the_table_is_torchvisions(name: str) -> None:
    assert list(policy.POLICIES[name]) == theirs(name)._get_policies(AutoAugmentPolicy(name))


@pytest.mark.parametrize("size", [(32, 32), (224, 224), (20, 27)], ids=str)
def test_magnitudes_and_directions_are_torchvisions(size: tuple[int, int]) -> None:
    ours = policy.magnitudes(*size)
    for name, (magnitudes, signed) in theirs("imagenet")._augmentation_space(10, size).items():
        assert (name in policy.SIGNED) == signed
        if magnitudes.ndim:
            assert torch.equal(ours.pop(name), magnitudes.double()), name
    assert not ours


def one_by_one(image: Tensor, operators: Tensor, magnitudes: Tensor) -> Tensor:
    """torchvision's own operators on one uint8 image."""
    for place, magnitude in zip(operators.tolist(), magnitudes.tolist(), strict=True):
        if place != policy.NOTHING:
            image = _apply_op(image, policy.NAMES[place], magnitude, InterpolationMode.NEAREST, None)
    return image


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("size", [(32, 32), (24, 31)], ids=str)
def test_pixels_are_torchvisions(name: str, size: tuple[int, int]) -> None:
    count = 400
    rng = ImageRng(seed=0, epoch=0, images=torch.arange(count))
    images, augmentation = pictures(count, size), policy.AutoAugment(policy=name)  # type: ignore[arg-type]
    steps = augmentation.draw(rng.child("same"), *size)
    expected = torch.stack([one_by_one(*one) for one in zip(images, steps.operator, steps.magnitude, strict=True)])
    result = augmentation(images / 255.0, rng.child("same"))
    assert torch.equal(result, expected / 255.0)
    unchanged = (result == images / 255.0).flatten(1).all(dim=1)
    assert unchanged.float().mean() < 0.3


@pytest.mark.parametrize("name", POLICIES)
def test_draws_have_the_probabilities_of_the_table(name: str) -> None:
    """Each pair equally often; within it, each operator as often as the table says, in both directions alike."""
    count = 60_000
    rng = ImageRng(seed=0, epoch=0, images=torch.arange(count))
    steps = policy.AutoAugment(policy=name).draw(rng, 32, 32)  # type: ignore[arg-type]
    for position in (0, 1):
        share = torch.zeros(len(policy.NAMES), dtype=torch.float64)
        for pair in policy.POLICIES[name]:
            operator, p, _ = pair[position]
            share[policy.NAMES.index(operator)] += p / len(policy.POLICIES[name])
        found = steps.operator[:, position]
        measured = found[found != policy.NOTHING].bincount(minlength=len(policy.NAMES)) / count
        torch.testing.assert_close(measured.double(), share, atol=0.01, rtol=0.0)
    turned = steps.magnitude[steps.operator == policy.NAMES.index("Rotate")]
    assert (turned > 0).double().mean().item() == pytest.approx(0.5, abs=0.03)


def test_a_probability_of_one_always_acts_and_zero_never() -> None:
    """The pair (Equalize 0.0, Equalize 0.8) never does the first, (Invert 0.6, Equalize 1.0) always the second."""
    rng = ImageRng(seed=0, epoch=0, images=torch.arange(5_000))
    steps = policy.AutoAugment().draw(rng.child("x"), 32, 32)
    pair = rng.child("x").integers(25)
    assert (steps.operator[pair == 12, 0] == policy.NOTHING).all()
    assert (steps.operator[pair == 13, 1] == policy.NAMES.index("Equalize")).all()


def test_every_operator_is_in_some_policy_or_shared_by_them() -> None:
    used = {step[0] for pair in itertools.chain(*policy.POLICIES.values()) for step in pair}
    assert used == set(policy.OPERATORS)


def test_results_are_levels() -> None:
    images = torch.rand(50, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    result = policy.AutoAugment()(images, ImageRng(seed=0, epoch=0, images=torch.arange(50)))
    torch.testing.assert_close(result * 255.0, tone.levels(result), atol=1e-4, rtol=0.0)
