"""A run's identity: pinned as literals, so that an accidental re-identification of everybody's results fails here."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from harness.spec.run import Run, evaluation_handle, identity

SPEC: dict[str, Any] = {
    "data": {"cifar10": {"train_images": 10000}},
    "views": {"shared": [], "both": [{"crop": {"flip": 0.0}}], "targeted": []},
    "method": {"simclr": {}},
    "encoder": {"micro": {}},
    "norm": {"groups": 1, "momentum": 0.1, "eps": 1e-5},
    "head": {"nonlinear": {"out_dim": 128}},
    "objective": {"nt_xent": {"temperature": 0.5}},
    "optimizer": {"lars": {"lr": 1.0}},
    "schedule": {"batch_size": 256, "epochs": 30, "warmup_epochs": 3},
    "precision": "float32",
    "seed": 0,
}


def test_ids_are_pinned() -> None:
    assert Run.model_validate(SPEC).id == "539ff5e1a01d"
    assert evaluation_handle({"linear": {"epochs": 100}}) == "linear-ef299c4e"


def test_ids_of_all_seeds_at_once_are_those_of_each() -> None:
    run = Run.model_validate(SPEC | {"seed": 5, "data": {"synthetic": {"seed": 0, "name": '"seed":5,\0'}}})
    seeds = [0, 1, 9, 10, 1234]
    assert run.ids(seeds) == {seed: run.model_copy(update={"seed": seed}).id for seed in seeds}
    assert run.ids([5]) == {5: run.id}


def test_the_specification_round_trips() -> None:
    run = Run.model_validate(SPEC)
    assert Run.model_validate(run.spec()) == run
    assert Run.model_validate(run.spec()).id == run.id


def test_key_order_does_not_matter_and_values_do() -> None:
    assert Run.model_validate(dict(reversed(SPEC.items()))).id == Run.model_validate(SPEC).id
    assert Run.model_validate(SPEC | {"seed": 1}).id != Run.model_validate(SPEC).id


def test_defaults_are_part_of_the_identity() -> None:
    """A changed default makes another run; it never lets old results answer for a new meaning."""
    without = {key: value for key, value in SPEC.items() if key not in ("precision", "seed")}
    assert Run.model_validate(without).spec() == Run.model_validate(SPEC).spec()
    assert "precision" in Run.model_validate(without).spec()


def test_runs_are_frozen_and_strict() -> None:
    run = Run.model_validate(SPEC)
    with pytest.raises(ValidationError):
        run.seed = 3
    with pytest.raises(ValidationError):
        Run.model_validate(SPEC | {"sed": 1})
    with pytest.raises(ValidationError):
        Run.model_validate(SPEC | {"schedule": {"batch_size": 1, "epochs": 1}})


def test_not_a_number_has_no_identity() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        identity({"a": float("nan")}, 12)
