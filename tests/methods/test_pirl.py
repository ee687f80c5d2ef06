"""PIRL: what each term sees, what the bank holds, and the two maps of the tiles."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.data.jigsaw import tiles
from harness.methods.base import Method, trainable
from harness.methods.pirl import PIRLMethod
from harness.optim.schedules import Progress
from harness.train.step import optimise
from tests.methods.pieces import batch_of, built, example, random_batch
from tests.methods.test_bank import nce_by_hand

NOW = Progress(0, 80, 8)


def views(seed: int = 0) -> list[Tensor]:
    """Eight images of 16 pixels, and eight mosaics of nine tiles of 8."""
    mosaic = random_batch(8, views=1, size=24, seed=100 + seed).views[0]
    return [random_batch(8, views=1, seed=seed).views[0], mosaic]


def method_of(weight: float) -> PIRLMethod:
    settings = {"negatives": 6, "temperature": 0.2, "weight": weight}
    head = {"mlp": {"hidden_layers": 0, "out_dim": 8}}
    model = built("pirl", batch_size=8, method={"pirl": settings}, head=head)
    assert isinstance(model, PIRLMethod)
    return model


def loss_of(model: Method, images: list[Tensor]) -> Tensor:
    return next(model.training_step(batch_of(images), NOW)).loss


def codes(model: PIRLMethod, images: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Of images, and of tiles: nine codes in their order, then one linear map."""
    parts = torch.stack(tiles(images[1]), dim=1).flatten(0, 1)
    nine = model.of_tile(model.encoder(parts)).view(8, -1)
    both = model.head(model.encoder(images[0])), model.of_all_tiles(nine)
    return tuple(F.normalize(one, dim=1).detach() for one in both)  # type: ignore[return-value]


def test_both_codes_look_for_the_images_row_among_negatives_of_their_own() -> None:
    model, images = method_of(0.3), views()
    rng, places = batch_of(images).rng, torch.arange(8)
    logits = []
    for code, stream in zip(codes(model, images), ("negatives", "negatives of tiles"), strict=True):
        among = torch.cat([places[:, None], rng.child(stream).integers(40, 6)], dim=1)
        logits.append(torch.stack([model.bank.rows[one] @ v for one, v in zip(among, code, strict=True)]) / 0.2)
    constant = 40 * float(logits[0].exp().mean())
    expected = 0.7 * nce_by_hand(logits[0], 40, constant) + 0.3 * nce_by_hand(logits[1], 40, constant)
    assert float(loss_of(model, images).detach()) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("weight", "idle"), [(0.0, "tiles"), (1.0, "image")])
def test_a_term_without_weight_has_no_gradient(weight: float, idle: str) -> None:
    """At 0 the loss is InstDisc's on the same negatives; at 1 the head of images learns nothing, and fills the bank."""
    model, images = method_of(weight), views()
    before = model.bank.rows.clone()
    optimise(model, {"main": torch.optim.SGD(trainable(model), lr=0.0)}, batch_of(images), NOW)
    of_tiles = [*model.of_tile.parameters(), *model.of_all_tiles.parameters()]
    for name, parameters in (("tiles", of_tiles), ("image", list(model.head.parameters()))):
        moved = sum(float(one.grad.abs().sum()) for one in parameters if one.grad is not None)
        assert (moved == 0) is (name == idle)
    assert not torch.equal(model.bank.rows[:8], before[:8])
    if weight == 0.0:
        settings = {"negatives": 6, "temperature": 0.2, "loss": "nce"}
        other = built(
            "instdisc", batch_size=8, method={"instdisc": settings}, head={"mlp": {"hidden_layers": 0, "out_dim": 8}}
        )
        other.encoder.load_state_dict(model.encoder.state_dict())
        other.head.load_state_dict(model.head.state_dict())
        other.bank.rows.copy_(before)  # type: ignore[operator, union-attr]
        torch.testing.assert_close(loss_of(other, images[:1]), loss_of(_with_bank(method_of(0.0), before), images))


def _with_bank(model: PIRLMethod, rows: Tensor) -> PIRLMethod:
    model.bank.rows.copy_(rows)
    return model


def test_the_bank_holds_codes_of_images_alone() -> None:
    rows = []
    for seed in (0, 1):
        model, images = method_of(0.5), [views()[0], views(seed)[1]]
        optimise(model, {"main": torch.optim.SGD(trainable(model), lr=0.1)}, batch_of(images), NOW)
        rows.append(model.bank.rows)
    assert torch.equal(*rows)
    before = method_of(0.5).bank.rows
    torch.testing.assert_close(before.norm(dim=1), torch.ones(40))
    image, _ = codes(method_of(0.5), views())
    torch.testing.assert_close(rows[0][:8], F.normalize(before[:8] + image, dim=1))


def test_the_tiles_code_is_linear_in_those_of_each_and_knows_their_order() -> None:
    """Two linear maps without a ReLU between; another order of the same nine codes is another code."""
    model = method_of(0.5)
    assert [type(one) for one in model.of_tile] == [torch.nn.Linear]
    assert isinstance(model.of_all_tiles, torch.nn.Linear) and model.of_all_tiles.in_features == 9 * 8
    shuffled = views()
    shuffled[1] = shuffled[1].flip(3)  # the columns of tiles in reverse, each mirrored
    assert not torch.allclose(codes(model, views())[1], codes(model, shuffled)[1], atol=1e-3)


def test_it_learns_to_find_the_images_of_tiles() -> None:
    model = example("pirl")
    made = {"main": torch.optim.SGD(trainable(model), lr=0.1, momentum=0.9)}
    found = [optimise(model, made, batch_of(views(), epoch=step), Progress(step, 40, 1)) for step in range(40)]
    assert float(found[-1]["own_row"]) > 0.9 and float(found[-1]["loss"]) < float(found[1]["loss"])
