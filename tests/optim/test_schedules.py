"""Schedules against tables of the papers and plain formulas, and how YAML may name them."""

from __future__ import annotations

import math

import pytest

from harness import components
from harness.config.errors import SpecError
from harness.config.registry import method, optimizer, schedule
from harness.optim.schedules import Progress, Schedule, value_of

assert components  # its import registers every component


def at(entry: dict[str, object], step: int, steps: int = 100, per_epoch: int = 10) -> float:
    made: Schedule = schedule.build(entry)
    return made(Progress(step, steps, per_epoch))


@pytest.mark.parametrize(
    ("base", "expected"),
    [(0.996, [0.99600, 0.99659, 0.99800, 0.99941, 1]), (0.99, [0.99000, 0.99146, 0.99500, 0.99854, 1])],
)
def test_cosine_is_byols_momentum(base: float, expected: list[float]) -> None:
    """``1 - (1 - base) (cos(pi k / K) + 1) / 2``, section 3.2."""
    found = [at({"cosine": {"start": base, "end": 1.0}}, step) for step in (0, 25, 50, 75, 100)]
    assert found == pytest.approx(expected, abs=5e-6)


def test_a_schedule_of_some_epochs_stays_where_it_ends() -> None:
    entry = {"linear": {"start": 0.04, "end": 0.07, "epochs": 3}}
    assert [at(entry, step) for step in (0, 10, 20, 30, 99)] == pytest.approx([0.04, 0.05, 0.06, 0.07, 0.07])
    assert at({"cosine": {"start": 1.0, "end": 0.0, "epochs": 4}}, 20) == pytest.approx(0.5)


def test_step_is_moco_v1s_rate() -> None:
    entry = {"step": {"start": 0.03, "factor": 0.1, "epochs": [120, 160]}}
    found = [at(entry, epoch * 10, 2000) for epoch in (0, 119, 120, 159, 160, 199)]
    assert found == pytest.approx([0.03, 0.03, 0.003, 0.003, 0.0003, 0.0003])


def test_warm_up_meets_what_follows_it() -> None:
    """As ``learning_rate`` of SimCLR: a line from 0, and a cosine over the steps that are left."""
    entry = {"warmup": {"epochs": 2, "then": {"cosine": {"start": 0.8, "end": 0.0}}}}
    line = [0.8 * step / 20 for step in range(20)]
    cosine = [0.4 * (1 + math.cos(math.pi * step / 80)) for step in range(80)]
    assert [at(entry, step) for step in range(100)] == pytest.approx(line + cosine)
    stepped = {"warmup": {"epochs": 1, "then": {"step": {"start": 1.0, "epochs": [3]}}}}
    assert [at(stepped, step) for step in (5, 29, 30)] == pytest.approx([0.5, 1.0, 0.1])


def test_a_number_is_itself() -> None:
    assert value_of(0.99, Progress(3, 8, 4)) == 0.99
    assert optimizer.resolve({"sgd": {"weight_decay": 1}}) == optimizer.resolve({"sgd": {"weight_decay": 1.0}})
    assert optimizer.resolve("lars")["lars"]["weight_decay"] == 1e-6


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"moco": {"momentum": 1.5}}, "at most 1"),
        ({"moco": {"momentum": {"cosine": {"start": 0.9, "end": 1.1}}}}, "at most 1"),
        ({"moco": {"temperature": 0}}, "above 0"),
        ({"moco": {"temperature": {"linear": {"start": 0.1, "end": 0}}}}, "above 0"),
        ({"moco": {"momentum": {"cosin": {"start": 0.9, "end": 1}}}}, "'cosine'"),
        ({"moco": {"momentum": {"cosine": {"start": 0.9, "ende": 1}}}}, "'end'"),
        ({"moco": {"momentum": "0.9"}}, "unknown schedule"),
        ({"moco": {"momentum": True}}, "neither a name nor"),
        ({"byol": {"predictor": {"mlq": {}}}}, "'mlp'"),
        ({"byol": {"predictor": {"mlp": {"out_dim": "8"}}}}, "out_dim"),
        (
            {"byol": {"momentum": {"warmup": {"epochs": 1, "then": {"warmup": {"epochs": 1, "then": 1}}}}}},
            "warm-up after",
        ),
    ],
)
def test_what_no_value_can_be_is_refused_in_one_line(entry: dict[str, object], said: str) -> None:
    with pytest.raises(SpecError, match=said) as raised:
        method.resolve(entry)
    assert len(raised.value.complaints) == 1 and "\n" not in str(raised.value)
