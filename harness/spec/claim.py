"""A claim as it is written in an experiment file: one sentence, where the paper says it, and the predicate."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from harness.spec.errors import SpecError, nearest

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
"""Kinds of claim -> the keys that may stand beside the kind in ``expect`` (judged in ``harness.report.claims``)."""


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
            raise SpecError(f"best_of chooses by {self.by!r}, the number it reports: that is the luckiest one")


class Claim(BaseModel):
    """One sentence of the paper (or of the summary) with the predicate that decides it."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
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
            raise ValueError(f"expect needs exactly one of: {', '.join(CLAIM_KINDS)}")
        for key in expect:
            if key != kinds[0] and key not in CLAIM_KINDS[kinds[0]]:
                raise ValueError(f"{kinds[0]!r} takes no {key!r}: {nearest(key, CLAIM_KINDS[kinds[0]])}")
        if kinds[0] in ("best", "lowest") and not (isinstance(expect[kinds[0]], dict) and len(expect[kinds[0]]) == 1):
            raise ValueError(f"{kinds[0]} takes one path with the values that are claimed to be it")
        for key in ("margin", "within", "at_least"):
            if key in expect and (isinstance(expect[key], bool) or not isinstance(expect[key], int | float)):
                raise ValueError(f"{key} is a number of points, not {expect[key]!r}")
        if expect.get("direction", "increasing") not in ("increasing", "decreasing"):
            raise ValueError("direction is 'increasing' or 'decreasing'")
        if expect.get("among", "values") not in ("values", "arms"):
            raise ValueError("among is 'values' or 'arms'")
        if not isinstance(expect.get("where", {}), dict):
            raise ValueError("where is a mapping of paths to values")
        return expect
