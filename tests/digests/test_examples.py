"""Every field and every branch of every component is in some example, and every example shows its field.

A component ships its examples (``tiny``), so that adding one touches no test: what it lacks is named here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
import torch

from harness.config.errors import SpecError
from harness.config.registry import REGISTRIES, Registry
from harness.config.run import Run
from harness.digests import record
from harness.digests.compare import LOOP, RESUMED, Example

COMPONENTS = [
    pytest.param(known, name, id=f"{kind} {name}") for kind, known in REGISTRIES.items() for name in known.names()
]


def branches(annotation: Any) -> set[Any]:
    """The values of a field's type that choose a branch: those of a Literal, both of a bool, None where it may be."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return branches(get_args(annotation)[0])
    if origin is Literal:
        return set(get_args(annotation))
    if origin in (Union, types.UnionType):
        return set().union(*map(branches, get_args(annotation)))
    return {bool: {True, False}, type(None): {None}}.get(annotation, set())


def valid(known: Registry, name: str, field: str, value: Any) -> bool:
    """Whether the type's values are the field's: validators may refuse some."""
    with contextlib.suppress(SpecError):
        return bool(known.build({name: {**known.examples(name)[0][name], field: value}})) or True
    return False


def changed(known: Registry, name: str) -> list[str | None]:
    """Of each example after the first, the one field that it changes of the first; None where it changes several."""
    _, *changes = getattr(known.get(name), "tiny", ({},))
    return [next(iter(one)) if len(one) == 1 else None for one in changes]


@pytest.mark.parametrize(("known", "name"), COMPONENTS)
def test_every_field_and_every_branch_is_in_an_example(known: Registry, name: str) -> None:
    given = [known.build(one) for one in known.examples(name)]
    hints = get_type_hints(known.get(name), include_extras=True)
    for field in dataclasses.fields(known.get(name)):
        assert field.name in changed(known, name), f"no example of {name} changes {field.name} alone"
        taken = [getattr(one, field.name) for one in given]
        possible = [value for value in branches(hints[field.name]) if valid(known, name, field.name, value)]
        lacking = [value for value in possible if value not in taken]
        assert not lacking, f"no example of {name} has {field.name}: {lacking}"


@pytest.fixture(scope="module")
def computed() -> dict[str, list[Example]]:
    """Each component's digests, once for all tests of this file."""
    return {}


def digests(computed: dict[str, list[Example]], label: str) -> list[Example]:
    if label not in computed:
        computed[label] = list(record.examples_of(label))
    return computed[label]


@pytest.mark.parametrize(("known", "name"), COMPONENTS)
def test_every_field_changes_what_its_component_does(
    computed: dict[str, list[Example]], known: Registry, name: str
) -> None:
    """None is an ornament."""
    first, *others = digests(computed, f"{known.kind} {name}")
    seen = {field for field, one in zip(changed(known, name), others, strict=True) if one.bits != first.bits}
    assert seen == {*known.fields(name)}
    assert len({one.key for one in (first, *others)}) == 1 + len(others), "two examples are the same"


@pytest.mark.parametrize("label", ["augmentation color", "evaluation linear", "method simclr", LOOP, "encoder micro"])
def test_a_digest_is_the_same_at_every_call(computed: dict[str, list[Example]], label: str) -> None:
    """Or a difference would prove nothing. And nothing of it is left behind in torch's random numbers."""
    before = torch.get_rng_state()
    assert list(record.examples_of(label)) == digests(computed, label)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_run_that_was_stopped_comes_to_the_same(computed: dict[str, list[Example]]) -> None:
    ((whole, _), (resumed,)) = (digests(computed, label) for label in (LOOP, RESUMED))
    assert whole.bits == resumed.bits


def test_a_component_without_examples_says_what_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    known = REGISTRIES["augmentation"]
    monkeypatch.delattr(known.get("blur"), "tiny")
    with pytest.raises(LookupError, match=r"'blur': give harness\.data\.augment\.Blur `tiny: ClassVar\[Examples\]`"):
        list(record.examples_of("augmentation blur"))
    said: list[str] = []
    assert record.record(["augmentation blur", "head none"], said.append).components.keys() == {"head none"}
    assert len(said) == 1


RUN: dict[str, Any] = {
    "data": {"synthetic": {}}, "views": {"shared": [], "both": [], "targeted": []}, "method": {"simclr": {}},
    "encoder": {"micro": {}}, "norm": {"groups": 1}, "head": {"none": {}}, "objective": {"nt_xent": {}},
    "optimizer": {"lars": {}}, "schedule": {"batch_size": 16, "epochs": 2}, "precision": "float32", "seed": 0,
}  # fmt: skip
CHANGED: dict[str, Any] = {
    "data": {"synthetic": {"classes": 3}}, "views": {"both": [{"flip": {}}]}, "method": {"supervised": {}},
    "encoder": {"micro": {"depth": 1}}, "norm": {"groups": 2}, "head": {"linear": {}},
    "objective": {"nt_logistic": {}}, "optimizer": {"sgd": {}}, "schedule": {"batch_size": 16, "epochs": 3},
    "precision": "bfloat16", "seed": 1,
}  # fmt: skip


@pytest.mark.parametrize("key", [*Run.model_fields])
def test_every_key_of_a_run_makes_another_run(key: str) -> None:
    assert Run.model_validate(RUN).id != Run.model_validate(RUN | {key: CHANGED[key]}).id
