"""What a benchmark leaves behind: rows, targets, and the circumstances under which they were measured."""

from __future__ import annotations

import importlib.metadata
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.clock import Timing
from harness.store import provenance

OURS = "harness"
IN_TURNS = (
    "Measured in turns in one process, one thread each; medians. CPU = processor time, workers included. Ratios "
    "are medians of ratios of neighbouring measurements: on a busy machine read those, not the columns."
)
BESIDE_US = ("lightly", "kornia", "timm")
"""Libraries whose contenders are left out where they are not installed."""

LIBRARIES = ("torch", "torchvision", *BESIDE_US, "pillow")


@dataclass(frozen=True)
class Row:
    """One contender in one case. ``wall`` and ``cpu`` in ``unit``; ``times`` = quartiles of its time over ours."""

    case: str
    contender: str
    unit: str = ""
    wall: float | None = None
    cpu: float | None = None
    times: tuple[float, float, float] | None = None
    memory_mib: float | None = None
    rounds: int = 0


@dataclass(frozen=True)
class Target:
    """A goal of the project in words, what is wanted of a number, and the number."""

    says: str
    value: float
    at_least: float | None = None
    at_most: float | None = None

    @property
    def met(self) -> bool:
        return (self.at_least is None or self.value >= self.at_least) and (
            self.at_most is None or self.value <= self.at_most
        )


@dataclass
class Section:
    """One benchmark: what it measured and which targets that speaks to."""

    letter: str
    title: str
    rows: list[Row] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    measured: dict[str, Any] = field(default_factory=dict)
    """When, at which commit, under which load (:func:`measured`)."""

    def row(self, case: str, contender: str) -> Row:
        return next(one for one in self.rows if (one.case, one.contender) == (case, contender))

    def has(self, case: str, contender: str) -> bool:
        return any((one.case, one.contender) == (case, contender) for one in self.rows)


def rows_of(
    case: str,
    timings: Mapping[str, Timing],
    *,
    unit: str = "ms",
    scale: float = 1e3,
    against: str = OURS,
    memory_mib: Mapping[str, float] | None = None,
) -> list[Row]:
    """Rows of one interleaved measurement; ``scale`` turns seconds into ``unit``."""
    return [
        Row(
            case=case,
            contender=name,
            unit=unit,
            wall=timing.median_wall * scale,
            cpu=timing.median_cpu * scale,
            times=timing.times(timings[against]),
            memory_mib=(memory_mib or {}).get(name),
            rounds=len(timing.wall),
        )
        for name, timing in timings.items()
    ]


def circumstances() -> dict[str, Any]:
    """Machine, load, versions and commit: what a reader needs to judge the numbers."""
    found = {}
    for library in LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            found[library] = "not installed"
    return {
        **provenance.describe(gpu=None, threads=torch.get_num_threads()),
        "libraries": found,
        "cores": os.cpu_count(),
        "vector_instructions": torch.backends.cpu.get_cpu_capability(),
    }


def number(value: float | None) -> str:
    """Three significant digits, thousands in full."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(sections: Iterable[Section]) -> str:
    """Markdown: a table for every section, then the targets."""
    lines: list[str] = []
    targets: list[Target] = []
    for section in sections:
        lines += [f"## {section.letter}. {section.title}", "", *section.notes, when(section.measured), ""]
        memory = any(row.memory_mib is not None for row in section.rows)
        head = ["case", "contender", "wall", "CPU", "unit", "CPU time / ours (quartiles)", *["MiB"] * memory]
        lines += ["| " + " | ".join(head) + " |", "|---|---|--:|--:|---|--:|" + "--:|" * memory]
        lines += [f"| {' | '.join(cells(row, memory))} |" for row in section.rows]
        lines.append("")
        targets += section.targets
    if targets:
        lines += ["## Targets", "", "| target | wanted | measured | |", "|---|--:|--:|---|", *map(verdict, targets), ""]
    return "\n".join(lines)


def when(measured: Mapping[str, Any]) -> str:
    """One line of circumstances."""
    if not measured:
        return ""
    load, quick = " to ".join(f"{one:.1f}" for one in measured["load_average"]), ", quick" * measured["quick"]
    where = f"{measured['cpu']}; " if "cpu" in measured else ""
    spent = f"{measured['seconds']:.0f} s, load average {load}."
    return f"{where}{measured['time']}, commit {measured['commit']}{quick}; {spent}"


def cells(row: Row, memory: bool) -> list[str]:
    low, middle, high = (f"{one:.2f}" for one in row.times) if row.times else ("", "", "")
    times = f"{middle} ({low} – {high})" if row.times and row.contender != OURS else middle
    rest = [number(row.memory_mib)] if memory else []
    return [row.case, row.contender, number(row.wall), number(row.cpu), row.unit, times, *rest]


def verdict(target: Target) -> str:
    wanted = f"≥ {number(target.at_least)}" if target.at_least is not None else f"≤ {number(target.at_most)}"
    return f"| {target.says} | {wanted} | {number(target.value)} | {'met' if target.met else '**missed**'} |"


def section_of(found: Mapping[str, Any]) -> Section:
    """A section as :func:`write` left it."""
    rows = [Row(**{**one, "times": tuple(one["times"]) if one["times"] else None}) for one in found["rows"]]
    targets = [Target(**{key: value for key, value in one.items() if key != "met"}) for one in found["targets"]]
    return Section(found["letter"], found["title"], rows, targets, found["notes"], found["measured"])


def merged(path: Path, fresh: Sequence[Section]) -> list[Section]:
    """What the file at ``path`` holds, with the ``fresh`` sections in place of their older selves."""
    file = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"sections": []}
    older = file["sections"]
    for one in older:  # which machine a section is of, however many machines the file has seen
        if one["measured"]:
            one["measured"].setdefault("cpu", file["about"]["hardware"]["cpu"])
    known = {one["letter"]: section_of(one) for one in older} | {one.letter: one for one in fresh}
    return [known[letter] for letter in sorted(known)]


def write(folder: Path, name: str, about: Mapping[str, Any], sections: Sequence[Section]) -> str:
    """``<name>.json`` and ``<name>.md`` in ``folder``; returns the Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "about": about,
        "sections": [
            {**asdict(one), "targets": [{**asdict(t), "met": t.met} for t in one.targets]} for one in sections
        ],
    }
    (folder / f"{name}.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    cpus = {str(one.measured.get("cpu", about["hardware"]["cpu"])): None for one in sections} or [
        about["hardware"]["cpu"]
    ]
    libraries = ", ".join(f"{library} {version}" for library, version in about["libraries"].items())
    head = [
        f"# Benchmarks: {about['title']}",
        "",
        f"{' and '.join(cpus)}, {about['cores']} cores; {libraries}; Python {about['versions']['python']}.",
        "",
        about.get("method", IN_TURNS),
        "",
    ]
    text = "\n".join([*head, table(sections)])
    (folder / f"{name}.md").write_text(text, encoding="utf-8")
    return text
