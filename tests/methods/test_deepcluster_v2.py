"""DeepCluster v2: what it remembers, when it clusters, and a loss by hand."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.data.views import Batch
from harness.methods.base import trainable
from harness.methods.clusters import mutual_information
from harness.methods.deepcluster_v2 import DeepClusterV2Method
from harness.optim.schedules import Progress
from harness.train.step import optimise
from tests.methods.pieces import batch_of, begin, example, random_batch


def begun(number: int = 0) -> tuple[DeepClusterV2Method, dict[str, torch.optim.Optimizer], Tensor]:
    """The method at the beginning of its first epoch of 32 images; its optimiser; the images."""
    model = example("deepcluster_v2", number, images=32)
    assert isinstance(model, DeepClusterV2Method)
    made = {"main": torch.optim.SGD(trainable(model), lr=0.1, momentum=0.9)}
    images = random_batch(32).views[0]
    begin(model, made, images, Progress(0, 16, 4))
    return model, made, images


def step(images: Tensor, places: Tensor) -> Batch:
    return batch_of([images[places], 0.9 * images[places], images[places, :, ::2, ::2]], places)


def test_the_loss_is_that_of_every_view_and_head() -> None:
    model, _, images = begun(2)  # three heads
    places = torch.arange(8, 16)
    batch = step(images, places)
    update = next(model.training_step(batch, Progress(1, 16, 4)))
    large = model.encoder(torch.stack(batch.views[:2], 1).flatten(0, 1)).view(8, 2, -1)
    h = torch.cat([large, model.encoder(batch.views[2])[:, None]], 1)
    z = F.normalize(model.head(h.flatten(0, 1)), dim=1).view(8, 3, -1)
    by_hand = []
    for head in range(3):
        for view in range(3):
            for row, place in enumerate(places):
                logits = model.centroids[head] @ z[row, view] / 0.1
                by_hand.append(-logits.log_softmax(0)[model.labels[head, place]])
    torch.testing.assert_close(update.loss, torch.stack(by_hand).mean())
    names = torch.tensor([2, 0, 3, 1])  # of clusters mean nothing
    model.centroids[0] = model.centroids[0][names]
    model.labels[0] = names.argsort()[model.labels[0]]
    torch.testing.assert_close(next(model.training_step(batch, Progress(1, 16, 4))).loss, update.loss)


def test_embeddings_are_remembered_when_seen_and_clustered_when_an_epoch_begins() -> None:
    model, made, images = begun()
    for epoch in range(2):
        labels, centroids = model.labels.clone(), model.centroids.clone()
        torch.testing.assert_close(centroids.norm(dim=2), torch.ones(2, 4))
        for number in range(3):  # the last eight images are left over
            places = torch.arange(8 * number, 8 * number + 8)
            before, batch = model.memory.clone(), step(images, places)
            with torch.no_grad():
                z = model.embed(model.project, model.embed(model.represent, batch.views))
            optimise(model, made, batch, Progress(4 * epoch + number, 16, 4))
            torch.testing.assert_close(model.memory[:, places], F.normalize(torch.stack(z[:2]), dim=2))
            others = [one for one in range(32) if one not in places]
            assert torch.equal(model.memory[:, others], before[:, others])
        assert torch.equal(model.labels, labels) and torch.equal(model.centroids, centroids), "constants of an epoch"
        begin(model, made, images, Progress(4 * epoch + 4, 16, 4))
        assert not torch.equal(model.centroids, centroids)
    for view in range(2):
        nearest = (model.memory[view] @ model.centroids[view].T).argmax(1)
        assert torch.equal(model.labels[view], nearest), "head j clusters what is remembered of view j"
    assert not torch.equal(*model.memory)


def test_heads_start_from_other_images() -> None:
    model, _, _ = begun(2)
    assert torch.equal(model.memory[0], model.memory[1]), "before the first epoch"
    assert all(float(mutual_information(model.labels[0], model.labels[other])) < 1 for other in (1, 2))
