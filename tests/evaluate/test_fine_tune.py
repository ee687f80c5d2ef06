"""Fine-tuning: on a copy, on a balanced subset, and step by step what torch's SGD does."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.data.augment import Crop, Flip
from harness.data.views import Views, batches
from harness.evaluate import label_training
from harness.evaluate.fine_tune import FineTune, few
from harness.evaluate.label_training import Classifier, Recipe, loss, ordinary, starting_from
from harness.evaluate.measurement import Divergence, Unavailable, recorded
from harness.evaluate.resume_state import ResumePoint, ResumeState
from harness.evaluate.trained import EVALUATION_DRAWS, Trained
from harness.models.encoders import Micro
from harness.models.foreign import Timm
from harness.models.norm import BatchNorm, Norm
from harness.models.vit import ViT

Make = Callable[..., Trained]
CPU = torch.device("cpu")


@pytest.fixture
def make(make_trained: Make) -> Make:
    """With an encoder that says how wide it is, as ours do, and networks that can be made anew."""

    def made(**fields: object) -> Trained:
        trained = make_trained(**fields)
        fresh = copy.deepcopy(trained.method)
        for method in (trained.method, fresh):
            method.encoder.out_dim = 8  # type: ignore[assignment]
        with torch.no_grad():
            fresh.encoder[0].weight.mul_(-1)  # type: ignore[index, union-attr, operator]
        trained.untrained = lambda: fresh
        return trained

    return made


def test_the_subset_is_balanced_nested_and_fixed_by_the_seed() -> None:
    labels = torch.arange(1000) % 10
    one, ten = few(labels, 0.01, seed=3), few(labels, 0.1, seed=3)
    assert torch.bincount(labels[one]).tolist() == [1] * 10 and torch.bincount(labels[ten]).tolist() == [10] * 10
    assert set(one.tolist()) <= set(ten.tolist())
    assert torch.equal(one, few(labels, 0.01, seed=3)) and not torch.equal(one, few(labels, 0.01, seed=4))
    assert len(few(labels, 0.001, seed=0)) == 10, "at least one image of every class"
    assert torch.equal(few(labels, 1.0, seed=0), torch.arange(1000))


@pytest.mark.parametrize("weights", ["pretrained", "random"])
def test_the_weights_of_the_run_stay_as_they_are(make: Make, weights: label_training.Weights) -> None:
    trained = make()
    before = copy.deepcopy(trained.method.state_dict())
    found = recorded(FineTune(labels=0.5, weights=weights, epochs=3, batch_size=10, base_lr=1.0)(trained))
    after = trained.method.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before) and not trained.method.training
    assert set(found["values"]) == {"top1", "top5"} and found["convergence"].keys() == {"loss"}


def test_it_starts_from_the_run_or_from_its_initialisation(make: Make) -> None:
    trained = make()
    images = trained.data.test.images[:9].float() / 255  # type: ignore[attr-defined]
    for weights, method in (("pretrained", trained.method), ("random", trained.untrained())):  # type: ignore[misc]
        network = starting_from(trained, weights, 7).eval()  # type: ignore[arg-type]
        with torch.no_grad():
            torch.testing.assert_close(network.encoder(images), method.eval().represent(images))
            assert not network(images).any(), "the classifier starts at zero"
    trained.untrained = None
    with pytest.raises(Unavailable):
        starting_from(trained, "random", 7)


def test_every_step_is_that_of_torch_sgd(make: Make) -> None:
    trained = make()
    split, recipe = trained.data.train, Recipe(steps=5, batch_size=40, lr=0.3, weight_decay=0.01)
    found = starting_from(trained, "pretrained", 7)
    expected = copy.deepcopy(found).train()
    label_training.train(found, split, recipe, seed=4, device=CPU)
    decayed, spared = ([p for p in expected.parameters() if (p.ndim > 1) == kind] for kind in (True, False))
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": spared}]
    optimizer = torch.optim.SGD(groups, lr=1.0, momentum=0.9, nesterov=True)
    views, step = Views(both=(Crop(), Flip()), count=1), 0
    for epoch in range(3):  # two batches of 40 in an epoch of 90
        for batch in batches(split, views, batch_size=40, seed=4 ^ EVALUATION_DRAWS, epoch=epoch, device=CPU):
            if step < 5:
                for group in optimizer.param_groups:
                    group["lr"] = 0.3 * float(1 + torch.cos(torch.tensor(torch.pi * step / 5))) / 2
                optimizer.zero_grad()
                F.cross_entropy(expected(batch.views[0]), batch.labels).backward()
                optimizer.step()
            step += 1
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("entry", "size"),
    [
        (Micro(stem=8, widths=(8, 16)), 16),
        (Timm(name="test_efficientnet"), 32),  # an activation in every batch norm
        (Timm(name="levit_128s"), 32),  # batch norm of vectors
    ],
)
def test_our_batch_norm_becomes_torchs_without_changing_what_it_computes(entry: Micro | Timm, size: int) -> None:
    torch.manual_seed(0)
    encoder = entry.build(Norm(groups=4), size)
    images = torch.rand(16, 3, size, size)
    encoder.train()(images)  # running statistics that are not the identity
    plain = copy.deepcopy(encoder)
    ordinary(plain)
    assert any(isinstance(layer, BatchNorm) for layer in encoder.modules())
    assert not any(isinstance(layer, BatchNorm) for layer in plain.modules())
    with torch.no_grad():
        torch.testing.assert_close(plain.eval()(images), encoder.eval()(images))


def test_stochastic_depth_draws_from_the_epochs_own_streams(make: Make) -> None:
    """The same weights after a resume in the second epoch; others than without it."""
    split = make().split("train")
    recipe = Recipe(steps=3, batch_size=60, lr=0.1)

    def trained(drop_path: float, held: ResumeState | None = None) -> tuple[Tensor, list[ResumeState]]:
        torch.manual_seed(0)
        vit = ViT(patch_size=8, width=16, depth=2, heads=2, drop_path=drop_path)
        network, states = Classifier(vit.build(Norm(), 16), 7), []
        interim = ResumePoint(held, lambda make, done: states.append(copy.deepcopy(make())))
        label_training.train(network, split, recipe, seed=0, device=CPU, interim=interim)
        return network.encoder.patch_embed.proj.weight.detach(), states

    whole, states = trained(0.5)
    assert torch.equal(trained(0.5, states[2])[0], whole)
    assert not torch.equal(trained(0.0)[0], whole)


def test_a_divergence_is_no_result_and_no_failure_of_the_run(make: Make) -> None:
    with pytest.raises(Divergence, match="diverged"):
        list(FineTune(labels=1.0, epochs=2, batch_size=30, base_lr=1e30)(make()))


def test_labels_that_do_not_count_have_no_part_in_the_loss() -> None:
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[1, 0, -1]] * 6)
    by_hand = nn.BCEWithLogitsLoss(reduction="sum")(logits[:, :2], labels[:, :2].float()) / 6
    torch.testing.assert_close(loss(logits, labels), by_hand)
    labels_changed: Tensor = logits.clone()
    labels_changed[:, 2] = 99.0
    torch.testing.assert_close(loss(labels_changed, labels), by_hand)


class Scaled(nn.Module):
    """An encoder whose h is multiplied by a constant, and moved by another."""

    def __init__(self, encoder: nn.Module, by: float, less: float = 0.0) -> None:
        super().__init__()
        self.encoder, self.by, self.less, self.out_dim = encoder, by, less, encoder.out_dim

    def forward(self, images: Tensor) -> Tensor:
        return self.by * (self.encoder(images) - self.less)


@pytest.mark.parametrize("weights", ["pretrained", "random"])
def test_standardised_the_scale_of_h_has_no_part_in_the_training(make: Make, weights: label_training.Weights) -> None:
    def logits(by: float, standardize: bool) -> Tensor:
        trained = make()
        fresh = trained.untrained()  # type: ignore[misc]
        for method in (trained.method, fresh):
            method.encoder = Scaled(method.encoder, by, less=0.1 if standardize else 0.0)
        trained.untrained = lambda: fresh
        split = trained.data.train
        network = starting_from(trained, weights, 7, level_on=split if standardize else None)
        label_training.train(network, split, Recipe(steps=6, batch_size=30, lr=0.5), seed=5, device=CPU)
        return label_training.predictions(network, trained.data.test, seed=5, device=CPU)[0]

    torch.testing.assert_close(logits(8.0, True), logits(1.0, True), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(logits(8.0, False), logits(1.0, False), rtol=1e-1, atol=1e-2)


def test_levelled_features_have_no_mean_and_one_deviation_where_the_training_sees_them(make: Make) -> None:
    trained = make()
    encoder, split = Scaled(trained.method.encoder, 100.0), trained.data.train
    state = copy.deepcopy(encoder.state_dict())
    level = label_training.Level.of(encoder, split, seed=0, device=CPU)
    assert all(torch.equal(state[name], value) for name, value in encoder.state_dict().items()), "on a copy"
    h = encoder.train()(split.images.float() / 255)  # type: ignore[attr-defined]
    seen = level(h.detach()).double()
    assert float(seen.mean(0).abs().max()) < 1e-4
    assert float(seen.var(0, correction=0).mean().sqrt()) == pytest.approx(1.0, abs=1e-3)
    collapsed = label_training.Level.of(Scaled(trained.method.encoder, 0.0), split, seed=0, device=CPU)
    assert float(collapsed.deviation) == 1.0
