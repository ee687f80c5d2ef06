"""Views and batches: what belongs to which branch, and that no result depends on ranks, order or resuming."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from harness.config.errors import SpecError
from harness.data.augment import Blur, Color, Crop, Cutout, Flip, Noise
from harness.data.broader import Solarize
from harness.data.datasets import Resident, Synthetic
from harness.data.ops.geometry import unit
from harness.data.rng import ImageRng
from harness.data.views import Batch, Branch, Views, apply, batches, steps_of_epoch

RECIPE = (Crop(), Flip(), Color(), Blur())
SIMCLR = Views(both=RECIPE)
LOCAL = (Crop(scale=(0.05, 0.4), interpolation="bicubic"), *RECIPE[1:])
MULTI_CROP = Views(branches=(Branch(augment=RECIPE, count=2), Branch(augment=LOCAL, count=4, size=8)))
BYOL = Views(
    branches=(
        Branch(augment=(*RECIPE[:3], Blur(p=1.0), Solarize(p=0.0))),
        Branch(augment=(*RECIPE[:3], Blur(p=0.1), Solarize(p=0.2))),
    )
)
MIXED = Views(
    branches=(
        Branch(augment=RECIPE, count=2, size=24),
        Branch(augment=(Color(),)),
        Branch(augment=RECIPE, count=1),
        Branch(),
        Branch(augment=RECIPE, size=24),
    )
)
SHARED = Views(shared=(Crop(), Flip()), branches=(Branch(augment=(Crop(), Color()), size=8), Branch(augment=(Blur(),))))
BRANCHES = [MULTI_CROP, BYOL, MIXED, SHARED]
"""Crops of two sizes; one list with other probabilities; equal branches apart, without a crop and empty; shared."""


@pytest.fixture(scope="module")
def split() -> Any:
    return Synthetic(train_images=50, test_images=2, image_size=16).load(None).train  # type: ignore[arg-type]


def images(count: int = 12) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def rng(count: int = 12) -> ImageRng:
    return ImageRng(seed=0, epoch=0, images=torch.arange(count))


def epoch(split: Any, views: Views = SIMCLR, **changes: Any) -> list[Batch]:
    settings: dict[str, Any] = {"batch_size": 8, "seed": 0, "epoch": 0, "device": "cpu"} | changes
    return list(batches(split, views, **settings))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_number_and_kind_of_views(count: int) -> None:
    views = Views(both=(Crop(), Color()), count=count)(images(), rng())
    assert len(views) == count
    for view in views:
        assert view.shape == (12, 3, 16, 16) and view.dtype == torch.float32
        assert view.min() >= 0.0 and view.max() <= 1.0
    assert all(not torch.equal(a, b) for i, a in enumerate(views) for b in views[:i])


def test_without_operators_views_are_the_images() -> None:
    for view in Views()(images(), rng()):
        assert torch.equal(view, images().float() / 255)


def test_bytes_and_floats_are_the_same_images() -> None:
    for a, b in zip(SIMCLR(images(), rng()), SIMCLR(images().float() / 255, rng()), strict=True):
        assert torch.equal(a, b)


def test_figure_5_shares_the_crop_and_changes_one_branch() -> None:
    base = Views(shared=(Crop(),))(images(), rng())
    assert torch.equal(base[0], base[1])
    one = Views(shared=(Crop(),), targeted=(Color(),))(images(), rng())
    assert torch.equal(one[1], base[1]) and not torch.equal(one[0], base[0])


def test_every_branch_has_streams_of_its_own() -> None:
    """One crop on both branches and another on the first: were their draws equal, it would crop the same window."""
    base, crop = images().float() / 255, (Crop(),)
    both = [apply(crop, base, rng().child(f"view{i}")) for i in range(2)]
    first, second = Views(both=crop, targeted=crop)(images(), rng())
    assert torch.equal(first, apply(crop, both[0], rng().child("targeted"))) and torch.equal(second, both[1])
    streams = [rng().child(name).bits(4) for name in ("shared", "view0", "view1", "targeted", "method")]
    assert all(not torch.equal(a, b) for i, a in enumerate(streams) for b in streams[:i])


def test_the_methods_random_numbers_are_of_seed_epoch_and_image(split: Any) -> None:
    """Whatever the rank, the batch size or where the epoch was taken up; and never those of the views."""
    whole = epoch(split, seed=3, epoch=2)
    drawn = torch.cat([batch.rng.uniform(0.0, 1.0, 4) for batch in whole])
    seen = torch.cat([batch.indices for batch in whole])
    assert torch.equal(drawn, ImageRng(seed=3, epoch=2, images=seen).child("method").uniform(0.0, 1.0, 4))
    halves = [epoch(split, seed=3, epoch=2, rank=rank, world=2, first_step=2) for rank in range(2)]
    parts = [half[0].rng.uniform(0.0, 1.0, 4) for half in halves]
    assert torch.equal(torch.cat(parts), drawn[16:24])
    assert drawn.unique(dim=0).shape == drawn.shape
    for other in (epoch(split, seed=4, epoch=2), epoch(split, seed=3, epoch=1)):
        assert not torch.equal(torch.cat([batch.rng.uniform(0.0, 1.0, 4) for batch in other]), drawn)


def test_columns_go_where_their_images_go() -> None:
    """Through parts, joins and batches, whatever their shape."""
    count = 10
    words = torch.arange(count * 6).view(count, 3, 2)
    split = Resident(images(count), torch.arange(count) % 3, {"text": words})
    both = split.part(torch.tensor([7, 1, 4])).joined(split.part(torch.tensor([2, 9])))
    assert torch.equal(both.columns["text"], words[[7, 1, 4, 2, 9]])
    for batch in epoch(both, batch_size=2, drop_last=False):
        assert torch.equal(batch.columns["text"], words[[7, 1, 4, 2, 9]][batch.indices])
        assert (
            torch.equal(batch.columns["label"], both.labels[batch.indices]) and batch.labels is batch.columns["label"]
        )


def test_draws_of_an_operator_do_not_depend_on_the_others() -> None:
    """Arms are paired: the same crops whether or not noise comes before or after."""
    flips = Views(both=(Flip(),))(images(), rng())
    for both in [(Noise(std=(0.0, 0.0)), Flip()), (Flip(), Noise(std=(0.0, 0.0)))]:
        for a, b in zip(Views(both=both)(images(), rng()), flips, strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize(
    "crop", [Crop(), Crop(flip=0.5), Crop(interpolation="bicubic"), Crop(scale=(0.9, 1.0))], ids=str
)
def test_a_flip_after_a_crop_is_done_by_the_crop_bit_by_bit(crop: Crop) -> None:
    base = images().float() / 255
    apart = Flip(p=0.7)(crop(base, rng().child("crop")), rng().child("flip"))
    assert torch.equal(apply((crop, Flip(p=0.7)), base, rng()), apart)


def test_branches_made_together_are_those_made_one_by_one() -> None:
    for i, view in enumerate(SIMCLR(images(), rng())):
        assert torch.equal(view, apply(SIMCLR.both, images().float() / 255, rng().child(f"view{i}")))


def test_repeated_operators_draw_anew() -> None:
    """Were the draws of both crops equal, the second would be the same window of the first."""
    noise = Noise(std=(0.1, 0.1))
    once, twice = (
        Views(both=ops, count=1)(images() * 0 + 128, rng())[0] - 128 / 255 for ops in [(noise,), (noise, noise)]
    )
    assert twice.std().item() == pytest.approx(once.std().item() * 2**0.5, rel=0.05)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_branch_is_both_bit_by_bit(count: int) -> None:
    """Also where its views stand in several branches, which are made together all the same."""
    whole = Views(both=RECIPE, count=count)(images(), rng())
    for branches in ((Branch(augment=RECIPE, count=count),), (Branch(augment=RECIPE),) * count):
        for ours, expected in zip(Views(branches=branches)(images(), rng()), whole, strict=True):
            assert torch.equal(ours, expected)


@pytest.mark.parametrize("views", BRANCHES)
@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_views_of_branches_are_those_made_one_by_one(views: Views, kind: torch.dtype, each_way: str) -> None:
    """View i of all, with the draws of ``view{i}``, from one image at a time."""
    base = images() if kind == torch.uint8 else unit(images())
    made = views(base, rng())
    each = [branch for branch in views.branches for _ in range(branch.count)]
    assert [view.shape[-1] for view in made] == [branch.size or 16 for branch in each]
    for i, (view, branch) in enumerate(zip(made, each, strict=True)):
        for place in range(len(base)):
            alone = ImageRng(seed=0, epoch=0, images=torch.tensor([place]))
            one = apply(views.shared, base[place : place + 1], alone.child("shared"))
            if branch.size:
                crop, *rest = branch.augment
                assert isinstance(crop, Crop)
                # The flip that comes next draws from a stream of its own, whatever came before it.
                one = crop(one, alone.child(f"view{i}").child("crop"), size=branch.size)
                one = apply(rest, one, alone.child(f"view{i}"))
            else:
                one = apply(branch.augment, one, alone.child(f"view{i}"))
            torch.testing.assert_close(view[place : place + 1], one, atol=5e-6, rtol=0.0)


def test_views_alike_are_made_in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls, not pixels, are what small images cost: as many images at once as there are of a size and recipe."""
    sizes: list[tuple[int, int]] = []
    original = Color.__call__

    def counted(color: Color, given: torch.Tensor, draws: ImageRng) -> torch.Tensor:
        sizes.append((len(given), given.shape[-1]))
        return original(color, given, draws)

    monkeypatch.setattr(Color, "__call__", counted)
    MIXED(images(), rng())
    assert sizes == [(3 * 12, 24), (12, 16), (12, 16)]


