"""Prices: of the data that are here, from times of the same kind of run, and unknown where nobody knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from harness import components
from harness.config.errors import SpecError
from harness.config.experiment import load_experiment
from harness.config.run import Run
from harness.store import provenance
from harness.store.results import Store, write_json
from harness.sweep.plan.budget import select
from harness.sweep.plan.cost import Prices, estimate, guess, similar
from harness.sweep.plan.plan import Plan, make_plan
from harness.sweep.slurm import submit
from harness.sweep.slurm.config import Cluster
from tests.sweep.plan.test_plan import Write

PICS = ("{synthetic: {train_images: 64, test_images: 32}}", "{image_folder: {path: pics, image_size: 32, resize: 36}}")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """160 pictures to train on, 40 to test."""
    for split, count in (("train", 40), ("val", 10)):
        for label in range(4):
            (tmp_path / "data" / "pics" / split / f"c{label}").mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (36, 36)).save(tmp_path / "data" / "pics" / split / f"c{label}" / f"{number}.png")
    return tmp_path / "data"


def planned(write: Write, results: Store, *changes: tuple[str, str]) -> Plan:
    return make_plan(load_experiment(write(*changes)), results)


def test_an_epoch_of_a_folder_is_as_long_as_its_pictures_are_many(write: Write, results: Store, pictures: Path) -> None:
    """Measured: half a second a run."""
    plan = planned(write, results, PICS)
    cost = estimate(Prices(None, data=pictures), plan.to_do, plan.evaluations, 1)
    assert cost.unknown == () and 0.05 < cost.mean < 5
    on_cluster = submit.prices_on(results, plan.evaluations, Cluster(gpus=0, cpus=1), pictures)
    (group,) = submit.group(plan, plan.to_do, Cluster(gpus=0, cpus=1), on_cluster)
    assert group.minutes == 30


def test_what_nobody_knows_is_said_to_be_unknown(write: Write, results: Store, tmp_path: Path) -> None:
    plan = planned(write, results, PICS)
    prices = Prices(None, data=tmp_path / "nowhere")
    cost = estimate(prices, plan.to_do, plan.evaluations, 1)
    assert len(cost.unknown) == 1 and "image_folder" in cost.unknown[0]
    with pytest.raises(SpecError, match="--budget: unknown number of images"):
        select([(plan, plan.to_do)], prices, 1.0)
    (group,) = submit.group(plan, plan.to_do, Cluster(gpus=0, cpus=1), prices)
    assert group.minutes == 240


def test_an_encoder_that_was_never_timed_has_no_price_and_a_field_of_its_own(write: Write, results: Store) -> None:
    run = next(iter(planned(write, results).runs.values())).run
    foreign = run.model_copy(update={"encoder": {"someones": {"width": 1024}}})
    prices = Prices(None)
    assert "someones" in prices.of(foreign, []).unknown
    assert prices.of(foreign, []).seconds == prices.of(run.model_copy(update={"encoder": {"other": {}}}), []).seconds
    prices.rates[similar(foreign.spec())].append(64.0)
    assert prices.of(foreign, []).measured and prices.of(foreign, []).unknown == ""
    assert prices.of(foreign, []).training == pytest.approx(1.0)


@pytest.mark.parametrize(
    "change",
    [
        {"data": {"cifar10": {"train_images": 64}}},
        {"data": {"synthetic": {"train_images": 64, "image_size": 64}}},
        {"encoder": {"micro": {"width": 2}}},
        {"precision": "bfloat16"},
        {"schedule": {"batch_size": 16, "epochs": 1}},
    ],
)
def test_times_of_other_runs_are_no_measure(write: Write, results: Store, change: dict[str, Any]) -> None:
    run = next(iter(planned(write, results).runs.values())).run
    other = Run.model_validate(run.spec() | change)
    assert similar(other.spec()) != similar(run.spec())
    longer = run.model_copy(update={"schedule": run.schedule.model_copy(update={"epochs": 9}), "seed": 5})
    assert similar(longer.spec()) == similar(run.spec()) and components


def timed(plan: Plan, run: str, rate: Any = 640.0, evaluating: float = 0.5) -> None:
    """As if this run had been trained here at so many images a second."""
    folder = plan.store.run(run)
    folder.create(plan.runs[run].run.spec())
    hardware = {"cpu": provenance.cpu_name(), "gpu": None}
    about = {"images_per_second": rate, "threads": 1, "hardware": hardware}
    folder.provenance.write_text(json.dumps(about))
    for one in plan.evaluations:
        write_json(folder.evaluation(one.id), {"run": run, "values": {"top1": 1.0}, "wall_seconds": evaluating})


def price(plan: Plan, run: str) -> float:
    prices = Prices.read(plan.store, None, [one.id for one in plan.evaluations])
    return prices.of(plan.runs[run].run, plan.evaluations).seconds


@pytest.mark.parametrize("rate", [0, 0.0, -1.0, float("nan"), float("inf"), "fast", None, []])
def test_a_rate_that_is_none_is_no_price(write: Write, results: Store, rate: Any) -> None:
    """Rates are written rounded: of a large network on a slow core nothing may be left."""
    plan = planned(write, results)
    run = next(iter(plan.runs))
    timed(plan, run, rate)
    assert 0 < price(plan, run) < 1000


def test_evaluations_of_more_images_take_longer_than_was_measured_of_few(write: Write, results: Store) -> None:
    plan = planned(write, results)
    timed(plan, next(iter(plan.runs)), evaluating=1000.0)
    run, same = list(plan.runs)[:2]
    assert price(plan, run) == price(plan, same) == pytest.approx(2 + 64 / 640 + 1000)
    more = planned(write, results, ("train_images: 64", "train_images: 640"))
    assert price(more, next(iter(more.runs))) == pytest.approx(2 + 1.25 * 640 / 640), (
        "the rate counts, the sum does not"
    )


def test_to_evaluate_an_untrained_network_takes_its_time(write: Write, results: Store) -> None:
    path = write(("{train_images: 64", "{train_images: 6400000"), ("schedule.epochs: 1", "schedule.epochs: 0"))
    plan = make_plan(load_experiment(path), results)
    assert price(plan, next(iter(plan.runs))) > 100


@pytest.mark.parametrize(
    ("network", "measured"),  # images per second and core in results/: medians of runs at micro scale
    [
        ({"stem": 16, "widths": [40, 80, 160], "depth": 0}, 1497),
        ({"stem": 16, "widths": [40, 80, 160], "depth": 1}, 664),
        ({"stem": 32, "widths": [80, 160, 320], "depth": 0}, 821),
        ({"stem": 8, "widths": [24, 40, 80], "depth": 0}, 4277),
    ],
)
def test_the_guess_follows_the_work_of_the_narrow_network(
    write: Write, results: Store, network: dict[str, Any], measured: float
) -> None:
    run = next(iter(planned(write, results).runs.values())).run
    found = guess(run.model_copy(update={"encoder": {"micro": network}}), on_gpu=False)
    assert 0.3 < found / measured < 3
    wider = {"micro": network | {"widths": [10 * one for one in network["widths"]]}}
    assert guess(run.model_copy(update={"encoder": wider}), on_gpu=False) < found / 10
