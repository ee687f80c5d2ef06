"""When a claim is looked at: numbers of paired seeds, planned before the first result."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from pydantic import AfterValidator, Field

LOOKS = (3, 5, 8, 12)
"""Where an experiment file has no ``looks:``."""


def _ascending(looks: list[int]) -> list[int]:
    if any(later <= earlier for earlier, later in pairwise(looks)):
        raise ValueError(f"numbers of seeds go up from look to look, as in {[*LOOKS]}")
    return looks


Looks = Annotated[
    list[Annotated[int, Field(ge=2, le=10_000)]], Field(min_length=1, max_length=20), AfterValidator(_ascending)
]
"""The least is two seeds: one has no spread."""
