"""Compare the digests of two versions of the code: which component differs, and by how much. No torch.

A *label* names what was digested: ``augmentation color``, ``evaluation linear``, ``loop``, ``loop resumed``. Some
examples need other components beside their own (a method needs a network and a loss): ``uses`` lists them, and what
one of them explains is not laid at the door of the component itself.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from harness.config.run import identity

RECIPE = 1
"""Raise it when what the examples are shown changes (inputs, what is looked at): digests of two recipes are no pair."""

TOLERANCE = 1e-4
"""Relative difference that another processor or another version of torch may make without a word."""

LAST_DIGITS = 1e-6
"""Relative differences below it are of float32's rounding, and their size says nothing."""

LOOP, RESUMED, SHARED = "loop", "loop resumed", "loop on two processes"
LOOPS = (LOOP, RESUMED, SHARED)
PARTS = {
    "data": "dataset", "encoder": "encoder", "head": "head", "objective": "objective", "optimizer": "optimizer",
    "method": "method",
}  # fmt: skip
"""Keys of a run's specification whose value is one component, and the kind of it."""


class Use(NamedTuple):
    """A component that a run used, with its settings."""

    label: str
    fields: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Example:
    """What one example came to.

    ``bits`` are of all results exactly, ``form`` of their names and shapes alone; ``numbers`` are their root mean
    square and then projections on fixed directions, from which a relative difference is estimated; there are none where
    rounding alone changes everything (t-SNE), which is compared to the bit or not at all.
    """

    key: str
    fields: Mapping[str, Any]
    bits: str
    form: str
    numbers: tuple[float, ...]
    uses: tuple[str, ...] = ()

    def differs_from(self, other: Example, *, exactly: bool) -> float | None:
        """By how much, relative to the size of the numbers (infinite: other names or shapes); None for not at all."""
        if self.bits == other.bits:
            return None
        if self.form != other.form or len(self.numbers) != len(other.numbers):
            return math.inf
        if not self.numbers:
            return 0.0 if exactly else None
        size = max(self.numbers[0], other.numbers[0])
        apart = [(a - b) ** 2 for a, b in zip(self.numbers[1:], other.numbers[1:], strict=True)]
        by = math.sqrt(sum(apart) / len(apart)) / size if size and apart else 0.0
        return by if exactly or by > TOLERANCE else None


@dataclass(frozen=True)
class Record:
    """The digests of one code at one place: libraries and type of machine, of which the last bits are a function."""

    code: str
    place: Mapping[str, str]
    components: Mapping[str, tuple[Example, ...]]
    recipe: int = RECIPE
    seconds: float = 0.0
    """Of processor time that they took."""

    @property
    def name(self) -> str:
        """Of its file, without the suffix."""
        return file_stem(self.code, self.place)

    def as_text(self) -> str:
        """What its file holds: JSON, one example a line."""
        head = json.dumps({"recipe": self.recipe, "code": self.code, "place": self.place, "seconds": self.seconds})
        labels = []
        for label, examples in self.components.items():
            lines = ",\n".join(f"   {json.dumps(asdict(one))}" for one in examples)
            labels.append(f"  {json.dumps(label)}: [\n{lines}\n  ]")
        return f'{head[:-1]},\n "components": {{\n' + ",\n".join(labels) + "\n }}\n"

    @classmethod
    def of(cls, held: Any) -> Record | None:
        """What a file holds, if it is whole and of this recipe: another's numbers mean something else."""
        if not isinstance(held, dict) or held.get("recipe") != RECIPE:
            return None
        try:
            components = {
                str(label): tuple(
                    Example(one["key"], one["fields"], one["bits"], one["form"], tuple(map(float, one["numbers"])),
                            tuple(one["uses"]))
                    for one in examples
                )
                for label, examples in held["components"].items()
            }  # fmt: skip
            return cls(str(held["code"]), dict(held["place"]), components, seconds=float(held["seconds"]))
        except (KeyError, TypeError, ValueError, AttributeError):
            return None


def file_stem(code: str, place: Mapping[str, str]) -> str:
    """``7d774e60b42c-1a2b3c4d``: by code, libraries, type of machine and recipe."""
    return f"{code}-{identity([RECIPE, dict(place)], 8)}"


# --- which component differs ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """One example that came to something else: its settings, and by how much (infinite: other names or shapes)."""

    label: str
    fields: Mapping[str, Any]
    by: float

    def __str__(self) -> str:
        return f"{self.label}: {amount(self.by)}"


def amount(by: float) -> str:
    """In words."""
    if math.isinf(by):
        return "yields other names or shapes"
    return f"differs by {by:.0e}".replace("e-0", "e-") if by >= LAST_DIGITS else "differs in the last digits"


