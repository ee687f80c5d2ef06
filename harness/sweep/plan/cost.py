"""Estimate the cost of a run from measured times of similar runs, or else from a table."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from harness.components import Evaluation
from harness.config.run import Run
from harness.store import provenance
from harness.store.results import State, Store, StoreError, read_json
from harness.sweep.plan import preflight

if TYPE_CHECKING:
    from harness.sweep.plan.plan import PlannedRun

IMAGES_PER_SECOND: dict[str, tuple[float, float]] = {
    "micro": (1500.0, 20_000.0),
    "resnet18": (12.0, 3000.0),
    "resnet34": (6.0, 1700.0),
    "resnet50": (5.0, 1000.0),
    "resnet101": (2.5, 600.0),
    "resnet152": (1.7, 400.0),
}
"""Guess for two 32x32 views, CIFAR stem, forward and backward: one CPU core, one data-centre GPU. On the slow side."""

MICRO = 16, (40, 80, 160), 0
"""Stem, widths and depth of the narrow network that its guess is of."""
LEAST_WORK = 0.3
"""However few channels: below this share of that work, what takes the time is the making of the views."""
SOME_IMAGES = 50_000
"""Stands in for a number that nobody knows; what is made of it is said to be unknown."""
COUNTS = frozenset({"train_images", "test_images", "validation_images"})
OVERHEAD_S = 2.0
EVALUATION_SHARE = 0.25


@dataclass(frozen=True)
class Price:
    """Seconds of one run; ``measured`` if similar runs on such hardware were timed before.

    ``unknown`` says why the seconds mean nothing: they are those of some other run then.
    """

    training: float
    evaluating: float
    measured: bool
    unknown: str = ""

    @property
    def seconds(self) -> float:
        """Start, training and evaluations together."""
        return OVERHEAD_S + self.training + self.evaluating


@dataclass
class Prices:
    """Rates read from a results folder, for one kind of hardware (``gpu`` name, or None for this CPU).

    A run occupies ``devices`` cores (rates are kept per core, and taken as proportional) or GPUs (a part of one
    where several runs share it; rates are then those of runs that did so too, or a guess). Where ``processes`` share
    one run, each has such a rate: taken as proportional too.
    """

    gpu: str | None
    devices: float = 1
    processes: int = 1
    data: Path | None = None  # where data sets are asked for their size
    rates: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    evaluations: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def read(
        cls,
        store: Store,
        gpu: str | None,
        evaluation_ids: Sequence[str],
        devices: float = 1,
        processes: int = 1,
        data: Path | None = None,
    ) -> Prices:
        """Scan at every finished run; unreadable files are no price. ``gpu=""`` is any GPU."""
        prices = cls(gpu, devices, processes, data)
        for folder in store.all_runs():
            with suppress(StoreError, LookupError, TypeError, ValueError, ArithmeticError, AttributeError):
                about = read_json(folder.provenance)
                if not about or "images_per_second" not in about or not prices._same(about["hardware"]):
                    continue
                spec = read_json(folder.spec)["spec"]
                cores = about.get("threads", 1) if gpu is None else 1
                rate = float(about["images_per_second"]) / cores / about.get("processes", 1)
                if 0 < rate < math.inf:  # rounded, or damaged, it may be none
                    prices.rates[similar(spec)].append(rate)
                for evaluation_id in evaluation_ids:
                    held = read_json(folder.evaluation(evaluation_id))
                    if held is not None:
                        prices.evaluations[_evaluated(spec), evaluation_id].append(float(held["wall_seconds"]) * cores)
        return prices

    def _same(self, hardware: dict[str, Any]) -> bool:
        if self.gpu is not None:
            return bool(hardware["gpu"] == self.gpu or (self.gpu == "" and hardware["gpu"]))
        return not hardware["gpu"] and bool(hardware["cpu"] == provenance.cpu_name())

    @property
    def unit(self) -> str:
        """What :meth:`hours` counts."""
        return "core-hours" if self.gpu is None else "GPU-hours"

    def hours(self, price: Price) -> float:
        """GPU-hours or core-hours of a run, whichever :attr:`unit` is."""
        return price.seconds * self.devices / 3600

    def of(self, run: Run, asked: Iterable[Evaluation], *, train: bool = True) -> Price:
        """Training (unless that is done) plus the evaluations ``asked`` for."""
        key = similar(run.spec())
        count = train_images(run, self.data)
        images = count or SOME_IMAGES
        measured = key in self.rates
        rate = median(self.rates[key]) if measured else guess(run, on_gpu=self.gpu is not None)
        speed = self.devices if self.gpu is None else self.processes
        epoch = images / rate / speed
        training = run.schedule.epochs * epoch
        evaluating = 0.0
        alike = _evaluated(run.spec())
        for one in asked:  # that of an untrained network takes its time as well
            times = self.evaluations.get((alike, one.id))
            evaluating += median(times) / speed if times else EVALUATION_SHARE * max(training, epoch)
        return Price(training if train else 0.0, evaluating, measured, self._unknown(run, count, measured))

    def _unknown(self, run: Run, count: int | None, measured: bool) -> str:
        (encoder,), (data,) = run.encoder, run.data
        if count is None and run.schedule.epochs:
            return f"number of images of {data!r}, which cannot be read here"
        known = measured or encoder in IMAGES_PER_SECOND or not run.schedule.epochs
        return "" if known else f"speed of the encoder {encoder!r}, of which no similar run was timed"

    def left(self, one: PlannedRun, asked: Iterable[Evaluation]) -> Price:
        """What a sweep still has to do of a run: where it is trained already, only the evaluations that it lacks."""
        if one.state is not State.TRAINED:
            return self.of(one.run, asked)
        return self.of(one.run, [two for two in asked if two.id in one.lacking], train=False)


def similar(spec: dict[str, Any]) -> str:
    """Runs that agree in this take equally long per image: the same data, networks, method and batch.

    Of data sets that are the same but for how many of their images are used, those are taken for the same data.
    """
    ((name, fields),) = spec["data"].items()
    data = {name: {key: value for key, value in fields.items() if key not in COUNTS}}
    schedule = spec["schedule"]["batch_size"], spec["norm"]["groups"]
    branches = [(one["count"], one["size"]) for one in spec["views"].get("branches", [])]
    alike = [data, spec["encoder"], spec["precision"], spec["method"], schedule, branches]
    return json.dumps(alike, sort_keys=True)


def _evaluated(spec: dict[str, Any]) -> str:
    """Runs that agree in this are evaluated in the same time: it is of all images together, so their number counts."""
    return json.dumps([similar(spec), spec["data"]], sort_keys=True)


def train_images(run: Run, root: Path | None) -> int | None:
    """Images in one epoch: as the run says, else as the data set in ``root`` has; None where nobody knows."""
    ((_, fields),) = run.data.items()
    known = fields.get("train_images")
    if known:
        return int(known)
    return None if root is None else preflight.images(run.data, root)


def guess(run: Run, *, on_gpu: bool) -> float:
    """Images per second, scaled by the square of the width, and by the pixels of all views after the stem."""
    ((name, fields),) = run.encoder.items()
    if name not in IMAGES_PER_SECOND:  # a field that is called width means something else there
        return IMAGES_PER_SECOND["resnet50"][on_gpu]
    cpu, gpu = IMAGES_PER_SECOND[name]
    size = next(iter(run.data.values())).get("image_size") or 32
    pixels = (size / 32) ** 2 / (16 if fields.get("stem") == "imagenet" else 1)
    width = float(fields.get("width", 1) or 1)
    if name == "micro":
        work = _micro_work(fields["stem"], fields["widths"], fields["depth"])
        width = math.sqrt(max(work / _micro_work(*MICRO), LEAST_WORK))
    views = sum(one.count * ((one.size or size) / size) ** 2 for one in run.views.branches) or 2.0
    return (gpu if on_gpu else cpu) / width**2 / max(pixels, 0.25) / (views / 2)


def _micro_work(stem: int, widths: Sequence[int], depth: int) -> float:
    """Multiplications of one 32x32 image: 3x3 convolutions, every stage at half the resolution of the one before."""
    side, channels, work = 16, stem, 27.0 * stem * 16**2
    for width in widths:
        side = math.ceil(side / 2)
        work += 9 * (channels + 2 * depth * width) * width * side**2
        channels = width
    return work


@dataclass(frozen=True)
class CostEstimate:
    """The price of everything that is to do."""

    hours: float  # of GPUs or cores, as ``unit`` says, summed over runs
    unit: str
    mean: float  # seconds of a run
    wall_seconds: float
    longest_seconds: float
    measured: bool  # every run's rate was measured
    runs: int
    unknown: tuple[str, ...] = ()  # what would have to be known of some of them


def estimate(prices: Prices, runs: Sequence[PlannedRun], asked: Sequence[Evaluation], at_once: int) -> CostEstimate:
    """Sum up what is left to do of ``runs``; ``at_once`` runs share the work evenly."""
    each = [prices.left(one, asked) for one in runs]
    total = sum(one.seconds for one in each)
    longest = max((one.seconds for one in each), default=0.0)
    return CostEstimate(
        hours=sum(prices.hours(one) for one in each),
        unit=prices.unit,
        mean=total / max(1, len(each)),
        wall_seconds=max(longest, total / max(1, min(at_once, len(each)))),
        longest_seconds=longest,
        measured=all(one.measured for one in each),
        runs=len(each),
        unknown=tuple(dict.fromkeys(one.unknown for one in each if one.unknown)),
    )
