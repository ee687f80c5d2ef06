"""A run is its resolved specification: every value, typed, canonical JSON, SHA-256, twelve hex digits (law 3).

Where a run executes (device, threads, paths, log intervals) is in other types, so nothing has to be excluded here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.spec.registry import Resolved

_FROZEN = ConfigDict(frozen=True, extra="forbid", strict=True)

DIGITS = 12
"""Of a run's id."""


class Views(BaseModel):
    """Which augmentations make the views of an image: once, on both branches, on the first branch only."""

    model_config = _FROZEN
    shared: list[Resolved] = []
    both: list[Resolved] = []
    targeted: list[Resolved] = []


class Norm(BaseModel):
    """Batch normalisation. ``groups`` divides the *global* batch, whatever the hardware (paper section 2.2)."""

    model_config = _FROZEN
    groups: Annotated[int, Field(ge=1)] = 1
    momentum: Annotated[float, Field(gt=0, le=1)] = 0.1
    eps: Annotated[float, Field(gt=0)] = 1e-5


class Schedule(BaseModel):
    """How long and in what batches: ``batch_size`` counts images (a SimCLR batch holds twice as many views).

    No epochs at all is a run too: the network as its seed makes it, evaluated, the floor under every table.
    """

    model_config = _FROZEN
    batch_size: Annotated[int, Field(ge=2)]
    epochs: Annotated[int, Field(ge=0)]
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0


Precision = Literal["float32", "bfloat16"]


class Run(BaseModel):
    """One pretraining. Its ``id`` is its folder and its handle everywhere."""

    model_config = _FROZEN
    data: Resolved
    views: Views
    method: Resolved
    encoder: Resolved
    norm: Norm
    head: Resolved
    objective: Resolved
    optimizer: Resolved
    schedule: Schedule
    precision: Precision = "float32"
    seed: Annotated[int, Field(ge=0)] = 0

    def spec(self) -> dict[str, Any]:
        """The specification as JSON-able data, all defaults filled in."""
        return self.model_dump(mode="json")

    @property
    def id(self) -> str:
        """First twelve hex digits of the SHA-256 of the canonical JSON."""
        return identity(self.spec(), DIGITS)

    def ids(self, seeds: Iterable[int]) -> dict[int, str]:
        """Seed -> id of this run with that seed. All but the seed is written out and hashed once."""
        spec = self.spec()
        before = _canonical({key: value for key, value in spec.items() if key < "seed"}).removesuffix("}")
        after = _canonical({key: value for key, value in spec.items() if key > "seed"}).removeprefix("{")
        begun = hashlib.sha256(before.encode())
        found = {}
        for seed in seeds:
            whole = begun.copy()
            whole.update(f',"seed":{seed},{after}'.encode())
            found[seed] = whole.hexdigest()[:DIGITS]
        return found


def identity(spec: Any, digits: int) -> str:
    """The leading hex digits of the SHA-256 of ``spec`` as canonical JSON (sorted keys, no spaces, shortest floats)."""
    return hashlib.sha256(_canonical(spec).encode()).hexdigest()[:digits]


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def evaluation_handle(resolved: Resolved) -> str:
    """``linear-1a2b3c4d``: an evaluation's own identity, hence its file name beneath a run."""
    (name,) = resolved
    return f"{name}-{identity(resolved, 8)}"


@dataclass(frozen=True)
class Evaluation:
    """One evaluation an experiment asks for: ``label`` in tables (``linear@z``), ``handle`` on disk."""

    label: str
    handle: str
    resolved: Resolved
