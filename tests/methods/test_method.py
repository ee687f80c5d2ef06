"""Every registered method: builds, learns, and lays out its batch as batch norm's groups need it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import harness.methods.simclr
import harness.methods.supervised
import harness.models.encoders
import harness.models.heads  # noqa: F401  (the imports register)
from harness.methods.method import Method
from harness.models.norm import Norm
from harness.spec.errors import SpecError
from harness.spec.registry import encoder, head, method, objective

PARTS = {"simclr": ("nonlinear", "nt_xent"), "supervised": ("none", "cross_entropy")}


def build(name: str, norm: Norm | None = None) -> Method:
    torch.manual_seed(0)
    norm = norm or Norm()
    body = encoder.build({"micro": {"stem": 8, "widths": [8, 16]}}).build(norm)
    head_name, objective_name = PARTS[name]
    return method.build(name).build(
        encoder=body,
        head=head.build(head_name).build(body.out_dim, norm),
        objective=objective.build(objective_name),
        classes=3,
    )


def batch(images: int = 6, seed: int = 0) -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    views = [torch.rand(images, 3, 16, 16, generator=generator) for _ in range(2)]
    return views, torch.arange(images) % 3


@pytest.mark.parametrize("name", method.names())
def test_gives_a_scalar_that_can_be_minimised(name: str) -> None:
    model = build(name)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for step in range(8):
        loss, extra = model(*batch())
        assert loss.shape == () and all(value.shape == () and not value.requires_grad for value in extra.values())
        optimizer.zero_grad()
        loss.backward()
        assert all(parameter.grad is not None for parameter in model.parameters())
        optimizer.step()
        model.after_step(step)
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", method.names())
def test_represents_and_projects(name: str) -> None:
    model = build(name).eval()
    images = batch()[0][0]
    h = model.represent(images)
    assert h.shape == (6, model.encoder.out_dim)
    assert model.project(h).shape == (6, model.head.out_dim)
    torch.testing.assert_close(model.represent(images[:1]), h[:1])


@pytest.mark.parametrize("name", method.names())
def test_views_enter_image_by_image_and_come_apart_again(name: str) -> None:
    model = build(name)
    views = [torch.full((3, 1, 1, 1), 10.0 * view) + torch.arange(3).view(3, 1, 1, 1) for view in range(3)]
    rows = model.interleave(views)
    assert rows.flatten().tolist() == [0, 10, 20, 1, 11, 21, 2, 12, 22]
    for parted, view in zip(model.part(rows.flatten(1), 3), views, strict=True):
        torch.testing.assert_close(parted, view.flatten(1))


@pytest.mark.parametrize("name", method.names())
def test_refuses_batch_norm_groups_that_would_part_the_views_of_an_image(name: str) -> None:
    model = build(name, Norm(groups=2))
    model(*batch(4))
    with pytest.raises(ValueError, match="3 images does not divide into 2 groups"):
        model(*batch(3))  # six rows would divide


def test_simclr_is_algorithm_1() -> None:
    model = build("simclr")
    views, labels = batch()
    loss, _ = model(views, labels)
    rows = torch.stack([view[k] for k in range(6) for view in views])
    z = F.normalize(model.head(model.encoder(rows)), dim=1)
    similarity = (z @ z.T / 0.5).fill_diagonal_(-1e9)
    torch.testing.assert_close(loss, F.cross_entropy(similarity, torch.arange(12) ^ 1))


def test_supervised_counts_every_view() -> None:
    model = build("supervised")
    views, labels = batch()
    loss, extra = model(views, labels)
    rows = torch.stack([view[k] for k in range(6) for view in views])
    logits = model.classifier(model.encoder(rows))
    twice = labels.repeat_interleave(2)
    torch.testing.assert_close(loss, F.cross_entropy(logits, twice))
    assert float(extra["top1"]) == pytest.approx(100 * float((logits.argmax(1) == twice).float().mean()))


def test_methods_and_objectives_that_do_not_fit_are_refused() -> None:
    norm = Norm()
    body = encoder.build("micro").build(norm)
    parts = {"encoder": body, "head": head.build("linear").build(body.out_dim, norm), "classes": 3}
    with pytest.raises(SpecError, match=r"contrastive objective .*nt_xent"):
        method.build("simclr").build(**parts, objective=objective.build("cross_entropy"))
    with pytest.raises(SpecError, match="objective: cross_entropy"):
        method.build("supervised").build(**parts, objective=objective.build("nt_xent"))
    with pytest.raises(SpecError, match="head: none"):
        method.build("supervised").build(**parts, objective=objective.build("cross_entropy"))