@dataclass(frozen=True)
class RecordComparison:
    """Of two records: what differs, and by which other component that is explained where it is.

    ``known`` are the labels that could be compared, ``own`` those that differ of themselves, ``doubtful`` those that
    differ in all of their examples, each of which contains another component that differs: what they would do with
    the old one cannot be known.
    """

    known: Mapping[str, Sequence[Mapping[str, Any]]]
    own: Mapping[str, Sequence[Difference]]
    doubtful: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, before: Record, today: Record) -> RecordComparison:
        """``before`` against ``today``: to the bit at one place, within :data:`TOLERANCE` at two."""
        known: dict[str, list[Mapping[str, Any]]] = {}
        raw: dict[str, list[tuple[Example, Difference]]] = {}
        same: set[str] = set()
        exactly = before.place == today.place
        for label, examples in before.components.items():
            now = {one.key: one for one in today.components.get(label, ())}
            for one in examples:
                if one.key not in now:
                    continue
                known.setdefault(label, []).append(one.fields)
                by = one.differs_from(now[one.key], exactly=exactly)
                if by is None:
                    same.add(label)
                else:
                    raw.setdefault(label, []).append((one, Difference(label, one.fields, by)))
        own: dict[str, list[Difference]] = {}
        doubtful: dict[str, set[str]] = {}

        def settle(labels: Iterable[str], explains: Iterable[str]) -> None:
            """Those of ``labels`` that differ where nothing of ``explains`` does."""
            known_causes = set(explains)
            for label in labels:
                causes: set[str] = set()
                for example, difference in raw.get(label, ()):
                    if found := known_causes.intersection(example.uses) - {label}:
                        causes |= found
                    else:
                        own.setdefault(label, []).append(difference)
                if causes and label not in own and label not in same:
                    doubtful[label] = causes

        methods = [label for label in known if label.startswith("method ")]
        parts = [label for label in raw if _alone(label)]
        settle(parts, parts)
        settle([*methods, LOOP], parts)
        if LOOP in own:
            moved = [label for label in methods if label in own]
            if len(moved) == len(methods):  # with every method: it is the loop that they have in common
                for label in moved:
                    del own[label]
            elif any(label in moved for one, _ in raw[LOOP] for label in one.uses):
                del own[LOOP]
        settle([RESUMED, SHARED], [*parts, *methods, LOOP] if LOOP in raw else parts)
        settle([label for label in known if label.startswith("evaluation ")], list(own))
        return cls(known, own, {label: sorted(causes) for label, causes in doubtful.items()})

    def about(self, used: Iterable[Use]) -> list[Difference]:
        """The largest difference of every component that was used and differs where the use has it, largest first."""
        found: dict[str, Difference] = {}
        for use in used:
            for one in self.own.get(use.label, ()):
                if self._shows(use, one.fields) and (use.label not in found or one.by > found[use.label].by):
                    found[use.label] = one
        return sorted(found.values(), key=lambda one: -one.by)

    def _shows(self, use: Use, fields: Mapping[str, Any]) -> bool:
        """Whether an example says something of a use: a branch that was not taken is none of its business.

        The first example of a component speaks of all its uses; another one does not where a word or a switch in which
        it is unlike the first is not the use's.
        """
        first = self.known[use.label][0]
        for name, value in fields.items():
            branch = isinstance(value, str | bool | None) and value != first.get(name)
            if branch and use.fields.get(name, value) != value:
                return False
        return True

    def unknown(self, used: Iterable[Use]) -> list[str]:
        """Of what was used, the labels without a digest in both records."""
        return sorted({use.label for use in used} - self.known.keys())


def _alone(label: str) -> bool:
    return label not in LOOPS and not label.startswith(("method ", "evaluation "))


# --- what a run used -----------------------------------------------------------------------------------------------


def trained_with(spec: Mapping[str, Any], processes: int = 1) -> list[Use]:
    """The components that a run's training used, from its specification, and the loop."""
    found = [Use(LOOP), Use(RESUMED), *([Use(SHARED)] if processes > 1 else [])]
    for key, kind in PARTS.items():
        for name, fields in _mapping(spec.get(key)).items():
            found += [Use(f"{kind} {name}", _mapping(fields)), *nested(fields)]
    found += [Use(f"augmentation {name}", fields) for name, fields in _entries(spec.get("views"))]
    return found


def evaluated_with(evaluation: Mapping[str, Any]) -> list[Use]:
    """The components that an evaluation used, from the ``evaluation`` of its file."""
    return [
        one
        for name, fields in evaluation.items()
        for one in (Use(f"evaluation {name}", _mapping(fields)), *nested(fields))
    ]


def nested(fields: Any) -> Iterator[Use]:
    """Components that are settings of another: of the kind that the key names, and under any other key a schedule."""
    for key, value in _mapping(fields).items():
        kind = PARTS.get(key, key if key in PARTS.values() else "head" if key == "predictor" else "schedule")
        for name, inner in _mapping(value).items():
            if isinstance(inner, Mapping):
                yield Use(f"{kind} {name}", inner)
                yield from nested(inner)


def _entries(value: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """All ``{name: {field: value}}`` in lists of views, however deep."""
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from _entries(inner)
    elif isinstance(value, list):
        for one in value:
            if isinstance(one, Mapping) and len(one) == 1 and isinstance(next(iter(one.values())), Mapping):
                yield next(iter(one.items()))
            else:
                yield from _entries(one)


def _mapping(value: Any) -> Mapping[str, Any]:
    """What a file says may be anything."""
    return value if isinstance(value, Mapping) else {}