def test_fractions_of_an_image_are_of_the_view() -> None:
    gray = Branch(augment=(Crop(), Cutout(size=0.5, fill=0.25)), size=8)
    (view,) = Views(branches=(gray,))(torch.full((12, 3, 16, 16), 255, dtype=torch.uint8), rng())
    assert ((view == 0.25).sum(dim=(1, 2, 3)) == 3 * 4 * 4).all()


@pytest.mark.parametrize("wrong", [{"both": RECIPE}, {"targeted": (Color(),)}])
def test_branches_stand_in_place_of_both_and_targeted(wrong: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=f"in place of views.{next(iter(wrong))}"):
        Views(branches=(Branch(),), **wrong)


@pytest.mark.parametrize("operators", [(), (Flip(), Crop()), (Color(),)])
def test_a_size_is_made_by_a_leading_crop(operators: tuple[Any, ...]) -> None:
    with pytest.raises(SpecError, match="size 8 begins with a crop"):
        Branch(augment=operators, size=8)


@pytest.mark.parametrize(
    "views", [SIMCLR, *BRANCHES, Views(shared=(Crop(), Flip()), both=(Color(),), targeted=(Crop(), Blur()))]
)
def test_a_leading_crop_may_be_done_elsewhere(views: Views) -> None:
    """Decoders crop with the draws that the views would make themselves."""
    done = []
    for crop, names, size in views.windows():
        stream = rng()
        for name in names:
            stream = stream.child(name)
        done.append(unit(images()) if crop is None else crop(unit(images()), stream, size=size))
    assert len(done) == (1 if views.shared else len(views.sizes))
    for ours, expected in zip(views(done, rng()), views(images(), rng()), strict=True):
        torch.testing.assert_close(ours, expected)


