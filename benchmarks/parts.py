"""d. LARS beside timm's, the linear probe beside torch.optim, kNN beside lightly's; start and memory of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks import process
from benchmarks.clock import Contender, Effort, in_turns
from benchmarks.pretraining import LIGHTLY, parts_of
from benchmarks.record import OURS, Row, Section, Target, rows_of
from harness.data.datasets import Dataset, Resident
from harness.data.views import Views
from harness.evaluate.knn import KNN
from harness.evaluate.linear import Linear, cosine
from harness.evaluate.trained import Trained
from harness.methods.base import Method
from harness.models.encoders import ResNet18, ResNet50
from harness.models.norm import Norm
from harness.optim.optimizers import LarsOptimizer

BANK, QUERIES, WIDTH, CLASSES = 10_000, 2_000, 160, 10
TINY_BANK, TINY_QUERIES = 512, 64
TIMM, TIMM_SINGLE = "timm, foreach", "timm, one by one"


def with_gradients(network: nn.Module) -> nn.Module:
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter) * 1e-3
    return network


def lars(network: nn.Module) -> Iterator[Contender]:
    """A step of each, on gradients that stay (all add the decay to them in place)."""
    from timm.optim.lars import Lars as TimmLars

    with_gradients(network)
    groups = LarsOptimizer(lr=0.1, weight_decay=1e-6).param_groups(network)
    yield Contender(OURS, LarsOptimizer(lr=0.1, weight_decay=1e-6).build(network).step)
    for name, foreach in ((TIMM, True), (TIMM_SINGLE, False)):
        # decay differs by group as ours does; timm adapts where there is decay
        optimizer = TimmLars([dict(one) for one in groups], lr=0.1, momentum=0.9, foreach=foreach)
        yield Contender(name, optimizer.step)


class Finished(Trained):
    """Features as if a run had made them: [N, 160] around ten centers."""

    def __init__(self, bank: int, queries: int) -> None:
        generator = torch.Generator().manual_seed(0)
        centers = torch.randn(CLASSES, WIDTH, generator=generator)

        def drawn(count: int) -> tuple[Tensor, Tensor]:
            labels = torch.randint(0, CLASSES, (count,), generator=generator)
            return (centers[labels] + 3 * torch.randn(count, WIDTH, generator=generator)).relu_(), labels

        self.train, self.test = drawn(bank), drawn(queries)
        nothing = Resident(torch.empty(0, 3, 32, 32, dtype=torch.uint8), torch.empty(0, dtype=torch.int64))
        super().__init__(
            method=cast(Method, nn.Identity()),
            data=Dataset(nothing, None, nothing, tuple(str(one) for one in range(CLASSES))),
            views=Views(),
            batch_size=256,
            seed=0,
            device=torch.device("cpu"),
        )

    def features(self, split: str, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        return self.train if split == "train" else self.test


def plain_probe(x: Tensor, labels: Tensor, epochs: int, batch: int = 512) -> None:
    """What a script does with features in memory: ``nn.Linear``, ``F.cross_entropy``, ``torch.optim.SGD``."""
    layer = nn.Linear(x.shape[1], CLASSES)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    steps = len(x) // batch
    for epoch in range(epochs):
        order = torch.randperm(len(x))
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = 0.1 * batch / 256 * cosine(epoch * steps + step, epochs * steps)
            chosen = order[step * batch : (step + 1) * batch]
            loss = F.cross_entropy(layer(x[chosen]), labels[chosen])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()


def probes(trained: Finished, epochs: int) -> list[Contender]:
    probe = Linear(augment="none", epochs=epochs)
    return [
        Contender(OURS, lambda: probe.descend(trained), epochs),
        Contender("loop over torch.optim.SGD", lambda: plain_probe(*trained.train, epochs), epochs),
    ]


@torch.no_grad()
def plain_knn(queries: Tensor, bank: Tensor, labels: Tensor, k: int = 200, temperature: float = 0.1) -> Tensor:
    """The loop of Wu et al.'s code that most repositories carry: 256 queries at a time, a one-hot scatter, a sum."""
    bank, found = F.normalize(bank).T, []
    for some in torch.split(F.normalize(queries), 256):
        similarity, places = (some @ bank).topk(k)
        nearest = labels.expand(len(some), -1).gather(1, places)
        votes = torch.zeros(len(some) * k, CLASSES).scatter(1, nearest.view(-1, 1), 1.0).view(len(some), k, CLASSES)
        found.append((votes * (similarity / temperature).exp()[:, :, None]).sum(1).argsort(1, descending=True)[:, 0])
    return torch.cat(found)


def neighbours(trained: Finished) -> list[Contender]:
    (bank, labels), (queries, _) = trained.train, trained.test
    found = [
        Contender(OURS, lambda: KNN().classify(queries, bank, labels, CLASSES), len(queries)),
        Contender("plain loop", lambda: plain_knn(queries, bank, labels), len(queries)),
    ]
    if find_spec("lightly"):
        from lightly.utils.benchmarking import knn_predict

        def lightlys() -> None:
            across = F.normalize(bank).T.contiguous()
            for some in torch.split(F.normalize(queries), 256):
                knn_predict(some, across, labels, CLASSES, 200, 0.1)

        found.append(Contender(LIGHTLY, lightlys, len(queries)))
    return found


def run(effort: Effort) -> Section:
    """The whole section."""
    section = Section("d", "Optimiser, evaluations, and the process of a run")
    if find_spec("timm"):
        networks: dict[str, Callable[..., nn.Module]] = {
            "micro": parts_of("micro", 256).encoder.build,
            "ResNet-18": ResNet18(stem="cifar").build,
            "ResNet-50": ResNet50().build,
        }
        for name, build in networks.items():
            timings = in_turns(list(lars(build(Norm()))), budget_s=effort.seconds(8.0))
            section.rows += rows_of(f"LARS step, {name}", timings)
            ratio = timings[TIMM].times(timings[OURS])[1]
            section.targets.append(Target(f"LARS, {name}: timm (foreach) over ours", ratio, at_least=1.0))
    bank, queries = effort.of(BANK, BANK, TINY_BANK), effort.of(QUERIES, QUERIES, TINY_QUERIES)
    trained = Finished(bank, queries)
    probe = in_turns(probes(trained, effort.of(10, 2, 1)), budget_s=effort.seconds(12.0))
    section.rows += rows_of(f"linear probe, {bank:,} x {WIDTH}", probe, unit="ms per epoch")
    knn = in_turns(neighbours(trained), budget_s=effort.seconds(12.0))
    section.rows += rows_of(f"kNN, {queries:,} queries of {bank:,}", knn, unit="ms per query")
    starts = in_turns(process.starts(), budget_s=effort.seconds(16.0))
    section.rows += rows_of("a run of one step", starts, unit="s", scale=1.0, against=process.FORKED)
    for name, mib in process.memories(effort.of(10_000, 10_000, 256)).items():
        section.rows.append(Row("memory of a micro run", name, memory_mib=mib))
    return section
