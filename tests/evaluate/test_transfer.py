"""Transfer: what is chosen is chosen on validation images, fitted again on both, and tested once."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from harness import components
from harness.config.registry import evaluation
from harness.data.datasets import Synthetic
from harness.evaluate import logistic
from harness.evaluate.measurement import Divergence, Unavailable
from harness.evaluate.scores import measured
from harness.evaluate.trained import Trained
from harness.evaluate.transfer import TransferFineTune, TransferLinear, held_out

Make = Callable[..., Trained]
assert components  # its import registers every data set
ELSEWHERE: dict[str, Any] = {"train_images": 60, "test_images": 40, "classes": 3, "image_size": 16}


def test_the_linear_protocol_step_by_step(make_trained: Make) -> None:
    trained = make_trained()
    sizes = ELSEWHERE | {"validation_images": 30}
    found = dict(TransferLinear(data={"synthetic": sizes}, penalties=4, iterations=60)(trained))
    there = trained.elsewhere(Synthetic(**sizes).load(Path()))
    (x, y), (v, w), (t, u) = (there.features(name) for name in ("train", "validation", "test"))
    penalties = [10.0**exponent for exponent in (5.0, 4 / 3, -7 / 3, -6.0)]  # strongest first: of equals it wins
    scores = [measured(model.scores(v), w)["top1"] for _, model in logistic.path(x, y, 3, penalties, iterations=60)]
    best = penalties[scores.index(max(scores))]
    final = logistic.fit(torch.cat([x, v]), torch.cat([y, w]), 3, best, iterations=300)
    assert found["log10_penalty"] == pytest.approx(math.log10(best))
    assert found["top1"] == pytest.approx(measured(final.scores(t), u)["top1"], abs=100 / 40 + 1e-9)


def test_without_validation_images_every_fifth_of_a_class_is_held_out() -> None:
    labels = torch.arange(50) % 5
    kept, held = held_out(labels)
    assert torch.bincount(labels[held]).tolist() == [2] * 5 and sorted([*kept.tolist(), *held.tolist()]) == [*range(50)]
    several = torch.zeros(10, 3, dtype=torch.long)
    assert held_out(several)[1].tolist() == [4, 9]


def test_the_test_split_is_looked_at_once(make_trained: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    ask = Trained.features

    def noted(self: Trained, split: str, *others: Any, **named: Any) -> Any:
        asked.append(split)
        return ask(self, split, *others, **named)

    monkeypatch.setattr(Trained, "features", noted)
    found = TransferLinear(data={"synthetic": ELSEWHERE}, penalties=3, iterations=5)(make_trained())
    assert "test" not in asked
    list(found)
    assert asked == ["train", "test"]


def test_a_data_set_that_is_not_here_is_unavailable_with_its_remedy(make_trained: Make, tmp_path: Path) -> None:
    trained = make_trained(root=tmp_path)
    for protocol in (TransferLinear, TransferFineTune):
        with pytest.raises(Unavailable, match=r"python -m harness\.data dtd"):
            list(protocol(data={"torchvision": {"name": "dtd"}})(trained))
    with pytest.raises(Unavailable, match="one label per image"):
        list(TransferLinear(data={"synthetic": ELSEWHERE}, measure="map11")(trained))


def test_the_remedy_can_be_typed_where_the_folder_is_named_like_our_module(
    make_trained: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Unavailable) as said:
        list(TransferLinear(data={"torchvision": {"name": "dtd"}})(make_trained(root=Path("data"))))
    assert "dtd is not in ROOT" in str(said.value) and str(tmp_path) not in str(said.value)
    assert str(said.value).endswith("python -m harness.data dtd --root ROOT")


@pytest.mark.parametrize(
    ("protocol", "size", "resize"), [("linear", 224, 224), ("fine_tune", 224, 256), ("fine_tune", 32, 32)]
)
def test_the_size_is_filled_in_as_the_protocol_wants_it(protocol: str, size: int, resize: int) -> None:
    entry = {f"transfer_{protocol}": {"data": {"torchvision": {"name": "dtd"}}, "image_size": size}}
    ((_, fields),) = evaluation.resolve(entry).items()
    assert fields["data"]["torchvision"] == {
        "name": "dtd", "image_size": size, "resize": resize, "interpolation": "bicubic"
    }  # fmt: skip
    assert evaluation.resolve({f"transfer_{protocol}": fields}) == {f"transfer_{protocol}": fields}, "not canonical"
    assert evaluation.build(entry).variant == "dtd"


def test_the_papers_grids_are_the_defaults() -> None:
    made = TransferFineTune(data="cifar10")
    assert made.learning_rates == (1e-4, 0.0003162, 1e-3, 0.003162, 1e-2, 0.03162, 0.1)
    assert made.weight_decays == (0.0, 1e-6, 3.162e-6, 1e-5, 3.162e-5, 1e-4, 0.0003162, 1e-3)
    assert (made.steps, made.batch_size, TransferLinear(data="cifar10").penalties) == (20_000, 256, 45)


def test_fine_tuning_chooses_a_pair_and_leaves_out_one_that_diverges(make_trained: Make) -> None:
    trained = make_trained()
    trained.method.encoder.out_dim = 8  # type: ignore[assignment]
    before = {name: value.clone() for name, value in trained.method.state_dict().items()}
    protocol = TransferFineTune(
        data={"synthetic": ELSEWHERE}, steps=40, batch_size=20, learning_rates=(1e30, 0.2), weight_decays=(0.0,)
    )
    found = dict(protocol(trained))
    assert found["lr"] == 0.2 and found["weight_decay"] == 0.0
    assert found["top1"] > 50, "three classes of stripes are easy"
    assert all(torch.equal(before[name], value) for name, value in trained.method.state_dict().items())
    protocol = TransferFineTune(
        data={"synthetic": ELSEWHERE}, steps=40, batch_size=20, learning_rates=(1e30, 1e31), weight_decays=(0.0,)
    )
    with pytest.raises(Divergence):
        list(protocol(trained))


@pytest.mark.parametrize(("iterations", "converged"), [(1, 0.0), (1000, 1.0)])
def test_it_says_whether_the_last_fit_converged(make_trained: Make, iterations: int, converged: float) -> None:
    found = dict(TransferLinear(data={"synthetic": ELSEWHERE}, penalties=1, iterations=iterations)(make_trained()))
    assert found["converged"] == converged
