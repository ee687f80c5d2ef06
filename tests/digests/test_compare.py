"""Two records against each other: what differs, by how much, whose fault it is, and which runs it concerns."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest
import torch

from harness.digests.compare import (
    LOOP,
    RESUMED,
    SHARED,
    TOLERANCE,
    Example,
    Record,
    RecordComparison,
    Use,
    amount,
    evaluated_with,
    file_stem,
    trained_with,
)
from harness.digests.record import example, numbers

HERE, THERE = {"torch": "2", "machine": "x86_64 AVX2"}, {"torch": "2", "machine": "aarch64 DEFAULT"}
USES = {
    "augmentation color": (),
    "objective nt_xent": (),
    "head linear": (),
    "schedule cosine": (),
    "schedule warmup": ("schedule cosine",),
    "method simclr": ("augmentation color", "objective nt_xent", "head linear", "method simclr"),
    "method supervised": ("method supervised",),
    LOOP: ("objective nt_xent", "method simclr"),
    RESUMED: ("objective nt_xent", "method simclr"),
    SHARED: ("objective nt_xent", "method simclr"),
    "evaluation linear": ("head linear", "method simclr"),
}


def one(value: float, uses: tuple[str, ...] = (), **fields: Any) -> Example:
    made = example(fields, [torch.full((50,), value)])
    return dataclasses.replace(made, uses=uses)


def record(place: dict[str, str] = HERE, code: str = "a", **changed: float) -> Record:
    """Every label's one example is 1, but for those that are ``changed`` (with ``_`` for the spaces)."""
    values = {label.replace("_", " ").replace("nt xent", "nt_xent"): value for label, value in changed.items()}
    assert values.keys() <= USES.keys()
    return Record(code, place, {label: (one(values.get(label, 1.0), uses),) for label, uses in USES.items()})


def own(*changed: str) -> set[str]:
    return {*RecordComparison.of(record(), record(code="b", **dict.fromkeys(changed, 1.5))).own}


@pytest.mark.parametrize("by", [1e-5, 1e-3, 0.1])
def test_a_difference_is_told_in_its_size(by: float) -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(4000, generator=draw, dtype=torch.float64)
    y = x + by * torch.randn(4000, generator=draw, dtype=torch.float64)
    found = example({}, [x]).differs_from(example({}, [y]), exactly=True)
    assert found is not None and by / 3 < found < 3 * by
    assert math.isclose(numbers([x])[0], float(x.square().mean().sqrt()), rel_tol=1e-6)


def test_other_names_or_shapes_are_infinitely_far() -> None:
    x = torch.ones(4)
    assert example({}, ["a", x]).differs_from(example({}, ["b", x]), exactly=False) == math.inf
    assert example({}, [x]).differs_from(example({}, [x.view(2, 2)]), exactly=False) == math.inf
    assert amount(math.inf) == "yields other names or shapes" and amount(0.0031) == "differs by 3e-3"


def test_the_last_bit_counts_at_one_place_and_a_tolerance_at_two() -> None:
    before, little, much = record(), {"head_linear": 1 + 1e-6}, {"head_linear": 1 + 20 * TOLERANCE}
    assert {*RecordComparison.of(before, record(**little)).own} == {"head linear"}
    assert not RecordComparison.of(before, record(THERE, **little)).own
    assert {*RecordComparison.of(before, record(THERE, **much)).own} == {"head linear"}


def test_what_is_not_a_number_is_a_difference_of_bits() -> None:
    x, y = torch.ones(4), torch.tensor([1.0, 1.0, 1.0, math.nan])
    assert example({}, [x]).differs_from(example({}, [y]), exactly=True) is not None
    assert all(map(math.isfinite, numbers([y])))


def test_what_rounding_alone_changes_is_compared_to_the_bit_or_not_at_all() -> None:
    a, b = (dataclasses.replace(one(value), numbers=()) for value in (1.0, 2.0))
    assert a.differs_from(b, exactly=True) == 0.0 and a.differs_from(b, exactly=False) is None


