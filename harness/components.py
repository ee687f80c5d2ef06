"""Run -> built parts: the one importer of all component modules, and the only place where both sides meet.

``resolve`` turns an arm's tree of settings into a :class:`~harness.config.run.Run` with every default filled in;
``build`` turns a run into the objects that the loop calls. A specification that plans is one that builds.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from pydantic import ValidationError

import harness.data
import harness.evaluate
import harness.methods
import harness.models
import harness.objectives
import harness.optim
from harness.config import plugins, registry
from harness.config.errors import Complaint, SpecError, nearest
from harness.config.grid import COMPONENTS, OPTIONAL
from harness.config.registry import Resolved, split_entry
from harness.config.run import BranchSpec, Run, evaluation_id
from harness.config.run import Evaluation as Evaluation
from harness.data.views import Branch, Views
from harness.methods.base import Method, Task
from harness.models.encoder import Encoder
from harness.models.norm import BatchNorm, Norm

for _package in (harness.data, harness.optim, harness.models, harness.objectives, harness.methods, harness.evaluate):
    for _module in pkgutil.iter_modules(_package.__path__):
        if _module.name != "__main__":
            importlib.import_module(f"{_package.__name__}.{_module.name}")
for _entry in plugins.entry_points():
    try:
        _entry.load()
    except Exception as error:
        said = (
            f"entry point {_entry.name!r} ({_entry.value}) of group {plugins.GROUP!r}: {type(error).__name__}: {error}"
        )
        raise SpecError(f"{said}; fix or uninstall that package") from error


Encode = Callable[..., torch.nn.Module]
_JSON = json.JSONEncoder(default=repr)


def resolve(tree: Mapping[str, Any], seed: int) -> Run:
    """Return the run that a normalised tree describes. Raises :class:`SpecError` with dotted paths as places."""
    complaints: list[Complaint] = []
    parts = {key: _component(complaints, key, tree) for key in COMPONENTS}
    _defaults(complaints, tree)
    parts["views"] = _views(complaints, tree)
    if not complaints:
        parts |= {"norm": tree["norm"], "schedule": registry.integral(tree["schedule"])}
        try:
            return Run.model_validate({**parts, "precision": tree["precision"], "seed": seed})
        except ValidationError as error:
            complaints = [_invalid(one) for one in error.errors()]
    raise SpecError(complaints)


def _invalid(error: Any, *within: str) -> Complaint:
    """What pydantic found, at its dotted path."""
    where = ".".join(map(str, (*within, *error["loc"])))
    return Complaint(where, f"{error['msg']} (got {_JSON.encode(error.get('input'))})")


def _component(complaints: list[Complaint], key: str, tree: Mapping[str, Any]) -> Any:
    if tree[key] is None and key in OPTIONAL:
        return None
    return _attempt(complaints, key, lambda: COMPONENTS[key].resolve(tree[key]))


def _defaults(complaints: list[Complaint], tree: Mapping[str, Any]) -> None:
    """Check what the scale says of each augmentation, used or not."""
    for name, fields in tree["augmentations"].items():
        path = f"augmentations.{name}"
        _attempt(complaints, path, lambda name=name, fields=fields: _augmentation({name: fields}, {}))


def _views(complaints: list[Complaint], tree: Mapping[str, Any]) -> dict[str, list[Any]]:
    defaults = tree["augmentations"]
    before = len(complaints)
    views = {
        place: _branches(complaints, f"views.{place}", entries, defaults)
        if place == "branches"
        else _branch(complaints, f"views.{place}", entries, defaults)
        for place, entries in tree["views"].items()
    }
    if len(complaints) == before:
        _attempt(complaints, "views.branches", lambda: build_views(views))  # valid one by one, but not together
    return views


def _branches(complaints: list[Complaint], path: str, written: Any, defaults: Mapping[str, Any]) -> list[Any]:
    """``views.branches``, every augmentation resolved as in ``both``."""
    if not isinstance(written, list):
        said = f"{path} must be a list of branches: [{{augment: [crop, flip], count: 2}}], not {_JSON.encode(written)}"
        complaints.append(Complaint(path, said))
        return []
    resolved = []
    for place, one in enumerate(written):
        here = f"{path}.{place}"
        if not isinstance(one, Mapping) or "augment" not in one:
            said = f"{_JSON.encode(one)} is not a branch: write {{augment: [...], count: 1, size: null}}"
            complaints.append(Complaint(here, said))
            continue
        before = len(complaints)
        fields = {**one, "augment": _branch(complaints, f"{here}.augment", one["augment"], defaults)}
        for unknown in fields.keys() - {*BranchSpec.model_fields}:
            said = f"a branch has no field {unknown!r}: {nearest(unknown, BranchSpec.model_fields)}"
            complaints.append(Complaint(f"{here}.{unknown}", said))
        if len(complaints) > before:
            continue
        try:
            resolved.append(BranchSpec.model_validate(registry.integral(fields)).model_dump(mode="json"))
        except ValidationError as error:
            complaints += [_invalid(one, here) for one in error.errors()]
    return resolved


def _branch(complaints: list[Complaint], path: str, entries: Any, defaults: Mapping[str, Any]) -> list[Any]:
    if not isinstance(entries, list):  # the letters of a word are no augmentations
        complaints.append(Complaint(path, f"{path} must be a list of augmentations: [{entries}], not {entries!r}"))
        return []
    return [_attempt(complaints, path, lambda entry=entry: _augmentation(entry, defaults)) for entry in entries]


def resolve_evaluations(tree: Mapping[str, Any], entries: list[Any]) -> list[Evaluation]:
    """``evaluate:`` of an experiment, the scale's meaning of each name filled in."""
    asked = []
    complaints: list[Complaint] = []
    for entry in entries:
        resolved = _attempt(
            complaints,
            "evaluate",
            lambda entry=entry: _with_defaults(registry.evaluation, entry, tree["evaluations"]),
        )
        if resolved is not None:
            asked.append(Evaluation(_label(resolved), evaluation_id(resolved), resolved))
    labels = [one.label for one in asked]
    complaints += [
        Complaint("evaluate", f"{label!r} is listed twice") for label in set(labels) if labels.count(label) > 1
    ]
    if complaints:
        raise SpecError(complaints)
    return asked


