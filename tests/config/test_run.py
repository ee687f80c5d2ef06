"""A run's identity: pinned as literals, so that an accidental re-identification of everybody's results fails here."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import Field, ValidationError

from harness.config.run import Neutral, NormSpec, Part, Run, ScheduleSpec, ViewsSpec, evaluation_id, identity

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
    assert evaluation_id({"linear": {"epochs": 100}}) == "linear-ef299c4e"


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


@pytest.mark.parametrize("owner", [Run, ViewsSpec, NormSpec, ScheduleSpec])
def test_a_neutral_field_changes_no_identity_until_it_is_used(owner: type[Part]) -> None:
    """Also within another part, in every way of writing it, and when all seeds are hashed at once."""

    class Later(owner):  # type: ignore[misc, valid-type]
        later: Annotated[list[int], Neutral()] = Field(default=[])
        bounded: Annotated[int | None, Neutral()] = None

    class Whole(Part):
        part: Later

    old: dict[str, Any] = SPEC if owner is Run else SPEC.get(owner.__name__.removesuffix("Spec").lower(), {})
    plain, explicit = Later.model_validate(old), Later.model_validate(old | {"later": [], "bounded": None})
    used = Later.model_validate(old | {"later": [2]})
    assert plain.model_dump() == explicit.model_dump() == owner.model_validate(old).model_dump()
    assert plain.model_dump_json() == owner.model_validate(old).model_dump_json()
    assert Whole(part=explicit).model_dump()["part"] == plain.model_dump()
    assert used.model_dump() == plain.model_dump() | {"later": [2]}
    assert Later.model_validate(used.model_dump()) == used
    if isinstance(plain, Run) and isinstance(used, Run):
        assert plain.id == Run.model_validate(SPEC).id != used.id


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
