"""What is written down of an evaluation: numbers, rounded arrays, or the reason why there is nothing."""

from __future__ import annotations

import json

import pytest
import torch

from harness.evaluate.measurement import Divergence, Measurements, Unavailable, recorded


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


def test_an_array_that_json_could_not_hold_is_refused() -> None:
    with pytest.raises(FloatingPointError, match="h is not finite"):
        json.dumps(recorded(iter([("h", torch.tensor([1.0, torch.nan]))])))


def test_a_training_that_diverged_is_recorded_as_that() -> None:
    def found() -> Measurements:
        yield "top1", 50.0
        raise Divergence("its logits are not finite")

    assert recorded(found()) == {"values": {}, "diverged": True}
