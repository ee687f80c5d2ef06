"""Read experiment and scale files, and report every error of a file at once.

An experiment is one YAML with eight keys and no logic; a scale is a complete run with every option written out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from harness.config import builtin
from harness.config.claim import Claim
from harness.config.errors import Complaint, SpecError, nearest, remedy
from harness.config.looks import LOOKS, Looks
from harness.config.run import Precision
from harness.config.yaml_file import Document, read_yaml

_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True)

REPORT_KINDS = ("heatmap", "table", "lines", "scatter", "spectrum")

NAME = re.compile(r"\w[\w. -]*(?<! )")
"""What the names of experiment and scale files may be made of: ``name@scale+changed`` is how results are told apart,
a comma ends a job's name for squeue, and the names are typed, linked to and given to the shell.
"""
LONGEST_NAME = 100  # bytes: with the scale and what -o changed it is the name of a file, of 255 at the most

EntryInFile = str | dict[str, dict[str, Any] | None]
Grid = dict[str, list[Any] | dict[Literal["pairs"], list[str]]]
Positive = Annotated[int, Field(ge=1)]
Seeds = Annotated[int, Field(ge=1, le=10_000)]


def _not_empty(vary: list[Grid]) -> list[Grid]:
    """Refuse a grid without values, which would drop every run."""
    if not vary or any(not grid for grid in vary):
        raise ValueError("`vary` must not be empty: write at least one grid with one axis")
    for grid in vary:
        for path, values in grid.items():
            if not (values.get("pairs") if isinstance(values, dict) else values):
                raise ValueError(f"axis {path!r} has no values: list at least one")
    return vary


def _evaluates(entries: list[EntryInFile]) -> list[EntryInFile]:
    """Refuse an experiment without evaluations."""
    if not entries:
        raise ValueError("`evaluate` must not be empty: name at least one evaluation, such as linear")
    return entries


Evaluate = Annotated[list[EntryInFile], AfterValidator(_evaluates)]
Grids = Annotated[list[Grid], AfterValidator(_not_empty)]


class AtScale(BaseModel):
    """What an experiment replaces, whole, at one scale."""

    model_config = _STRICT
    fixed: dict[str, Any] | None = None
    vary: Grids | None = None
    seeds: Seeds | None = None
    looks: Looks | None = None
    runs: Positive | None = None
    evaluate: Evaluate | None = None
    report: list[dict[str, dict[str, Any]]] | dict[str, dict[str, Any]] | None = None
    claims: list[Claim] | None = None


class ExperimentFile(BaseModel):
    """The keys of ``experiments/*.yaml``."""

    model_config = _STRICT
    title: str = Field(description="One line: the artefact and what it shows.")
    scale: str = Field(default="cifar10", description="The scale a plain call runs at; --scale picks another.")
    fixed: dict[str, Any] = Field(default={}, description="Dotted path -> value, for every run.")
    vary: Grids = Field(description="A list of grids; the experiment is the union of their products.")
    seeds: Seeds = Field(default=3, description="Replicates of every arm: seeds 0 .. seeds-1.")
    looks: Looks = Field(
        default=[*LOOKS], description="Numbers of seeds at which claims are judged, planned before the first result."
    )
    runs: Positive = Field(description="Expected number of runs; the plan refuses any other.")
    evaluate: Evaluate = Field(description="Evaluations; {linear: {features: z}} overrides a field.")
    report: list[dict[str, dict[str, Any]]] | dict[str, dict[str, Any]] = Field(
        default=[], description="heatmap, table, lines, scatter or spectrum blocks."
    )
    claims: list[Claim] = Field(default=[], description="What the paper says about this artefact, as predicates.")
    at: dict[str, AtScale] = Field(default={}, description="Replacements at other scales.")


class ScaleViews(BaseModel):
    """``views:`` of a scale."""

    model_config = _STRICT
    shared: list[EntryInFile] = []
    both: list[EntryInFile] = []
    targeted: list[EntryInFile] = []
    branches: list[dict[str, Any]] = []


class ScaleFile(BaseModel):
    """The keys of ``experiments/scales/*.yaml``: a complete run, every option written out."""

    model_config = _STRICT
    title: str
    note: str = Field(description="One sentence: how this scale differs from the paper's setting.")
    paper_scale: bool = False
    data: EntryInFile
    augmentations: dict[str, dict[str, Any]] = Field(description="What a bare augmentation name means here.")
    views: ScaleViews
    method: EntryInFile
    encoder: EntryInFile
    norm: dict[str, Any]
    head: EntryInFile
    objective: EntryInFile | None = None
    optimizer: EntryInFile
    schedule: dict[str, Any]
    precision: Precision = "float32"
    evaluations: dict[str, dict[str, Any]] = Field(description="What a bare evaluation name means here.")


@dataclass(frozen=True)
class Scale:
    """A scale file, read and checked; ``tree`` is the complete run that dotted paths point into."""

    name: str
    document: Document
    file: ScaleFile

    @property
    def tree(self) -> dict[str, Any]:
        """The complete run, as plain data."""
        about = {"title", "note", "paper_scale"}
        return {key: value for key, value in self.file.model_dump(mode="json").items() if key not in about}


@dataclass(frozen=True)
class Experiment:
    """An experiment file at one scale: its ``at:`` block applied, everything else as written."""

    name: str
    document: Document
    file: ExperimentFile
    scale: Scale

    @property
    def question(self) -> str:
        """The leading comment of the file."""
        return self.document.comment

    def where(self, *keys: str | int) -> tuple[str | int, ...]:
        """The place in the file that ``keys`` come from: inside ``at:`` where that replaced them."""
        inside = ("at", self.scale.name, *keys)
        block = self.file.at.get(self.scale.name)
        return inside if keys and block is not None and getattr(block, str(keys[0]), None) is not None else keys

    def _at(self, key: str) -> Any:
        replaced = getattr(self.file.at.get(self.scale.name), key, None)
        return getattr(self.file, key) if replaced is None else replaced

    @property
    def fixed(self) -> dict[str, Any]:
        """Dotted path -> value, for every run at this scale."""
        fixed: dict[str, Any] = self._at("fixed")
        return fixed

    @property
    def as_in_paper(self) -> bool:
        """Whether its runs are of the paper's setting: the scale is, and ``fixed:`` has left it as it is.

        What stands under ``at: {<scale>: {fixed: ...}}`` is that file's word for what the paper did *there* (CIFAR-10
        in appendix B.9); a ``fixed:`` for all scales is not, where it touches data, network, length or evaluation.
        """
        there = getattr(self.file.at.get(self.scale.name), "fixed", None) is not None
        touched = () if there else {path.partition(".")[0] for path in self.fixed}
        return self.scale.file.paper_scale and not {"data", "encoder", "schedule", "evaluations", "precision"} & {
            *touched
        }

    @property
    def vary(self) -> list[Grid]:
        """The grids at this scale."""
        vary: list[Grid] = self._at("vary")
        return vary

    @property
    def seeds(self) -> int:
        """Replicates of every arm at this scale."""
        return int(self._at("seeds"))

    @property
    def looks(self) -> list[int]:
        looks: list[int] = self._at("looks")
        return looks

    @property
    def runs(self) -> int:
        """Expected number of runs at this scale."""
        return int(self._at("runs"))

    @property
    def evaluate(self) -> list[EntryInFile]:
        """Evaluations at this scale."""
        evaluate: list[EntryInFile] = self._at("evaluate")
        return evaluate

    @property
    def report(self) -> list[dict[str, dict[str, Any]]]:
        """Report blocks at this scale, one kind each."""
        blocks = self._at("report")
        return [{kind: block} for kind, block in blocks.items()] if isinstance(blocks, dict) else blocks

    @property
    def claims(self) -> list[Claim]:
        """Claims at this scale."""
        claims: list[Claim] = self._at("claims")
        return claims


def load_experiment(path: Path, scale: str | None = None) -> Experiment:
    """Read an experiment and the scale it runs at. Raises :class:`SpecError` with every complaint."""
    document = read_yaml(path)
    file = _experiment_file(document)
    known = scale_names(path.parent)
    complaints = [
        *_name_faults(path),
        *(_name_faults(builtin.beside(path.parent, f"scales/{scale or file.scale}.yaml"))),
    ]
    complaints += [
        document.complaint(("at", name), f"unknown scale {name!r}: {nearest(name, known)}")
        for name in file.at
        if name not in known
    ]
    chosen = file.scale if scale is None else scale
    if chosen not in known:
        said = nearest(chosen, known)
        place = document.complaint(("scale",), f"unknown scale {chosen!r}: {said}")
        complaints.append(place if scale is None else Complaint("--scale", f"unknown scale {chosen!r}: {said}"))
    for index, block in enumerate(file.report if isinstance(file.report, list) else [file.report]):
        complaints += [
            document.complaint(("report", index, kind), f"unknown report block {kind!r}: {nearest(kind, REPORT_KINDS)}")
            for kind in block
            if kind not in REPORT_KINDS
        ]
    ids = [claim.id for claim in file.claims]
    complaints += [
        document.complaint(("claims", index, "id"), f"claim id {one!r} is used twice")
        for index, one in enumerate(ids)
        if one in ids[:index]
    ]
    if complaints:
        raise SpecError(complaints)
    return Experiment(path.stem, document, file, load_scale(path.parent, chosen))


def _name_faults(path: Path) -> Iterable[Complaint]:
    """What is wrong with the name of an experiment or scale file; results and jobs are named after it."""
    name = path.stem
    shown = repr(name) if len(name) <= 60 else f"{name[:57]!r}..."
    if not NAME.fullmatch(name):
        odd = sorted({letter for letter in name if not re.match(r"[\w. -]", letter)}) or [name[:1], name[-1:]]
        said = f"{shown} cannot name results and jobs ({', '.join(map(repr, odd))}): rename the file"
        yield Complaint(_printable(path), f"{said} with letters, digits, '.', '_', '-' and spaces within")
    elif len(name.encode()) > LONGEST_NAME:
        yield Complaint(_printable(path), f"{shown} is too long to name results and jobs: {LONGEST_NAME} bytes at most")


def _printable(path: Path) -> str:
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in str(path))


def scale_names(experiments: Path) -> list[str]:
    """The scales that an experiment file in this folder can run at: those beside it, and the built-in ones."""
    return builtin.names(experiments, "scales/*.yaml")


def load_scale(experiments: Path, name: str) -> Scale:
    """Read ``experiments/scales/<name>.yaml``, or the built-in scale of that name."""
    path = builtin.beside(experiments, f"scales/{name}.yaml")
    return _scale(path, path.stat().st_mtime_ns if path.is_file() else 0)


@lru_cache(maxsize=64)
def _scale(path: Path, changed: int) -> Scale:
    """Read once, however many experiments of a command run at it: nobody writes into what it holds."""
    document = read_yaml(path)
    return Scale(path.stem, document, _checked(ScaleFile, document))


def _experiment_file(document: Document) -> ExperimentFile:
    """The file, checked. Without ``runs`` it has 0: the plan, which counts them, says which number to write."""
    if "runs" not in document.data:
        with suppress(ValidationError):  # what else is wrong is said below, together with this
            return ExperimentFile.model_validate({**document.data, "runs": 1}).model_copy(update={"runs": 0})
    file: ExperimentFile = _checked(ExperimentFile, document)
    return file


def _checked(model: type[Any], document: Document) -> Any:
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        raise SpecError(_complaints(error, model, document)) from None


def _complaints(error: ValidationError, model: type[BaseModel], document: Document) -> Iterable[Complaint]:
    """pydantic's errors with file, line and the nearest valid key; one per place (unions report every branch)."""
    seen: set[tuple[str | int, ...]] = set()
    for one in error.errors():
        keys = tuple(part for part in one["loc"] if _is_written(part, document))
        if keys in seen:
            continue
        seen.add(keys)
        name = ".".join(str(part) for part in keys) or "file"
        if one["type"] == "extra_forbidden":
            owner, unknown = _model_at(model, keys), str(one["loc"][-1])  # which may look like a branch: "str"
            yield document.complaint(one["loc"], f"unknown key {unknown!r}: {nearest(unknown, owner)}")
        elif one["type"] == "missing":
            yield document.complaint(keys, f"{str(one['loc'][-1])!r} is missing")
        else:
            said, more = one["msg"].removeprefix("Value error, "), remedy(one["type"], one.get("input"))
            yield document.complaint(keys, f"{name}: {said[0].lower() + said[1:]}{_got(one)}{more}")


def _got(error: Any) -> str:
    """What stands there, where the message is pydantic's and does not say so."""
    ours = error["type"] == "value_error" or not isinstance(error.get("input"), str | int | float | bool)
    return "" if ours else f" (got {json.dumps(error['input'])[:80]})"


def _is_written(part: str | int, document: Document) -> bool:
    """Whether a part of pydantic's location is a key of the file rather than the label of a union's branch."""
    if isinstance(part, int):
        return True
    return part not in ("str",) and not part.startswith(("dict[", "list[", "constrained", "nullable"))


def _model_at(model: type[BaseModel], keys: tuple[str | int, ...]) -> list[str]:
    """Valid keys beside ``keys[-1]``."""
    if len(keys) >= 3 and keys[0] == "at":
        return list(AtScale.model_fields)
    if len(keys) >= 2 and "claims" in keys:
        return list(Claim.model_fields)
    if model is ScaleFile and len(keys) == 2 and keys[0] == "views":
        return list(ScaleViews.model_fields)
    return list(model.model_fields)
