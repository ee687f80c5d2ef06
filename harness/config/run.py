"""The specification of a run: every value, typed. Its id is twelve hex digits of the SHA-256 of its canonical JSON.

Where a run executes (device, threads, paths, log intervals) is in other types, so nothing has to be excluded here.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from harness.config.registry import Resolved

DIGITS = 12
"""Of a run's id."""


class Neutral:
    """Marks a field that was added after results exist, as ``knob`` does for components (law 3)::

        branches: Annotated[list[BranchSpec], Neutral()] = []

    At its default it is left out of what is written and hashed. A specification without the field means that default,
    which therefore may never change.
    """


class Part(BaseModel):
    """A part of a specification: frozen, strict, and written without its :class:`Neutral` fields at their defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @model_serializer(mode="wrap")
    def _without_neutral(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = write(self)
        for name, field in type(self).model_fields.items():
            neutral = any(isinstance(one, Neutral) for one in field.metadata)
            if neutral and getattr(self, name) == field.get_default(call_default_factory=True):
                written.pop(name, None)
        return written


class BranchSpec(Part):
    """``count`` views of an image, each with draws of its own; ``size`` in pixels where it is not the data set's."""

    model_config = ConfigDict(title="Branch")

    augment: list[Resolved] = []
    count: Annotated[int, Field(ge=1)] = 1
    size: Annotated[int, Field(ge=8)] | None = None


class ViewsSpec(Part):
    """Which augmentations make the views of an image: once, on both branches, on the first branch only.

    Or, in place of the latter two, on the views of each of ``branches``.
    """

    shared: list[Resolved] = []
    both: list[Resolved] = []
    targeted: list[Resolved] = []
    branches: Annotated[list[BranchSpec], Neutral()] = []


class NormSpec(Part):
    """Batch normalisation. ``groups`` divides the *global* batch, whatever the hardware (paper section 2.2)."""

    groups: Annotated[int, Field(ge=1)] = 1
    momentum: Annotated[float, Field(gt=0, le=1)] = 0.1
    eps: Annotated[float, Field(gt=0)] = 1e-5


class ScheduleSpec(Part):
    """How long and in what batches: ``batch_size`` counts images (a SimCLR batch holds twice as many views).

    No epochs at all is a run too: the network as its seed makes it, evaluated, the floor under every table.
    """

    batch_size: Annotated[int, Field(ge=2)]
    epochs: Annotated[int, Field(ge=0)]
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0


Precision = Literal["float32", "bfloat16"]


class Run(Part):
    """One pretraining. Its ``id`` is its folder and its handle everywhere.

    There is no ``objective`` where the method has a loss of its own.
    """

    data: Resolved
    views: ViewsSpec
    method: Resolved
    encoder: Resolved
    norm: NormSpec
    head: Resolved
    objective: Annotated[Resolved | None, Neutral()] = None
    optimizer: Resolved
    schedule: ScheduleSpec
    precision: Precision = "float32"
    seed: Annotated[int, Field(ge=0)] = 0

    def spec(self) -> dict[str, Any]:
        """The specification as JSON-able data, all defaults filled in but neutral ones."""
        return self.model_dump(mode="json")

    @property
    def id(self) -> str:
        """First twelve hex digits of the SHA-256 of the canonical JSON."""
        return identity(self.spec(), DIGITS)

    def with_seed(self, seed: int) -> Run:
        """Return the same run with another seed."""
        return self.model_copy(update={"seed": seed})


def identity(spec: Any, digits: int) -> str:
    """The leading hex digits of the SHA-256 of ``spec`` as canonical JSON (sorted keys, no spaces, shortest floats)."""
    return hashlib.sha256(_canonical(spec).encode()).hexdigest()[:digits]


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def evaluation_id(resolved: Resolved) -> str:
    """``linear-1a2b3c4d``: an evaluation's own identity, hence its file name beneath a run."""
    (name,) = resolved
    return f"{name}-{identity(resolved, 8)}"


@dataclass(frozen=True)
class Evaluation:
    """One evaluation an experiment asks for: ``label`` in tables (``linear@z``), ``handle`` on disk."""

    label: str
    id: str
    resolved: Resolved
