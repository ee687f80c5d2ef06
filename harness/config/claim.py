"""A claim as it is written in an experiment file: one sentence, where the paper says it, and the predicate."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from harness.config.errors import SpecError, nearest

TRAINING = "training"
"""What stands in a metric's path instead of an evaluation, for the loss of the last epoch: ``training/loss``."""

CLAIM_KINDS: dict[str, frozenset[str]] = {
    "best": frozenset({"margin", "where", "among"}),
    "lowest": frozenset({"margin", "where", "among"}),
    "greater": frozenset({"margin"}),
    "order": frozenset({"margin"}),
    "monotone": frozenset({"direction", "where", "margin"}),
    "saturates": frozenset({"after", "within", "where"}),
    "close": frozenset({"within"}),
    "equivalent": frozenset({"within"}),
    "agrees": frozenset({"at_least"}),
}
"""Kinds of claim -> the keys that may stand beside the kind in ``expect``; ``harness.report.judge.claims`` judges."""

NEEDED: dict[str, tuple[str, ...]] = {
    "saturates": ("after", "within"),
    "close": ("within",),
    "equivalent": ("within",),
    "agrees": ("at_least",),
}
"""Those of them that a kind cannot do without."""

FORMS: dict[str, str] = {
    "best": "{best: {dotted.path: [value, ...]}, margin: 1.0}",
    "lowest": "{lowest: {dotted.path: [value, ...]}, margin: 1.0}",
    "greater": "{greater: [{dotted.path: more}, {dotted.path: less}], margin: 1.0}",
    "order": "{order: [{dotted.path: most}, {dotted.path: less}, ...]}",
    "monotone": "{monotone: dotted.path, direction: increasing}",
    "saturates": "{saturates: dotted.path, after: 256, within: 1.0}",
    "close": "{close: {dotted.path: value}, within: 2.0}",
    "equivalent": "{equivalent: [{dotted.path: one}, {dotted.path: other}], within: 1.0}",
    "agrees": "{agrees: paper/artefact, at_least: 0.8}",
}
"""How each is written, for whoever wrote it in another way."""


ID = r"^[a-z0-9][a-z0-9-]*$"


def _id(written: str) -> str:
    if not re.fullmatch(ID, written):
        raise ValueError(f"invalid claim id {written!r}: use lowercase letters, digits and hyphens")
    return written


class BestOf(BaseModel):
    """Of the settings that differ at ``over``, the one with the highest mean over seeds of ``by`` is chosen.

    ``{over: [objective.temperature], by: linear@validation/top1}``; validation images alone may choose.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    over: tuple[str, ...]
    by: str

    def check(self, reported: str, splits: Iterable[str] = ()) -> None:
        """Raises :class:`SpecError` if it looks at test images, or at the very number that is reported.

        A label says which images it is of (``linear@validation``, never plain ``linear``); ``splits`` are those that
        the evaluations of ``by`` say they were made on.
        """
        label = self.by.rpartition("/")[0]
        if "validation" not in label.split("@")[1:] or any(split != "validation" for split in splits):
            raise SpecError(f"best_of chooses by {self.by!r}, which is not of validation images")
        if self.by == reported:
            raise SpecError(f"best_of chooses by {self.by!r}, the number it also reports: choose on validation images")


class Claim(BaseModel):
    """One sentence of the paper (or of the summary) with the predicate that decides it."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    id: Annotated[str, Field(json_schema_extra={"pattern": ID}), AfterValidator(_id)]
    says: str
    where: str
    on: str | None = None
    expect: dict[str, Any]
    summary: dict[str, Any] | None = None
    best_of: BestOf | None = None

    @field_validator("expect")
    @classmethod
    def one_kind(cls, expect: dict[str, Any]) -> dict[str, Any]:
        """Exactly one kind, and beside it only the keys that kind knows."""
        kinds = [key for key in expect if key in CLAIM_KINDS]
        if len(kinds) != 1:
            known = {*CLAIM_KINDS, *(key for beside in CLAIM_KINDS.values() for key in beside)}
            unknown = [key for key in expect if key not in known]
            meant = f"; instead of {unknown[0]!r}: {nearest(unknown[0], CLAIM_KINDS)}" if not kinds and unknown else ""
            raise ValueError(f"expect needs exactly one of: {', '.join(CLAIM_KINDS)}{meant}")
        for key in expect:
            if key != kinds[0] and key not in CLAIM_KINDS[kinds[0]]:
                raise ValueError(f"{kinds[0]!r} takes no {key!r}: {nearest(key, CLAIM_KINDS[kinds[0]])}")
        if kinds[0] in ("best", "lowest") and not (isinstance(expect[kinds[0]], dict) and len(expect[kinds[0]]) == 1):
            raise ValueError(f"{kinds[0]} takes one dotted path with the value or values that the paper names")
        for key in NEEDED.get(kinds[0], ()):
            if key not in expect:
                raise ValueError(f"{kinds[0]!r} needs {key!r} beside it: {FORMS[kinds[0]]}")
        for key in ("margin", "within", "at_least", "after"):
            if key in expect and (isinstance(expect[key], bool) or not isinstance(expect[key], int | float)):
                raise ValueError(f"{key} is a number, not {expect[key]!r}")
        if expect.get("direction", "increasing") not in ("increasing", "decreasing"):
            raise ValueError("direction is 'increasing' or 'decreasing'")
        if expect.get("among", "values") not in ("values", "arms"):
            raise ValueError("among is 'values' or 'arms'")
        if not isinstance(expect.get("where", {}), dict):
            raise ValueError("where is a mapping of paths to values")
        return expect
