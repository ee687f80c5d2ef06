"""Run -> built parts: the one importer of all component modules, and the only place where both sides meet.

``resolve`` turns an arm's tree of settings into a :class:`~harness.config.run.Run` with every default filled in;
``build`` turns a run into the objects that the loop calls. A specification that plans is one that builds.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from pydantic import ValidationError
from torch.overrides import TorchFunctionMode

import harness.data
import harness.evaluate
import harness.methods
import harness.models
import harness.objectives
import harness.optim
from harness.config import plugins, registry
from harness.config import run as spec
from harness.config.errors import Complaint, SpecError, nearest
from harness.config.grid import COMPONENTS, OPTIONAL
from harness.config.registry import Resolved, split_entry
from harness.config.run import Evaluation as Evaluation
from harness.config.run import Run, evaluation_handle
from harness.data.views import Branch, Views
from harness.methods.base import Method, Task
from harness.models.encoder import Encoder
from harness.models.norm import Norm

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
        raise SpecError(f"{said}; mend that package, or uninstall it") from error


def resolve(tree: Mapping[str, Any], seed: int) -> Run:
    """A normalised tree -> the run it describes. Raises :class:`SpecError` with dotted paths as places."""
    return Resolver().resolve(tree, seed)


Encode = Callable[..., torch.nn.Module]
_TEXT = json.JSONEncoder(default=repr)
_Work = Callable[[list[Complaint], str, Mapping[str, Any]], Any]


class Resolver:
    """Resolves the arms of a grid. What is equal in many of them, which is nearly everything, is looked at once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], tuple[Any, list[Complaint]]] = {}
        self._texts: dict[int, tuple[Any, str]] = {}

    def resolve(self, tree: Mapping[str, Any], seed: int) -> Run:
        """As the function of this name."""
        complaints: list[Complaint] = []
        parts = {key: self._once(complaints, tree, (key,), _component) for key in COMPONENTS}
        self._once(complaints, tree, ("augmentations",), _meanings)
        parts["views"] = self._once(complaints, tree, ("views", "augmentations"), _views)
        if not complaints:
            parts |= {"norm": tree["norm"], "schedule": registry.integral(tree["schedule"])}
            try:
                return Run.model_validate({**parts, "precision": tree["precision"], "seed": seed})
            except ValidationError as error:
                complaints = [_invalid(one) for one in error.errors()]
        raise SpecError(complaints)

    def _once(self, complaints: list[Complaint], tree: Mapping[str, Any], keys: tuple[str, ...], work: _Work) -> Any:
        """What ``work`` makes of these parts of a tree, named by the first of them, and what it complains of."""
        known = (*keys, *(self._text(tree[key]) for key in keys))
        if known not in self._known:
            found: list[Complaint] = []
            self._known[known] = work(found, keys[0], tree), found
        value, found = self._known[known]
        complaints += found
        return value

    def _text(self, part: Any) -> str:
        """``part`` as JSON. Arms share the parts that they do not vary: each of those objects is written out once."""
        held = self._texts.get(id(part))
        if held is None:
            held = self._texts[id(part)] = part, _TEXT.encode(part)  # kept, so that its id stays its own
        return held[1]


def _invalid(error: Any, *within: str) -> Complaint:
    """What pydantic found, at its dotted path."""
    where = ".".join(map(str, (*within, *error["loc"])))
    return Complaint(where, f"{error['msg']} (got {_TEXT.encode(error.get('input'))})")


def _component(complaints: list[Complaint], key: str, tree: Mapping[str, Any]) -> Any:
    if tree[key] is None and key in OPTIONAL:
        return None
    return _attempt(complaints, key, lambda: COMPONENTS[key].resolve(tree[key]))


def _meanings(complaints: list[Complaint], key: str, tree: Mapping[str, Any]) -> None:
    for name, fields in tree[key].items():
        _attempt(complaints, f"{key}.{name}", lambda name=name, fields=fields: _augmentation({name: fields}, {}))


def _views(complaints: list[Complaint], key: str, tree: Mapping[str, Any]) -> dict[str, list[Any]]:
    meanings = tree["augmentations"]
    before = len(complaints)
    views = {
        place: _branches(complaints, f"{key}.{place}", entries, meanings)
        if place == "branches"
        else _branch(complaints, f"{key}.{place}", entries, meanings)
        for place, entries in tree[key].items()
    }
    if len(complaints) == before:
        _attempt(complaints, f"{key}.branches", lambda: build_views(views))  # what its parts allow, but not together
    return views


