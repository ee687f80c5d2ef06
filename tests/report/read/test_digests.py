"""What the page says of several codes: equal by digests, different by so much, or not recorded."""

from __future__ import annotations

import pytest

from harness.digests.compare import Example, Record
from harness.report.read.digests import said
from harness.report.read.records import Run, State

PLACE = {"torch": "2", "machine": "x86_64 AVX2"}
LABELS = ("loop", "loop resumed", "head linear", "evaluation linear")


def record(code: str, machine: str = "x86_64 AVX2", **changed: float) -> Record:
    values = dict.fromkeys(LABELS, 1.0) | {label.replace("_", " "): value for label, value in changed.items()}
    return Record(
        code,
        PLACE | {"machine": machine},
        {label: (Example("0", {}, str(value), "", (value, value)),) for label, value in values.items()},
    )


def run(code: str, evaluated_by: str | None = None) -> Run:
    asked = {"linear-1": {"linear": {}}}
    by = {"linear-1": evaluated_by or code}
    spec = {"head": {"linear": {}}}
    return Run("r", State.DONE, spec, {"code": code}, evaluated_by=by, asked=asked)


@pytest.mark.parametrize(
    ("recorded", "expected"),
    [
        ([], "No digests of them were recorded, so by how much their numbers differ is not known."),
        ([record("a")], "No digests of 1 of them were recorded, so by how much their numbers differ is not known."),
        ([record("a"), record("b")], "Digests of all that these runs share are equal."),
        ([record("a"), record("b", head_linear=2.0)], "By their digests: head linear: differs by 5e-1."),
        ([record("a"), record("b", head_none=2.0)], "Digests of all that these runs share are equal."),
        ([record("a", "arm"), record("b", head_linear=1.00001)], "Digests of all that these runs share are equal."),
        (
            [record("a", "arm", head_linear=2.0), record("a"), record("b")],
            "Digests of all that these runs share are equal.",
        ),
    ],
)
def test_the_sentence(recorded: list[Record], expected: str) -> None:
    by_code: dict[str, list[Record]] = {}
    for one in recorded:
        by_code.setdefault(one.code, []).append(one)
    assert said([run("a"), run("b")], by_code) == expected


def test_an_evaluation_by_other_code_is_compared_in_what_it_used() -> None:
    recorded = {"a": [record("a")], "b": [record("b", evaluation_linear=2.0, head_linear=3.0)]}
    assert (
        said([run("a"), run("a", evaluated_by="b")], recorded)
        == "By their digests: evaluation linear: differs by 5e-1."
    )
