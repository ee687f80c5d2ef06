"""Every field of every registered component changes something that can be measured; none is an ornament.

What a component does is taken as a tensor (its result on fixed inputs), once with its probe settings and once with one
field changed. A new component without an observer, or a new field without a second value here, fails.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from harness import components
from harness.data.augment import Color, Crop
from harness.data.datasets import Synthetic
from harness.data.rng import ImageRng
from harness.data.views import Views
from harness.evaluate import finetuning, logistic
from harness.evaluate.head_information import Guess, HeadInformation
from harness.evaluate.linear import Linear
from harness.evaluate.measurement import recorded
from harness.evaluate.spectrum import Spectrum
from harness.evaluate.trained import Trained
from harness.models.norm import Norm
from harness.models.stochastic import drawing
from harness.spec.registry import REGISTRIES
from harness.spec.run import Run
from tests.methods.pieces import built

Fields = dict[str, Any]
BATCH = 24

OTHER: dict[str, Any] = {
    "augment": "none", "base_lr": 0.5, "batch_norm": False, "batch_size": 10, "beta1": 0.5, "beta2": 0.5,
    "captions": 3,
    "brightness": "additive", "classes": 3, "depth": 1, "epochs": 4, "eps": 0.1, "examples": 10, "features": "z",
    "fill": 0.1, "flip": 1.0, "gain": 0.3, "gray_p": 0.7, "hidden_dim": 24, "hidden_layers": 2, "image_size": 16,
    "interpolation": "bicubic", "jitter_p": 0.2, "k": 1, "kernel": 0.5, "label_smoothing": 0.2, "lr": 0.7,
    "lr_scaling": "sqrt", "margin": 0.1, "mining": "semi_hard", "momentum": 0.5, "negatives": "other_view",
    "nesterov": True, "normalize": False, "offset": 0.1, "order": "fixed", "out_dim": 16, "p": 0.3, "path": "other",
    "ratio": [0.5, 2.0], "resize": 24, "scale": [0.5, 0.6], "sigma": [3.0, 4.0], "size": 0.2, "split": "validation",
    "std": [0.3, 0.4], "stem": "cifar", "strength": 0.3, "temperature": 0.05, "test_images": 32, "train_images": 20,
    "trust_coefficient": 0.1, "upright": True, "validation_images": 10, "weight_decay": 0.3, "width": 2,
    "widths": [8, 24], "data": {"synthetic": {"classes": 5}}, "images": 45, "iterations": 2, "labels": 0.3,
    "learning_rates": [0.02], "measure": "map11", "penalties": 3, "perplexity": 8.0, "share": 0.5, "steps": 5,
    "policy": "cifar10", "task": "noise", "threshold": 0.3, "weight_decays": [0.01], "weights": "random",
    "arguments": {"drop_path_rate": 0.5}, "drop_path": 0.5, "heads": 4, "mlp_ratio": 2.0, "patch_size": 16,
    "pool": "mean", "positions": "sincos",
    "solver": "lbfgs", "standardize": True,
}  # fmt: skip
"""A second value for each field, whichever component has it."""

SPECIAL: dict[tuple[str, str], Any] = {
    ("micro", "stem"): 8,
    ("vit", "width"): 32,
    ("timm", "name"): "test_resnet",
    ("linear", "nesterov"): False,
    ("knn", "temperature"): 0.001,
    ("torchvision", "name"): "svhn",
    ("torchvision", "interpolation"): "bilinear",
    ("transfer_linear", "image_size"): 24,
    ("transfer_fine_tune", "image_size"): 24,
    ("transfer_linear", "penalties"): 3,
}
"""Where one value does not suit all components."""

BESIDE: dict[tuple[str, str], Fields] = {
    ("linear", "solver"): {"epochs": 100, "batch_size": 512, "augment": "none", "weight_decay": 0.1},
}
"""What stands beside both values of a field, where the second goes with some settings alone."""

TRANSFER: Fields = {"data": {"synthetic": {"train_images": 40, "test_images": 30}}, "image_size": 16}

BASE: dict[tuple[str, str], Fields] = {
    ("encoder", "vit"): {"patch_size": 8, "width": 16, "depth": 2, "heads": 2},
    ("encoder", "timm"): {"name": "test_vit"},
    ("optimizer", "lars"): {"weight_decay": 0.01},
    ("evaluation", "linear"): {"epochs": 3, "batch_size": 20},
    ("evaluation", "knn"): {"k": 60},
    ("evaluation", "fine_tune"): {"labels": 1.0, "epochs": 2, "batch_size": 20},
    ("evaluation", "transfer_linear"): TRANSFER | {"penalties": 2, "iterations": 4},
    ("evaluation", "transfer_fine_tune"): TRANSFER
    | {"steps": 3, "batch_size": 20, "learning_rates": [0.1], "weight_decays": [0.0]},
    ("evaluation", "head_information"): {"epochs": 2},
    ("evaluation", "tsne"): {"images": 40, "perplexity": 5.0},
    ("dataset", "cifar10"): {"train_images": 100},
    ("dataset", "torchvision"): {"name": "mnist", "image_size": 20},
    ("dataset", "image_folder"): {"path": "pictures", "image_size": 8, "resize": 20},
}
"""Settings under which a small probe can see every field."""


def pixels(size: int = 32) -> Tensor:
    return torch.rand(BATCH, 3, size, size, generator=torch.Generator().manual_seed(0))


def of_augmentation(component: Any, folder: Path) -> Tensor:
    found: Tensor = component(pixels(), ImageRng(seed=0, epoch=0, images=torch.arange(BATCH)))
    return found


def of_dataset(component: Any, folder: Path) -> Tensor:
    """Sizes and labels of the splits, and a few images."""
    data = component.load(folder)
    splits = [split for split in (data.train, data.validation, data.test) if split is not None]
    parts = [torch.tensor([len(split) for split in splits])]
    for split in splits:
        (images,) = split.stream([torch.arange(4)], (), seed=0, epoch=0, workers=1)
        parts += [column.flatten() for _, column in sorted(split.columns.items())]
        parts += [(images[0] if isinstance(images, list) else images).flatten()]
    return torch.cat([part.double() for part in parts])


def shape_of(network: nn.Module) -> Tensor:
    """Names, sizes and strides tell networks apart; no arithmetic needed."""
    sizes = [f"{name} {tuple(one.shape)}" for name, one in network.state_dict().items()]
    layers = [str(layer) for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    return torch.tensor(list("; ".join([*sizes, *layers]).encode()), device="cpu")


def of_encoder(component: Any, folder: Path) -> Tensor:
    """Of a small network what it computes in training, of a large one how it is made."""
    with torch.device("meta"):
        network = component.build(Norm())
        if sum(one.numel() for one in network.parameters()) > 1e6:
            return shape_of(network)
    torch.manual_seed(0)
    network = component.build(Norm())
    with torch.no_grad(), drawing(network, ImageRng(seed=0, epoch=0, images=torch.arange(BATCH))):
        found: Tensor = network(pixels())
    return found


def of_head(component: Any, folder: Path) -> Tensor:
    return shape_of(component.build(32, Norm()))


def of_objective(component: Any, folder: Path) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    z = [torch.randn(12, 5, generator=draw) for _ in range(2)]
    found: Tensor = component(z[0], torch.arange(12) % 5) if "label_smoothing" in vars(component) else component(z)
    return found


def of_optimizer(component: Any, folder: Path) -> Tensor:
    """The weights after three steps at the peak rate of a batch of 1024."""
    torch.manual_seed(0)
    network = nn.Linear(6, 4)
    optimizer = component.build(network)
    for group in optimizer.param_groups:
        group["lr"] = component.peak_lr(1024)
    for _ in range(3):
        optimizer.zero_grad()
        network(torch.linspace(-1, 1, 30).view(5, 6)).square().mean().backward()
        optimizer.step()
    return torch.cat([one.detach().flatten() for one in network.parameters()])


def of_evaluation(component: Any, folder: Path) -> Tensor:
    torch.manual_seed(0)
    kind = "linear" if isinstance(component, Spectrum) else "nonlinear"

    def fresh() -> Any:
        return built("simclr", encoder={"micro": {"stem": 8, "widths": [8]}}, head={kind: {"out_dim": 8}})

    method = fresh()
    with torch.no_grad():  # running statistics that are not the identity
        method.train().project(method.represent(pixels(16)))
    data = Synthetic(train_images=90, validation_images=60, test_images=50, image_size=16, classes=7).load(folder)
    views = Views(both=(Crop(), Color()))
    about: Any = {"method": method, "data": data, "views": views, "batch_size": 64, "seed": 5, "untrained": fresh}
    trained = Trained(**about, device=torch.device("cpu"))
    seen: list[Tensor] = []  # accuracies of a few images are too coarse to show every field

    def watched(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            seen.append((found := function(*arguments, **named))[0].flatten().double())
            return found

        return call

    with (
        patch.object(finetuning, "predictions", watched(finetuning.predictions)),
        patch.object(logistic, "fit", watched(logistic.fit)),
    ):
        made = recorded(component(trained))
    if isinstance(component, Linear):
        seen.append(component.fit(trained).weight.flatten().double())
    if isinstance(component, HeadInformation):
        x, answers = trained.changed("train", component.features, Guess(component.task))
        probe = component.fit(x, answers, len(Guess(component.task).shares), 5)
        seen += [one.detach().flatten().double() for one in probe.parameters()]
    return torch.cat([torch.tensor(list(json.dumps(made).encode())).double(), *seen])


OBSERVERS: dict[str, Callable[[Any, Path], Tensor]] = {
    "augmentation": of_augmentation,
    "dataset": of_dataset,
    "encoder": of_encoder,
    "head": of_head,
    "objective": of_objective,
    "optimizer": of_optimizer,
    "evaluation": of_evaluation,
}


def knobs() -> Iterator[Any]:
    assert components  # its import registers every component
    for kind, registry in REGISTRIES.items():
        for name in registry.names():
            for field in dataclasses.fields(registry.get(name)):
                yield pytest.param(kind, name, field.name, id=f"{kind}-{name}-{field.name}")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two image folders, of 16x24 pictures of two classes."""
    root = tmp_path_factory.mktemp("knobs")
    for index, name in enumerate(("pictures", "other")):
        for part in ("train", "val"):
            for label in ("a", "b"):
                (root / name / part / label).mkdir(parents=True)
                for number in range(12):
                    noise = torch.rand(16, 24, 3, generator=torch.Generator().manual_seed(100 * index + number))
                    picture = Image.fromarray((255 * noise).byte().numpy())
                    picture.save(root / name / part / label / f"{number}.png")
                    with (root / name / "captions.tsv").open("a", encoding="utf-8") as captions:
                        captions.write(f"{part}/{label}/{number}.png\tPicture {number} of {label} in {part}\n")
    return root