def _branches(complaints: list[Complaint], path: str, written: Any, meanings: Mapping[str, Any]) -> list[Any]:
    """``views.branches``, every augmentation resolved as in ``both``."""
    if not isinstance(written, list):
        said = f"{path} takes a list of branches: [{{augment: [crop, flip], count: 2}}], not {_TEXT.encode(written)}"
        complaints.append(Complaint(path, said))
        return []
    resolved = []
    for place, one in enumerate(written):
        here = f"{path}.{place}"
        if not isinstance(one, Mapping) or "augment" not in one:
            said = f"{_TEXT.encode(one)} is no branch: {{augment: [...], count: 1, size: null}}, the last two optional"
            complaints.append(Complaint(here, said))
            continue
        before = len(complaints)
        fields = {**one, "augment": _branch(complaints, f"{here}.augment", one["augment"], meanings)}
        for unknown in fields.keys() - {*spec.Branch.model_fields}:
            said = f"a branch has no field {unknown!r}: {nearest(unknown, spec.Branch.model_fields)}"
            complaints.append(Complaint(f"{here}.{unknown}", said))
        if len(complaints) > before:
            continue
        try:
            resolved.append(spec.Branch.model_validate(registry.integral(fields)).model_dump(mode="json"))
        except ValidationError as error:
            complaints += [_invalid(one, here) for one in error.errors()]
    return resolved


def _branch(complaints: list[Complaint], path: str, entries: Any, meanings: Mapping[str, Any]) -> list[Any]:
    if not isinstance(entries, list):  # the letters of a word are no augmentations
        complaints.append(Complaint(path, f"{path} takes a list of augmentations: [{entries}], not {entries!r}"))
        return []
    return [_attempt(complaints, path, lambda entry=entry: _augmentation(entry, meanings)) for entry in entries]


def resolve_evaluations(tree: Mapping[str, Any], entries: list[Any]) -> list[Evaluation]:
    """``evaluate:`` of an experiment, the scale's meaning of each name filled in."""
    asked = []
    complaints: list[Complaint] = []
    for entry in entries:
        resolved = _attempt(
            complaints,
            "evaluate",
            lambda entry=entry: _with_meaning(registry.evaluation, entry, tree["evaluations"]),
        )
        if resolved is not None:
            asked.append(Evaluation(_label(resolved), evaluation_handle(resolved), resolved))
    labels = [one.label for one in asked]
    complaints += [
        Complaint("evaluate", f"{label!r} is asked for twice") for label in set(labels) if labels.count(label) > 1
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


def _augmentation(entry: Any, meanings: Mapping[str, Any]) -> Resolved:
    return _with_meaning(registry.augmentation, entry, meanings)


def _with_meaning(kind: registry.Registry, entry: Any, meanings: Mapping[str, Any]) -> Resolved:
    """A bare name means what the scale file says it means; fields written beside it override."""
    name, fields = split_entry(entry)
    return kind.resolve({name: {**meanings.get(name, {}), **fields}})


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
                    f"{run.norm.groups} groups do not divide the batch of {run.schedule.batch_size} images",
                )
            ]
        )
    images = next(iter(run.data.values())).get("train_images")
    if images and run.schedule.batch_size > images:
        said = f"a batch of {run.schedule.batch_size} images is larger than the training set of {images}"
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
    sizes = [one.size or usual for one in run.views.branches for _ in range(one.count)] or [usual] * 2
    wanted = getattr(method, "views", len(sizes))
    if len(sizes) != wanted:
        raise SpecError([Complaint("views.branches", f"{name} compares {wanted} views of an image, not {len(sizes)}")])
    fewest = getattr(method, "fewest_views", 1)
    if len(sizes) < fewest:
        said = f"{name} compares at least {fewest} views of an image, not {len(sizes)}"
        raise SpecError([Complaint("views.branches", said)])
    if len({*sizes}) > 1 and not getattr(method, "several_sizes", False):
        said = f"{name} takes views of one size, not of {' and '.join(map(str, dict.fromkeys(sizes)))} pixels"
        raise SpecError([Complaint("views.branches", said)])


@lru_cache(maxsize=512)
def _try_optimizer(text: str) -> None:
    """Build the optimiser of this JSON over a small module. Raises ``ValueError``, which is not kept."""
    with torch.device("meta"), _Unfilled():
        module = torch.nn.Linear(1, 1)
    with _settings_only():
        registry.optimizer.build(json.loads(text)).build(module)


@contextmanager
def _settings_only() -> Iterator[None]:
    """Optimisers judge their settings before they take parameters: to take them, torch would import its compiler.

    That is two seconds of every plan and of every run that is submitted, for nothing.
    """
    kept = torch.optim.Optimizer.add_param_group
    setattr(torch.optim.Optimizer, "add_param_group", lambda self, group: self.param_groups.append(group))  # noqa: B010
    try:
        yield
    finally:
        setattr(torch.optim.Optimizer, "add_param_group", kept)  # noqa: B010


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


class _Unfilled(TorchFunctionMode):
    """Skips the filling of tensors: on meta they have no values, and torch would import its compiler to do nothing."""

    FILLING = frozenset({"normal_", "trunc_normal_", "uniform_", "kaiming_normal_", "kaiming_uniform_", "bernoulli_"})

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in self.FILLING:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


@lru_cache(maxsize=512)
def parameters(structure: _Structure) -> int:
    """Number of parameters of a run's networks, built on torch's meta device."""
    return sum(one.numel() for one in skeleton(structure.run).parameters())


def skeleton(run: Run) -> Method:
    """The networks of a run on torch's meta device: shapes and settings without values."""
    with torch.device("meta"), _Unfilled():
        return build(run).build_method(images=run.schedule.batch_size, classes=10)
