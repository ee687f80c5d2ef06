"""Check what reports and claims refer to: dotted paths, metrics, published tables.

A claim about a cell that the grid never makes, or a column of a metric that no evaluation yields, would only show
as a gap after all the compute is spent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from harness.components import Evaluation
from harness.config import builtin, registry
from harness.config.claim import CLAIM_KINDS, FORMS, TRAINING, BestOf, Claim
from harness.config.errors import Complaint, SpecError, nearest
from harness.config.experiment import Experiment
from harness.config.grid import Arm, lookup
from harness.config.matching import stands_for
from harness.config.published import load_published
from harness.config.registry import integral
from harness.config.yaml_file import Keys

BLOCKS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "heatmap": (frozenset({"rows", "columns", "cell"}), frozenset({"row_mean"})),
    "table": (frozenset({"columns"}), frozenset({"rows", "against", "sort"})),
    "lines": (frozenset({"x", "y"}), frozenset({"lines", "log_x"})),
    "scatter": (frozenset({"of", "panels"}), frozenset({"color"})),
    "spectrum": (frozenset({"of", "curves"}), frozenset()),
}
"""Kind of report block -> (keys it needs, keys it alone may have)."""

ANY_BLOCK = frozenset({"published", "where", "best_of", "reference"})
"""Keys of every report block: the paper's table beside it, the arms it is restricted to, how one of several settings is
chosen for a place (on validation images), and numbers of other experiments shown beside it."""


@dataclass
class References:
    """Paths that every arm must state, and the published tables, by name."""

    paths: list[str] = field(default_factory=list)
    published: dict[str, dict[str, Any]] = field(default_factory=dict)


def check_references(
    experiment: Experiment, arms: Sequence[Arm], evaluations: Sequence[Evaluation]
) -> tuple[References, list[Complaint]]:
    """Collect what is mentioned, and a complaint for everything that nothing yields."""
    names = {one.label: next(iter(one.resolved)) for one in evaluations}
    fields = {one.label: next(iter(one.resolved.values())) for one in evaluations}
    splits = {label: [str(held["split"])] for label, held in fields.items() if "split" in held}
    checker = _Checker(experiment, arms, names, splits)
    checker.report()
    checker.claims()
    checker.add_summaries()
    return checker.found, checker.complaints


@dataclass
class _Checker:
    experiment: Experiment
    arms: Sequence[Arm]
    evaluations: Mapping[str, str]  # label -> name
    splits: Mapping[str, list[str]]  # label -> the images it is made on (test, validation), where it says so
    found: References = field(default_factory=References)
    complaints: list[Complaint] = field(default_factory=list)

    # --- report blocks

    def report(self) -> None:
        where = self.experiment.where("report")
        written: Any = self.experiment.document.data
        for key in where:
            written = written.get(key, {}) if isinstance(written, dict) else {}
        for index, block in enumerate(self.experiment.report):
            for kind, parts in block.items():
                place: Keys = (*where, kind) if isinstance(written, dict) else (*where, index, kind)
                self._block(kind, parts, place)

    def _block(self, kind: str, parts: Mapping[str, Any], place: Keys) -> None:
        needs, may = BLOCKS[kind][0], BLOCKS[kind][1] | ANY_BLOCK
        for key in parts:
            if key not in needs | may:
                self._complain((*place, key), f"{kind} has no {key!r}: {nearest(key, needs | may)}")
        for key in sorted(needs - set(parts)):
            self._complain(place, f"{kind} needs {key!r}")
        axes = ("rows",) if kind == "table" else ("rows", "columns", "x", "lines")
        for key in axes:
            for name, path in self._mapping(parts, key, place):
                self._path(path, (*place, key, name))
        for key in ("cell", "y"):
            if key in parts:
                self._metric(parts[key], (*place, key))
        if "of" in parts:
            self._arrays(parts, place)
        if kind == "table":
            for name, metric in self._mapping(parts, "columns", place):
                self._metric(metric, (*place, "columns", name))
            self._ranking(parts, place)
        if "published" in parts:
            self._published(parts["published"], (*place, "published"))
        if "where" in parts and self._is_mapping(parts["where"], (*place, "where")):
            self._side(parts["where"], (*place, "where"))
        if "best_of" in parts:
            reported = [parts.get("cell"), parts.get("y"), *(parts["columns"].values() if kind == "table" else ())]
            self._best_of(parts["best_of"], [str(one) for one in reported if one], (*place, "best_of"))
        if "reference" in parts and self._is_mapping(parts["reference"], (*place, "reference")):
            for name, about in parts["reference"].items():
                self._reference(about, (*place, "reference", name))

    def _arrays(self, parts: Mapping[str, Any], place: Keys) -> None:
        """A figure is drawn from arrays that an evaluation yields beside its numbers."""
        label = str(parts["of"])
        if label not in self.evaluations:
            self._complain((*place, "of"), f"no evaluation {label!r} here; {nearest(label, self.evaluations)}")
            return
        known = getattr(registry.evaluation.get(self.evaluations[label]), "arrays", ())
        for key in ("panels", "curves", "color"):
            for name in parts.get(key, []) if key != "color" else [parts[key]] if key in parts else []:
                if name not in known:
                    self._complain((*place, key), f"{label} yields no array {name!r}: {nearest(str(name), known)}")

    def _ranking(self, parts: Mapping[str, Any], place: Keys) -> None:
        """A table without ``rows`` has one row per arm, named by what it changes; ``against`` gives it a baseline."""
        if "rows" not in parts:
            for path in dict.fromkeys(path for arm in self.arms for path in arm.settings):
                self._path(path, place)
        if parts.get("sort", "drop") != "drop" or ("sort" in parts and "against" not in parts):
            self._complain((*place, "sort"), "sort is 'drop', the difference to the baseline that `against` names")
        against = parts.get("against", "first")
        if isinstance(against, dict):
            self._side(against, (*place, "against"))
        elif against != "first":
            self._complain((*place, "against"), "against is 'first' (the first arm) or the settings of the baseline")

    def _best_of(self, written: Any, reported: Sequence[str], place: Keys) -> None:
        try:
            rule = written if isinstance(written, BestOf) else BestOf.model_validate(written)
        except ValidationError:
            self._complain(place, "best_of is {over: [dotted.path, ...], by: linear@validation/top1}")
            return
        for path in rule.over:
            self._path(path, (*place, "over"))
        self._metric(rule.by, (*place, "by"))
        try:
            for metric in reported:
                rule.check(metric, self.splits.get(rule.by.partition("/")[0], ()))
        except SpecError as error:
            self._complain((*place, "by"), str(error))

    def _reference(self, about: Any, place: Keys) -> None:
        if not isinstance(about, dict) or not {"experiment"} <= set(about) <= {"experiment", "at"}:
            self._complain(place, "reference is {what to print: {experiment: its name, at: {dotted.path: value}}}")
            return
        folder = self.experiment.document.path.parent
        if not builtin.beside(folder, f"{about['experiment']}.yaml").is_file():
            known = builtin.names(folder, "*.yaml")
            self._complain(place, f"no experiment {about['experiment']!r}: {nearest(str(about['experiment']), known)}")

    def _is_mapping(self, written: Any, place: Keys) -> bool:
        if isinstance(written, dict):
            return True
        self._complain(place, f"{place[-1]} is a mapping")
        return False

    def _mapping(self, parts: Mapping[str, Any], key: str, place: Keys) -> Iterable[tuple[str, Any]]:
        held = parts.get(key, {})
        if isinstance(held, dict):
            return held.items()
        self._complain((*place, key), f"{key} must be {{what to print: dotted.path}}")
        return ()

    # --- claims

    def claims(self) -> None:
        for index, claim in enumerate(self.experiment.claims):
            self._claim(claim, self.experiment.where("claims", index))

    def _claim(self, claim: Claim, place: Keys) -> None:
        expect = claim.expect
        (kind,) = (key for key in expect if key in CLAIM_KINDS)
        inside: Keys = (*place, "expect", kind)
        stated, sides = expect[kind], self._sides(kind, expect[kind])
        if kind == "agrees":
            self._published(stated, inside)
        elif kind in ("monotone", "saturates"):
            self._path(stated, inside)
        elif sides is None:
            self._complain(inside, f"{kind} is written {FORMS[kind]}")
            return
        if kind == "saturates" and any(not _is_number(self._at(arm, stated)) for arm in self.arms):
            self._complain(inside, f"saturates needs a numeric path, and {stated!r} is not a number in every arm")
        if kind in ("greater", "order", "equivalent") and _repeated(sides or []):
            self._complain(inside, f"{kind} compares a side with itself: make its sides different")
        if "where" in expect:
            self._side(expect["where"], (*place, "expect", "where"))
        for side in sides or []:
            self._side(side, inside)
        if claim.on is not None:
            self._metric(claim.on, (*place, "on"))
        elif kind != "agrees" and not (sides and all("on" in side for side in sides)):
            self._complain(place, "does not name a metric: add e.g. `on: linear/top1`")
        if claim.best_of is not None:
            reported = [claim.on, *(side.get("on") for side in sides or [])]
            self._best_of(claim.best_of, [one for one in reported if one], (*place, "best_of"))

    @staticmethod
    def _sides(kind: str, stated: Any) -> list[dict[str, Any]] | None:
        """The sets of arms that a claim compares; None if it is written in another form."""
        if kind in ("monotone", "saturates", "agrees"):
            return [] if isinstance(stated, str) else None
        if kind in ("best", "lowest") and isinstance(stated, dict):
            listed = {path: values if isinstance(values, list) else [values] for path, values in stated.items()}
            return [{path: value} for path, values in listed.items() for value in values]
        if kind == "close" and isinstance(stated, dict):
            return [stated]
        well = isinstance(stated, list) and len(stated) >= 2 and all(isinstance(side, dict) for side in stated)
        well = well and (kind == "order" or len(stated) == 2)
        return list(stated) if kind in ("greater", "order", "equivalent") and well else None

    def _side(self, side: Mapping[str, Any], place: Keys) -> None:
        wanted = {path: value for path, value in side.items() if path not in ("on", "minus")}
        if not all(self._path(path, place) for path in wanted):
            return
        if "on" in side:
            self._metric(side["on"], place)
        matched = any(
            all(stands_for(self._at(arm, path), integral(value)) for path, value in wanted.items()) for arm in self.arms
        )
        if not matched and self._same_level():
            said = ", ".join(f"{path}: {value}" for path, value in wanted.items())
            self._complain(place, f"no run of this experiment has {said}")
        elif isinstance(side.get("minus"), dict):
            self._side({**wanted, **side["minus"]}, place)

    def _same_level(self) -> bool:
        """Claims written for the paper's grid may point past the smaller grid of an ``at:`` block: NOT RUN there."""
        return self.experiment.where("vary")[0] == self.experiment.where("claims")[0] or (
            self.experiment.where("vary")[0] == "vary" and self.experiment.where("claims")[0] == "claims"
        )

    # --- the three kinds of things that can be pointed at

    def _at(self, arm: Arm, path: str) -> Any:
        try:
            return integral(lookup(arm.tree, arm.settings, path))
        except SpecError:
            return None

    def _path(self, path: Any, place: Keys) -> bool:
        if not isinstance(path, str):
            self._complain(place, f"{path!r} is not a dotted path")
            return False
        if any(self._at(arm, path) is not None for arm in self.arms):
            if path not in self.found.paths:
                self.found.paths.append(path)
            return True
        try:
            lookup(self.arms[0].tree, self.arms[0].settings, path)
            self._complain(place, f"{path!r}: no run of this experiment has it")
        except SpecError as error:
            self._complain(place, str(error))
        return False

    def _metric(self, metric: Any, place: Keys) -> None:
        label, _, name = str(metric).partition("/")
        if label == TRAINING:
            logged = ["loss", *(log for one in self._methods() for log in getattr(one, "logs", ()))]
            if name not in logged:
                said = nearest(str(metric), [f"{TRAINING}/{one}" for one in dict.fromkeys(logged)])
                self._complain(place, f"metric {metric!r}: no method here logs it; {said}")
            return
        if label not in self.evaluations:
            self._complain(
                place, f"metric {metric!r}: no evaluation {label!r} here; {nearest(label, self.evaluations)}"
            )
            return
        yields = getattr(registry.evaluation.get(self.evaluations[label]), "metrics", None)
        if not name or (yields is not None and name not in yields):
            known = nearest(str(metric), [f"{label}/{one}" for one in yields or ()])
            self._complain(place, f"metric {metric!r}: {label} does not yield it; {known}")

    def _methods(self) -> Iterable[type]:
        return (
            registry.method.get(name)
            for name in dict.fromkeys(name for arm in self.arms for name in arm.tree["method"])
        )

    def _published(self, name: Any, place: Keys) -> None:
        try:
            table = load_published(self.experiment.document.path.parent, str(name))
        except SpecError as error:
            self.complaints += [
                one if one.where else self.experiment.document.complaint(place, one.what) for one in error.complaints
            ]
            return
        self.found.published[str(name)] = table
        for path in {path for cell in table["cells"] for path in cell["at"]}:
            if path not in self.found.paths and any(self._at(arm, path) is not None for arm in self.arms):
                self.found.paths.append(path)

    def add_summaries(self) -> None:
        """The third-party summary's account of the same artefact travels with it."""
        folder = self.experiment.document.path.parent
        artefacts = {name.rpartition("/")[2] for name in self.found.published}
        found = {one for one in artefacts if builtin.beside(folder, f"paper/summary/{one}.yaml").is_file()}
        if (folder / "paper" / "summary" / f"{self.experiment.name}.yaml").is_file():  # of one's own: no namesake's
            found.add(self.experiment.name)
        for artefact in sorted(found):
            self._published(f"summary/{artefact}", ())
        self.found.paths.sort()

    def _complain(self, place: Keys, what: str) -> None:
        one = self.experiment.document.complaint(place, what)
        if one not in self.complaints:
            self.complaints.append(one)


def _repeated(sides: Sequence[Any]) -> bool:
    return any(side in sides[:place] for place, side in enumerate(sides))


def _is_number(value: Any) -> bool:
    """None is an arm that has no such field, and is not compared."""
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