@pytest.mark.parametrize(
    ("changed", "blamed"),
    [
        (["augmentation_color"], {"augmentation color"}),
        (["objective_nt_xent", "method_simclr", "loop", "loop_resumed"], {"objective nt_xent"}),
        (["method_simclr", "loop", "loop_resumed", "evaluation_linear"], {"method simclr"}),
        (["method_simclr", "method_supervised", "loop", "loop_resumed", "loop_on_two_processes"], {LOOP}),
        (["loop", "loop_resumed", "loop_on_two_processes"], {LOOP}),
        (["loop_resumed"], {RESUMED}),
        (["loop_on_two_processes"], {SHARED}),
        (["method_supervised"], {"method supervised"}),
        (["head_linear", "evaluation_linear"], {"head linear"}),
        (["evaluation_linear"], {"evaluation linear"}),
        (["schedule_cosine", "schedule_warmup"], {"schedule cosine"}),
        (["augmentation_color", "head_linear"], {"augmentation color", "head linear"}),
    ],
)
def test_the_component_itself_is_named_and_not_what_its_examples_need(changed: list[str], blamed: set[str]) -> None:
    assert own(*changed) == blamed


def test_what_another_component_hides_is_doubtful() -> None:
    found = RecordComparison.of(record(), record(objective_nt_xent=2.0, method_simclr=2.0))
    assert found.doubtful == {"method simclr": ["objective nt_xent"]}
    before, today = record(), record(objective_nt_xent=2.0, method_simclr=2.0)
    second = one(1.0, ("head linear",), also=1)  # an example with another loss, which came to the same
    for each in (before, today):
        each.components["method simclr"] += (second,)  # type: ignore[index]
    assert not RecordComparison.of(before, today).doubtful


def test_a_branch_that_was_not_taken_is_none_of_a_runs_business() -> None:
    def code(fixed: float, weak: float) -> Record:
        shown = (
            one(1.0, order="random", s=1.0),
            one(fixed, order="fixed", s=1.0),
            one(weak, order="random", s=0.5),
        )
        return Record("a", HERE, {"augmentation color": shown})

    taken, other = ([Use("augmentation color", {"order": order, "s": 0.7})] for order in ("fixed", "random"))
    fixed = RecordComparison.of(code(1.0, 1.0), code(2.0, 1.0))
    assert [str(difference) for difference in fixed.about(taken)] and not fixed.about(other)
    weak = RecordComparison.of(code(1.0, 1.0), code(1.0, 2.0))
    assert weak.about(taken) and weak.about(other), "numbers are no branches"
    assert fixed.unknown([*taken, Use("head linear")]) == ["head linear"]


def test_the_largest_difference_comes_first_and_once() -> None:
    found = RecordComparison.of(record(), record(augmentation_color=1.001, head_linear=1.5))
    used = [Use("augmentation color"), Use("head linear"), Use("augmentation color")]
    assert [difference.label for difference in found.about(used)] == ["head linear", "augmentation color"]


def test_a_record_is_what_its_file_says() -> None:
    made = record()
    assert Record.of(json.loads(made.as_text())) == made
    assert made.name == file_stem("a", HERE) != file_stem("a", THERE) != file_stem("b", THERE)
    for broken in (None, [], {}, {"recipe": 0}, json.loads(made.as_text()) | {"components": {"x": [{}]}}):
        assert Record.of(broken) is None


SPEC: dict[str, Any] = {
    "data": {"cifar10": {}}, "encoder": {"micro": {"depth": 1}}, "norm": {"groups": 1},
    "method": {"byol": {"predictor": {"nonlinear": {}}, "momentum": {"cosine": {"start": 0.9}}}},
    "views": {"both": [{"crop": {"flip": 0.0}}], "branches": [{"augment": [{"blur": {}}], "count": 2}]},
}  # fmt: skip


def test_what_a_run_used_is_read_off_its_specification() -> None:
    labels = [use.label for use in trained_with(SPEC)]
    components = "dataset cifar10, encoder micro, method byol, head nonlinear, schedule cosine, augmentation crop"
    assert sorted(labels) == sorted([LOOP, RESUMED, "augmentation blur", *components.split(", ")])
    assert SHARED in [use.label for use in trained_with(SPEC, processes=2)]
    assert Use("encoder micro", {"depth": 1}) in trained_with(SPEC)
    transfer = {"transfer_linear": {"data": {"synthetic": {"classes": 5}}, "penalties": 2}}
    assert [use.label for use in evaluated_with(transfer)] == ["evaluation transfer_linear", "dataset synthetic"]
    for broken in ({}, {"views": 3, "data": "x", "encoder": [1]}):
        assert {use.label for use in trained_with(broken)} == {LOOP, RESUMED}