def differ(first: Tensor, second: Tensor) -> bool:
    return first.shape != second.shape or not torch.equal(first, second)


@pytest.mark.parametrize(("kind", "name", "field"), [*knobs()])
def test_every_field_changes_what_its_component_does(kind: str, name: str, field: str, pictures: Path) -> None:
    registry, base = REGISTRIES[kind], BASE.get((kind, name), {}) | BESIDE.get((name, field), {})
    changed = base | {field: SPECIAL[name, field] if (name, field) in SPECIAL else OTHER[field]}
    before, after = ({name: fields} for fields in (base, changed))
    assert registry.resolve(before) != registry.resolve(after), "the second value is the first"
    if name in ("cifar10", "torchvision"):
        return  # needs its files; tests/data/test_datasets.py and test_vision.py change its fields
    observe = OBSERVERS[kind]
    first, again, second = (observe(registry.build(entry), pictures) for entry in (before, before, after))
    assert not differ(first, again), "not deterministic: a difference would prove nothing"
    assert differ(first, second), f"{field} of {name} changes nothing"


RUN: Fields = {
    "data": {"synthetic": {}}, "views": {"shared": [], "both": [], "targeted": []}, "method": {"simclr": {}},
    "encoder": {"micro": {}}, "norm": {"groups": 1}, "head": {"none": {}}, "objective": {"nt_xent": {}},
    "optimizer": {"lars": {}}, "schedule": {"batch_size": 16, "epochs": 2}, "precision": "float32", "seed": 0,
}  # fmt: skip
CHANGED: Fields = {
    "data": {"synthetic": {"classes": 3}}, "views": {"both": [{"flip": {}}]}, "method": {"supervised": {}},
    "encoder": {"micro": {"depth": 1}}, "norm": {"groups": 2}, "head": {"linear": {}},
    "objective": {"nt_logistic": {}}, "optimizer": {"sgd": {}}, "schedule": {"batch_size": 16, "epochs": 3},
    "precision": "bfloat16", "seed": 1,
}  # fmt: skip


@pytest.mark.parametrize("key", [*Run.model_fields])
def test_every_key_of_a_run_makes_another_run(key: str) -> None:
    assert Run.model_validate(RUN).id != Run.model_validate(RUN | {key: CHANGED[key]}).id