def test_without_a_leading_crop_there_is_no_window() -> None:
    assert Views(both=(Flip(), Crop())).windows() == ()
    assert Views().windows() == ()


def test_an_epoch_shows_every_image_once(split: Any) -> None:
    seen = torch.cat([batch.indices for batch in epoch(split)])
    assert len(seen) == 48 and seen.unique().numel() == 48
    assert torch.equal(torch.cat([batch.labels for batch in epoch(split)]), split.labels[seen])
    everything = torch.cat([batch.indices for batch in epoch(split, shuffle=False, drop_last=False)])
    assert torch.equal(everything, torch.arange(50))


def test_epochs_and_seeds_differ(split: Any) -> None:
    orders = [torch.cat([b.indices for b in epoch(split, seed=s, epoch=e)]) for s in range(2) for e in range(2)]
    assert all(not torch.equal(a, b) for i, a in enumerate(orders) for b in orders[:i])
    first, second = (epoch(split, shuffle=False, epoch=e)[0].views[0] for e in range(2))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("views", [SIMCLR, *BRANCHES])
def test_resumed_is_uninterrupted(split: Any, views: Views) -> None:
    for a, b in zip(epoch(split, views, first_step=3), epoch(split, views)[3:], strict=True):
        assert torch.equal(a.indices, b.indices) and torch.equal(a.labels, b.labels)
        assert all(torch.equal(x, y) for x, y in zip(a.views, b.views, strict=True))
    assert epoch(split, first_step=6) == []


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("views", [SIMCLR, *BRANCHES])
def test_ranks_share_the_global_batch(split: Any, world: int, drop_last: bool, views: Views) -> None:
    whole = epoch(split, views, drop_last=drop_last)
    parts = [epoch(split, views, drop_last=drop_last, rank=rank, world=world) for rank in range(world)]
    for step, batch in enumerate(whole):
        assert torch.equal(torch.cat([part[step].indices for part in parts]), batch.indices)
        for i, view in enumerate(batch.views):
            together = torch.cat([part[step].views[i] for part in parts])
            torch.testing.assert_close(together, view, atol=1e-6, rtol=0.0)


def test_an_images_views_do_not_depend_on_the_batch_size(split: Any) -> None:
    large, small = epoch(split, batch_size=48)[0], epoch(split, batch_size=6)[0]
    assert torch.equal(large.indices[:6], small.indices)
    torch.testing.assert_close(large.views[0][:6], small.views[0], atol=1e-6, rtol=0.0)


def test_orders_are_uniform() -> None:
    """Every image is as likely at the head of an epoch as any other."""
    first = [
        int(steps_of_epoch(5, batch_size=1, seed=0, epoch=e, shuffle=True, drop_last=True, rank=0, world=1)[0])
        for e in range(1_000)
    ]
    assert torch.tensor(first).bincount(minlength=5).min() > 150


def test_impossible_batches_are_refused(split: Any) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        epoch(split, batch_size=51)
    with pytest.raises(ValueError, match="shared evenly"):
        epoch(split, batch_size=9, world=2)


def test_views_are_exact_under_autocast() -> None:
    expected = SIMCLR(images(), rng())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for a, b in zip(SIMCLR(images(), rng()), expected, strict=True):
            assert torch.equal(a, b)


def test_a_resident_split_stays_where_it_is() -> None:
    split = Resident(images(), torch.zeros(12, dtype=torch.int64))
    assert split.to("cpu") is split
