"""DeepCluster: a fresh classifier for fresh clusters, and what giant clusters do."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.config.errors import SpecError
from harness.methods.base import trainable
from harness.methods.deepcluster import DeepClusterMethod
from harness.optim.schedules import Progress
from harness.train.step import optimise
from tests.methods.pieces import batch_of, begin, built, example, random_batch


def method(number: int = 0) -> tuple[DeepClusterMethod, dict[str, torch.optim.Optimizer], Tensor]:
    model = example("deepcluster", number, images=32)
    assert isinstance(model, DeepClusterMethod)
    made = {"main": torch.optim.SGD(trainable(model), lr=0.1, momentum=0.9)}
    return model, made, random_batch(32).views[0]


def test_every_epoch_has_clusters_and_a_classifier_of_its_own() -> None:
    """The first loss of each is about log K; the classifier's momentum is forgotten, and no other's."""
    model, made, images = method()
    seen = []
    for epoch in range(3):
        before = model.classifier.weight.detach().clone()
        begin(model, made, images, Progress(4 * epoch, 12, 4))
        labels = model.labels.clone()
        assert labels.bincount(minlength=4).min() > 0, "no cluster is empty"
        assert float(model.classifier.weight.detach().std()) == pytest.approx(0.01, rel=0.4)
        assert not torch.equal(model.classifier.weight, before) and not model.classifier.bias.any()
        remembered = {id(one) for one in made["main"].state}
        own = {id(one) for one in model.classifier.parameters()}
        assert not own & remembered and bool(remembered) is (epoch > 0)
        losses = []
        for number in range(4):
            places = torch.arange(8 * number, 8 * number + 8)
            batch = batch_of([images[places]], places)
            losses.append(float(optimise(model, made, batch, Progress(4 * epoch + number, 12, 4))["loss"]))
        seen.append(losses)
        assert torch.equal(model.labels, labels)
    assert abs(sum(losses[0] for losses in seen) / 3 - math.log(4)) < 0.5
    assert 0 < float(model.same) < 1


def test_clusters_count_alike_however_large() -> None:
    """Over an epoch the weights of each cluster's images sum to the same, and to one an image."""
    model, made, images = method()
    begin(model, made, images, Progress(0, 12, 4))
    sums = torch.zeros(4).index_add_(0, model.labels, model.weights)
    torch.testing.assert_close(sums, torch.full((4,), 8.0))
    places = torch.arange(8)
    update = next(model.training_step(batch_of([images[places]], places), Progress(1, 12, 4)))
    losses = F.cross_entropy(model.classifier(model.encoder(images[places])), model.labels[:8], reduction="none")
    counts = model.labels.bincount(minlength=4)
    torch.testing.assert_close(update.loss, (losses * 32 / (4 * counts[model.labels[:8]])).mean())
    assert float(update.log["largest_cluster"]) == pytest.approx(100 * int(counts.max()) / 32)


@pytest.mark.parametrize(("number", "share"), [(0, 1 / 4), (4, 29 / 32)], ids=["uniform", "as they come"])
def test_a_giant_cluster_wins_unless_clusters_count_alike(number: int, share: float) -> None:
    """Section 3.3: 29 of 32 images in one of four clusters, for which those that cannot be told apart are taken."""
    model, made, images = method(number)
    model.labels.zero_()
    model.labels[:3] = torch.arange(1, 4)
    if model.settings.uniform:
        model.weights.copy_(32 / (4 * model.labels.bincount()[model.labels]))
    alike = images[:1].repeat(32, 1, 1, 1)
    for step in range(60):
        optimise(model, made, batch_of([alike], torch.arange(32)), Progress(step, 80, 80))
    taken = model.classifier(model.encoder(alike)).softmax(1)[0, 0]
    assert float(taken.detach()) == pytest.approx(share, abs=0.03)


def test_more_components_than_features_are_refused() -> None:
    with pytest.raises(SpecError, match="features of 16 numbers have no 17 principal components"):
        built("deepcluster", method={"deepcluster": {"clusters": 4, "pca": 17}}, head="none")
