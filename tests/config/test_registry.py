"""Registries: the only door through which YAML becomes objects."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from harness.config.errors import SpecError
from harness.config.registry import Registry, knob, split_entry


@pytest.fixture
def shapes() -> Registry:
    registry = Registry("shape")

    @registry("circle")
    @dataclass(frozen=True, kw_only=True)
    class Circle:
        radius: Annotated[float, Field(gt=0)] = 1.0
        fill: Literal["none", "solid"] = "none"
        span: tuple[float, float] = (0.0, 1.0)
        count: int = 3
        later: int = knob(0, neutral=0)

    assert Circle
    return registry


def test_a_bare_name_means_the_defaults(shapes: Registry) -> None:
    assert shapes.resolve("circle") == shapes.resolve({"circle": {}}) == shapes.resolve({"circle": None})


def test_resolved_entries_are_complete_and_typed(shapes: Registry) -> None:
    assert shapes.resolve({"circle": {"radius": 10}}) == {
        "circle": {"radius": 10.0, "fill": "none", "span": [0.0, 1.0], "count": 3}
    }


@pytest.mark.parametrize("written", [10, 10.0])
def test_ten_and_ten_point_zero_are_one(shapes: Registry, written: Any) -> None:
    resolved = shapes.resolve({"circle": {"radius": written, "count": written}})["circle"]
    assert (repr(resolved["radius"]), repr(resolved["count"])) == ("10.0", "10")


def test_a_neutral_knob_is_left_out_and_any_other_value_is_not(shapes: Registry) -> None:
    assert "later" not in shapes.resolve({"circle": {"later": 0}})["circle"]
    assert shapes.resolve({"circle": {"later": 2}})["circle"]["later"] == 2


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("cirle", "unknown shape 'cirle': did you mean 'circle'?"),
        ({"circle": {"radios": 1}}, "has no field 'radios': did you mean 'radius'?"),
        ({"circle": {"radius": "10"}}, "circle.radius"),
        ({"circle": {"radius": True}}, "circle.radius"),
        ({"circle": {"radius": -1}}, "greater than 0"),
        ({"circle": {"fill": "dotted"}}, "'none' or 'solid'"),
        ({"circle": {"count": 2.5}}, "circle.count"),
        ({"circle": {"span": [0, 1, 2]}}, "circle.span"),
        ({"circle": {}, "square": {}}, "neither a name nor"),
        (7, "neither a name nor"),
        ({"circle": {"radius": float("inf")}}, "circle.radius"),
    ],
)
def test_what_is_wrong_is_said(shapes: Registry, entry: Any, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        shapes.build(entry)
    assert said in str(caught.value)


def test_two_mistakes_are_told_at_once(shapes: Registry) -> None:
    with pytest.raises(SpecError) as caught:
        shapes.build({"circle": {"radius": -1, "fill": "dotted"}})
    assert len(caught.value.complaints) == 2


def test_names_are_unique_and_classes_frozen(shapes: Registry) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Other:
        pass

    with pytest.raises(TypeError, match="registered twice"):
        shapes("circle")(Other)
    namesake = type(shapes.get("circle").__name__, (Other,), {"__qualname__": shapes.get("circle").__qualname__})
    namesake.__module__ = "another.package"
    with pytest.raises(TypeError, match=r"registered twice: by .* and another\.package"):
        shapes("circle")(namesake)

    @dataclass(kw_only=True)
    class Thawed:
        pass

    with pytest.raises(TypeError, match="frozen"):
        shapes("thawed")(Thawed)


def test_a_component_knows_its_name(shapes: Registry) -> None:
    built = shapes.build("circle")
    assert shapes.name_of(built) == "circle"
    assert dataclasses.asdict(built)["radius"] == 1.0


def test_split_entry() -> None:
    assert split_entry({"crop": None}) == ("crop", {})
    for entry in ({1: {}}, {"crop": 5}, {"crop": [1]}, {"crop": {}, "flip": {}}, 7):
        with pytest.raises(SpecError):
            split_entry(entry)


def test_the_default_of_a_field_is_what_yaml_would_say(shapes: Registry) -> None:
    @shapes("square")
    @dataclass(frozen=True, kw_only=True)
    class Square:
        side: float

    assert Square and shapes.default("square", "side") is None
    assert [shapes.default("circle", name) for name in ("radius", "fill", "count")] == [1.0, "none", 3]
