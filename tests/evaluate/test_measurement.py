"""What is written down of an evaluation: numbers, rounded arrays, or the reason why there is nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.evaluate.measurement import Collapse, Convergence, Divergence, Measurements, Unavailable, recorded


def test_numbers_and_arrays_part() -> None:
    def found() -> Measurements:
        yield "top1", 12.3456789
        yield "h", torch.tensor([[1.23456789, -0.000123456], [0.0, 1e9]])
        yield "labels", torch.tensor([3, 1])

    assert recorded(found()) == {
        "values": {"top1": 12.3456789},
        "arrays": {"h": [[1.235, -0.0001235], [0.0, 1e9]], "labels": [3, 1]},
    }


def test_numbers_alone_leave_the_file_as_it_always_was() -> None:
    assert recorded(iter([("top1", 1.0)])) == {"values": {"top1": 1.0}}


def test_what_cannot_be_had_is_no_failure_and_leaves_no_half() -> None:
    def found() -> Measurements:
        yield "top1", 1.0
        raise Unavailable("no such data set")

    assert recorded(found()) == {"values": {}, "unavailable": "no such data set"}


def test_a_training_that_diverged_is_recorded_as_that() -> None:
    def found() -> Measurements:
        yield "top1", 50.0
        raise Divergence("its logits are not finite")

    assert recorded(found()) == {"values": {}, "diverged": True}


def ranking(rank: Callable[[Tensor], Any]) -> Measurements:
    """An evaluation of somebody else's, which looks at nothing."""
    yield "top1", 10.0
    rank(torch.tensor([[1.0, torch.nan], [0.0, 1.0]]))
    yield "top5", 50.0


@pytest.mark.parametrize(
    "measurements",
    [
        iter([("h", torch.tensor([1.0, torch.nan]))]),
        iter([("top1", 10.0), ("loss", math.inf)]),
        iter([("top1", 10.0), ("convergence", Convergence(gradient=math.nan))]),
        ranking(lambda scores: scores.argmax(1)),
        ranking(lambda scores: torch.topk(scores, 1)),
        ranking(lambda scores: scores.max(1)),
        ranking(lambda scores: torch.argsort(scores, 1)),
        ranking(lambda scores: scores.sort(1)),
    ],
    ids=["an array", "a number", "convergence", "argmax", "topk", "max", "argsort", "sort"],
)
def test_what_is_not_finite_is_diverged_whoever_yields_or_ranks_it(measurements: Measurements) -> None:
    assert recorded(measurements) == {"values": {}, "diverged": True}


def test_masks_of_infinity_may_be_ranked() -> None:
    def found() -> Measurements:
        yield "nearest", float(torch.eye(3).fill_diagonal_(torch.inf).argmin(1).sum())

    assert recorded(found()) == {"values": {"nearest": 1.0}}


def test_what_is_to_be_known_of_a_number_stands_beside_it() -> None:
    away, held = Convergence(gradient=1e-3, gap=0.02, tolerance=0.01), Collapse(features=3, of=160)
    found = recorded(iter([("top1", 40.0), ("convergence", away), ("collapsed", held)]))
    assert found == {
        "values": {"top1": 40.0},
        "convergence": {"converged": False, "gradient": 1e-3, "gap": 0.02, "tolerance": 0.01},
        "collapsed": {"features": 3, "of": 160},
    }
    assert json.loads(json.dumps(found)) == found
    assert recorded(iter([("top1", 40.0), ("collapsed", Collapse(0, 160))])) == {"values": {"top1": 40.0}}
    assert Convergence(gap=0.01, tolerance=0.01).converged and Convergence(loss=0.1).converged is None
