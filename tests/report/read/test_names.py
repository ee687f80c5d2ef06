"""How settings and numbers are written."""

from __future__ import annotations

from typing import Any

import pytest

from harness.report.read.names import arm_name, duration, path_name, printed_by, signed, slug, value_name


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "yes"),
        (0.1, "0.1"),
        (100.0, "100"),
        (None, "none"),
        ("crop", "crop"),
        (["crop", "color"], "crop + color"),
        ([], "none"),
        ({"nonlinear": {"out_dim": 128}}, "nonlinear (out_dim 128)"),
        ([{"crop": {"flip": 0.5}}, "blur"], "crop (flip 0.5) + blur"),
        ({"none": {}}, "none"),
        (
            [{"augment": ["crop", {"blur": {"p": 1}}], "count": 2}, {"augment": ["crop"], "size": 16}],
            "2 × (crop + blur (p 1)) + 1 × (crop, 16 px)",
        ),
    ],
)
def test_values(value: Any, text: str) -> None:
    assert value_name(value) == text


def test_arms_are_named_by_what_sets_them_apart() -> None:
    first, second = {"norm.groups": 1, "schedule.epochs": 30}, {"norm.groups": 32, "schedule.epochs": 30}
    assert arm_name(first, second) == "groups 1" and arm_name(second, first) == "groups 32"
    assert arm_name(first) == "groups 1, epochs 30"
    assert arm_name({"head": "linear"}) == "linear"


def test_pairs_are_named_whole() -> None:
    """Without this, "crop then cutout against crop alone" would read "cutout against crop"."""
    pair, alone = {"v.first": "crop", "v.last": "cutout"}, {"v.first": "crop", "v.last": "crop"}
    assert arm_name(pair, alone) == "crop + cutout" and arm_name(alone, pair) == "crop alone"


@pytest.mark.parametrize(("seconds", "text"), [(9.4, "9 s"), (150, "2 min 30 s"), (18750, "5 h 12 min")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_small_things() -> None:
    assert signed(-1.25) == "−1.2" and signed(3) == "+3.0"
    assert signed(-0.04) == "0.0" == signed(0.04) and signed(-0.04, 2) == "−0.04"
    assert [printed_by(name) for name in ("simclr/table_5", "summary/x", "public/y", None)] == [
        "paper", "summary", "public run", "paper",
    ]  # fmt: skip
    assert path_name("objective.nt_xent.temperature") == "temperature"
    assert slug("augmentation_pairs@micro/a b") == "augmentation-pairs-micro-a-b"