def _label(resolved: Resolved) -> str:
    """``linear``, ``linear@z``, ``linear@validation``: what is not of h, or not on the test set, says so everywhere.

    Before that, what an evaluation that comes in several forms says of itself: ``fine_tune@1%``.
    """
    ((name, fields),) = resolved.items()
    variant = getattr(registry.evaluation.build(resolved), "variant", "")
    unusual = [fields[key] for key, usual in (("features", "h"), ("split", "test")) if fields.get(key, usual) != usual]
    return "@".join([name, *([variant] if variant else []), *unusual])


def _attempt(complaints: list[Complaint], place: str, work: Any) -> Any:
    try:
        return work()
    except SpecError as error:
        complaints += [Complaint(place, str(one)) for one in error.complaints]
        return None


def _augmentation(entry: Any, defaults: Mapping[str, Any]) -> Resolved:
    return _with_defaults(registry.augmentation, entry, defaults)


def _with_defaults(kind: registry.Registry, entry: Any, defaults: Mapping[str, Any]) -> Resolved:
    """Resolve an entry: fields written beside the name override those of the scale file."""
    name, fields = split_entry(entry)
    return kind.resolve({name: {**defaults.get(name, {}), **fields}})


@dataclass(frozen=True)
class Parts:
    """The components of one run: light objects, no tensors yet."""

    run: Run
    dataset: Any
    views: Views
    encoder: Any
    head: Any
    objective: Any
    method: Any
    norm: Norm
    optimizer: Any

    def task(self, *, images: int, classes: int) -> Task:
        """What the method is told of its run: ``images`` of the training set, and their ``classes``."""
        schedule = self.run.schedule
        return Task(
            images=images,
            classes=classes,
            image_size=image_size(self.run),
            batch_size=schedule.batch_size,
            steps=schedule.epochs * (images // schedule.batch_size),
            norm=self.norm,
        )

    def build_method(self, *, images: int, classes: int, encoder: Encode | None = None) -> Method:
        """The networks, initialised from torch's global generator (the loop seeds it from the run).

        ``encoder`` takes the place of the run's own. Raises :class:`SpecError` for parts that do not go together.
        """

        def fresh(*, size: int | None = None, channels: int = 3) -> Encoder:
            made: Encoder = self.encoder.build(self.norm, size or image_size(self.run), channels)
            if not isinstance(getattr(made, "out_dim", None), int):
                said = f"{next(iter(self.run.encoder))!r} builds a network without out_dim: set it to the length of h"
                raise SpecError([Complaint("encoder", said)])
            return made

        built: Method = self.method.build(
            self.task(images=images, classes=classes),
            encoder or fresh,
            lambda in_dim: self.head.build(in_dim, self.norm),
            self.objective,
        )
        return built

    def build_optimizers(self, method: Method) -> dict[str, torch.optim.Optimizer]:
        """One for each player of a method, all with the run's settings."""
        return {name: self.optimizer.build(player, method.groups(name)) for name, player in method.players().items()}


def image_size(run: Run) -> int:
    """Pixels of the (square) images of a run; CIFAR-10, which has no such field, has 32."""
    return next(iter(run.data.values())).get("image_size") or 32


def build_views(views: Mapping[str, list[Any]]) -> Views:
    """The augmentations of ``views`` of a specification. Raises :class:`SpecError` if they do not go together."""

    def built(entries: list[Resolved]) -> tuple[Any, ...]:
        return tuple(registry.augmentation.restore(one) for one in entries)

    branches = tuple(Branch(**{**one, "augment": built(one["augment"])}) for one in views.get("branches", []))
    shared, both, targeted = (built(views.get(place, [])) for place in ("shared", "both", "targeted"))
    return Views(shared=shared, both=both, targeted=targeted, branches=branches)


def build(run: Run) -> Parts:
    """The parts of a run. Raises :class:`SpecError` if one of them refuses its settings."""
    return Parts(
        run=run,
        dataset=registry.dataset.restore(run.data),
        views=build_views(run.views.model_dump()),
        encoder=registry.encoder.restore(run.encoder),
        head=registry.head.restore(run.head),
        objective=None if run.objective is None else registry.objective.restore(run.objective),
        method=registry.method.restore(run.method),
        norm=Norm(**run.norm.model_dump()),
        optimizer=registry.optimizer.restore(run.optimizer),
    )


def check(run: Run) -> None:
    """Build what a resolved run needs, networks included, on torch's meta device (no memory, no data).

    Raises :class:`SpecError` for combinations that no component refuses alone; alone, each was built to be resolved.
    """
    if run.schedule.batch_size % run.norm.groups:
        raise SpecError(
            [
                Complaint(
                    "norm.groups",
                    f"{run.norm.groups} groups do not divide the batch size {run.schedule.batch_size}",
                )
            ]
        )
    images = next(iter(run.data.values())).get("train_images")
    if images and run.schedule.batch_size > images:
        said = f"batch size {run.schedule.batch_size} exceeds the {images} training images"
        raise SpecError([Complaint("schedule.batch_size", said)])
    _check_views(run)
    try:
        parameters(_Structure.of(run))
    except ValueError as error:
        if isinstance(error, SpecError) and error.complaints[0].where:  # it knows better: the encoder, say
            raise
        raise SpecError([Complaint("method", str(error))]) from None
    try:
        _try_optimizer(json.dumps(run.optimizer))
    except ValueError as error:  # what torch refuses, such as Nesterov's rule without momentum
        raise SpecError([Complaint("optimizer", str(error))]) from None


def _check_views(run: Run) -> None:
    """Raises :class:`SpecError` where a method says of its class that it compares ``views``, and there are others.

    Or that it needs ``fewest_views``, and there are fewer. Nor may they differ in size, unless it says
    ``several_sizes = True``.
    """
    (name,) = run.method
    method = registry.method.get(name)
    usual = next(iter(run.data.values())).get("image_size") or 32
    parts = build_views(run.views.model_dump()).parts
    sizes = [one.after(one.size or usual) for one in parts for _ in range(one.count)]
    wanted = getattr(method, "views", len(sizes))
    if len(sizes) != wanted:
        raise SpecError([Complaint("views.branches", f"{name} needs {wanted} views of each image, not {len(sizes)}")])
    fewest = getattr(method, "fewest_views", 1)
    if len(sizes) < fewest:
        said = f"{name} compares at least {fewest} views of an image, not {len(sizes)}"
        raise SpecError([Complaint("views.branches", said)])
    if len({*sizes}) > 1 and not getattr(method, "several_sizes", False):
        said = f"{name} needs views of one size, not of {' and '.join(map(str, dict.fromkeys(sizes)))} pixels"
        raise SpecError([Complaint("views.branches", said)])


@lru_cache(maxsize=512)
def _try_optimizer(text: str) -> None:
    """Build the optimiser of this JSON over a small module. Raises ``ValueError``, which is not kept."""
    registry.optimizer.build(json.loads(text)).build(torch.nn.Linear(1, 1, device="meta"))


@dataclass(frozen=True)
class _Structure:
    """What the networks of a run depend on, as a key that compares and hashes by ``key`` alone."""

    key: str
    run: Run = field(compare=False)

    @classmethod
    def of(cls, run: Run) -> _Structure:
        objective = next(iter(run.objective or {}), "")  # its fields (a temperature, say) change no network
        networks = run.model_dump_json(include={"encoder", "head", "norm", "method"})
        return cls(f"{networks}{objective}{image_size(run)}", run)


@lru_cache(maxsize=512)
def parameters(structure: _Structure) -> int:
    """Number of parameters of a run's networks, built on torch's meta device."""
    return sum(one.numel() for one in skeleton(structure.run).parameters())


def normalises(run: Run) -> bool:
    """Whether a run's encoder has batch norm."""
    return _normalises(_Structure.of(run))


@lru_cache(maxsize=512)
def _normalises(structure: _Structure) -> bool:
    return any(isinstance(layer, BatchNorm) for layer in skeleton(structure.run).encoder.modules())


def skeleton(run: Run) -> Method:
    """The networks of a run on torch's meta device: shapes and settings without values."""
    with torch.device("meta"):
        return build(run).build_method(images=run.schedule.batch_size, classes=10)
