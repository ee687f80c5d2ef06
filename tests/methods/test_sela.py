"""SeLa: labels of equal number, when they are chosen, and what becomes of them without that constraint."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from harness.methods import sela
from harness.methods.base import trainable
from harness.methods.sela import SeLaMethod, balanced, due
from harness.optim.schedules import Progress
from harness.train.step import optimise
from tests.methods.pieces import batch_of, begin, example, random_batch


def test_an_assignment_is_balanced_where_plain_choices_are_not() -> None:
    """The counts of the reference notes: 70 to 86 at lambda 25, 61 to 98 without, of 5000 images in 64 classes."""
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(5000, 64, generator=draw) + 0.5 * torch.randn(64, generator=draw)
    counts = balanced(logits, 25.0, 0.1).bincount(minlength=64)
    plain = logits.argmax(1).bincount(minlength=64)
    assert int(counts.min()) > 60 and int(counts.max()) < 98 and int(plain.min()) < 40 and int(plain.max()) > 150


def test_the_scaling_is_that_of_the_published_iteration() -> None:
    """In plain numbers: rows and columns of the probabilities to the power of lambda, in turn, until they are even."""
    draw = torch.Generator().manual_seed(1)
    logits = torch.randn(60, 5, generator=draw)
    p = logits.double().softmax(1) ** 10
    c, r = torch.full((60,), 1 / 60).double(), torch.zeros(5).double()
    for _ in range(2000):
        r = (1 / 5) / (p.T @ c)
        c = (1 / 60) / (p @ r)
    transported = (c[:, None] * p * r) * 60
    torch.testing.assert_close(transported.sum(0), torch.full((5,), 12.0).double())
    assert torch.equal(balanced(logits, 10.0, 1e-9), transported.argmax(1))
    hopeless = torch.cat([logits, logits.new_full((60, 1), -100.0)], 1)
    counts = balanced(hopeless, 25.0, 0.1).bincount(minlength=6)
    assert int(counts[:5].min()) > 7, "to the power of 25 the last class is 0, and the others are labels all the same"


def test_the_loss_is_the_mean_of_the_classifiers_cross_entropies() -> None:
    model = example("sela")
    assert isinstance(model, SeLaMethod)
    batch = random_batch(8, views=1)
    h = model.encoder(batch.views[0])
    by_hand = [F.cross_entropy(one(h), model.labels[i, :8]) for i, one in enumerate(model.classifiers)]
    torch.testing.assert_close(next(model.training_step(batch, Progress(0, 8, 4))).loss, sum(by_hand) / 2)


def test_every_classifier_has_the_assignment_of_its_own_probabilities() -> None:
    model = example("sela", images=32)
    assert isinstance(model, SeLaMethod)
    images = random_batch(32, views=1).views[0]
    for one in model.classifiers:
        torch.nn.init.normal_(one.weight, generator=torch.Generator().manual_seed(0))
    begin(model, {}, images, Progress(0, 8, 4))
    with torch.no_grad():
        h = model.eval().represent(images)
        for labels, classifier in zip(model.labels, model.classifiers, strict=True):
            assert torch.equal(labels, balanced(classifier(h), 500.0, 0.1))
            assert not torch.equal(labels, balanced(classifier(h), 500.0, 1e6))


def test_moments_are_dense_early_and_every_epoch_has_one_if_there_are_enough() -> None:
    epochs = range(100)
    some = [one for one in epochs if due(20, Progress(one * 10, 1000, 10))]
    by_hand = {math.ceil(100 * (i / 19) ** 2 - 1e-9) for i in range(19)}
    assert some == sorted(by_hand)
    assert [one for one in epochs if due(200, Progress(one * 10, 1000, 10))] == [*epochs]
    assert [one for one in epochs if due(1, Progress(one * 10, 1000, 10))] == [0]


def shares(monkeypatch: pytest.MonkeyPatch, *, constrained: bool) -> list[float]:
    """The largest share of a label after each of six epochs."""
    if not constrained:
        monkeypatch.setattr(sela, "balanced", lambda logits, *_: logits.argmax(1))
    model = example("sela", images=32)
    assert isinstance(model, SeLaMethod)
    made = {"main": torch.optim.SGD(trainable(model), lr=0.05, momentum=0.9)}
    images = random_batch(32, views=1).views[0]

    found = []
    for epoch in range(6):
        begin(model, made, images, Progress(4 * epoch, 24, 4))
        found.append(max(float(one.bincount().max()) / 32 for one in model.labels))
        for number in range(4):
            places = torch.arange(8 * number, 8 * number + 8)
            optimise(model, made, batch_of([images[places]], places), Progress(4 * epoch + number, 24, 4))
    return found


def test_without_equal_numbers_all_images_get_one_label(monkeypatch: pytest.MonkeyPatch) -> None:
    """The degenerate solution of section 3.1; there are four labels."""
    with monkeypatch.context() as patch:
        free = shares(patch, constrained=False)
    even = shares(monkeypatch, constrained=True)
    assert free[-1] > 0.9 and max(even) < 0.4
