"""Expand an experiment to its arms: the union of the products of its grids, as complete trees of settings."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.config import registry
from harness.config.errors import Complaint, SpecError, nearest
from harness.config.experiment import Experiment, Grid
from harness.config.registry import Registry, split_entry

COMPONENTS: dict[str, Registry] = {
    "data": registry.dataset,
    "method": registry.method,
    "encoder": registry.encoder,
    "head": registry.head,
    "objective": registry.objective,
    "optimizer": registry.optimizer,
}
"""Keys of a run whose value is one entry of a registry."""

OPTIONAL = frozenset({"objective"})
"""Those that may be null: a method may have a loss of its own."""


@dataclass(frozen=True)
class Arm:
    """One point of a grid. ``settings`` are the varied values as written; ``tree`` is everything, to be read only."""

    grid: int
    settings: dict[str, Any]
    tree: dict[str, Any]


def expand(experiment: Experiment, overrides: Mapping[str, Any] | None = None) -> list[Arm]:
    """All arms in file order. Raises :class:`SpecError` with every path that does not exist."""
    complaints: list[Complaint] = []
    base = normalised(experiment.scale.tree)
    _assign_all(base, experiment.fixed, lambda path: experiment.where("fixed", path), experiment, complaints)
    complaints += [*_dropped(experiment), *_replaced(experiment)]
    for path, value in (overrides or {}).items():
        if any(_overlaps(path, varied) for grid in experiment.vary for varied in grid):
            complaints.append(Complaint("-o", f"{path!r} is varied by this experiment, so it cannot be overridden"))
            continue
        try:
            assign(base, path, value)
        except SpecError as error:
            complaints += [Complaint("-o", one.what) for one in error.complaints]
    arms = []
    for index, grid in enumerate(experiment.vary):
        flagged: set[str] = set()
        for settings in _product(grid):
            tree = copy.deepcopy(base)
            before = len(complaints)
            fresh = {path: value for path, value in settings.items() if path not in flagged}
            _assign_all(tree, fresh, lambda path, i=index: experiment.where("vary", i, path), experiment, complaints)
            flagged |= {path for path in fresh if any(path in str(one) for one in complaints[before:])}
            complaints += _without_objective(
                tree, settings, lambda path, i=index: experiment.where("vary", i, path), experiment
            )
            arms.append(Arm(index, settings, tree))
    if complaints:
        raise SpecError(complaints)
    return arms


def _without_objective(
    tree: dict[str, Any], settings: Mapping[str, Any], where: Any, experiment: Experiment
) -> Iterator[Complaint]:
    """Leave the objective of the scale out where the method has a loss of its own; varying it would change nothing."""
    (name,) = tree["method"]
    if name not in registry.method.names() or not getattr(registry.method.get(name), "own_loss", False):
        return
    tree["objective"] = None
    for path, value in settings.items():
        if path.partition(".")[0] == "objective" and value is not None:
            said = f"method {name!r} does not use an objective, so {path!r} has no effect: remove it from this grid"
            yield experiment.document.complaint(where(path), said)


def _dropped(experiment: Experiment) -> Iterator[Complaint]:
    """A value that is fixed and then varied in every grid stands nowhere; ``fixed`` of a part of what one grid leaves
    alone is what that grid starts from. A grid of an ``at:`` block may vary what the file fixes for all others.
    """
    if experiment.where("vary")[0] == "at" != experiment.where("fixed")[0]:
        return
    for path in experiment.fixed:
        if all(any(path == one or path.startswith(f"{one}.") for one in grid) for grid in experiment.vary):
            said = f"{path!r} is varied by every grid, so the fixed value is never used: remove it"
            yield experiment.document.complaint(experiment.where("fixed", path), said)


def _replaced(experiment: Experiment) -> Iterator[Complaint]:
    """``fixed`` is done in order: what stands before something larger of which it is a part is gone with it."""
    paths = list(experiment.fixed)
    for place, path in enumerate(paths):
        if later := next((one for one in paths[place + 1 :] if path.startswith(f"{one}.")), None):
            said = f"{path!r} is replaced by {later!r}, which is fixed later: exchange the two lines"
            yield experiment.document.complaint(experiment.where("fixed", path), said)


def _overlaps(one: str, other: str) -> bool:
    return one == other or one.startswith(other + ".") or other.startswith(one + ".")


def _product(grid: Grid) -> Iterator[dict[str, Any]]:
    axes = [_pairs(values["pairs"]) if isinstance(values, dict) else values for values in grid.values()]
    for combination in itertools.product(*axes):
        yield dict(zip(grid, combination, strict=True))


def _pairs(names: list[str]) -> list[list[str]]:
    """``[a]`` for a with itself, ``[a, b]`` for two: Figure 5's diagonal needs no special case anywhere else."""
    return [[one] if one == other else [one, other] for one in names for other in names]


def _assign_all(
    tree: dict[str, Any], settings: Mapping[str, Any], where: Any, experiment: Experiment, complaints: list[Complaint]
) -> None:
    for path, value in settings.items():
        try:
            assign(tree, path, value)
        except SpecError as error:
            complaints += [experiment.document.complaint(where(path), one.what) for one in error.complaints]


def normalised(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A copy in which every component stands as ``{name: {field: value}}``."""
    copied = copy.deepcopy(dict(tree))
    for key in COMPONENTS:
        if copied[key] is not None or key not in OPTIONAL:
            name, fields = split_entry(copied[key])
            copied[key] = {name: fields}
    return copied


def assign(tree: dict[str, Any], path: str, value: Any) -> None:
    """Set one dotted path of a normalised tree. Raises :class:`SpecError` where it does not exist."""
    *parents, last = path.split(".")
    node: Any = tree
    for depth, part in enumerate(parents):
        _spell_out(node, parents[:depth], part)
        if not isinstance(node, dict) or part not in node:
            raise SpecError(_no_such(tree, path, node, part, parents[:depth]))
        node = node[part]
    _spell_out(node, parents, last)
    if not isinstance(node, dict) or last not in node:
        raise SpecError(_no_such(tree, path, node, last, parents))
    if not parents and last in COMPONENTS and not (value is None and last in OPTIONAL):
        value = COMPONENTS[last].resolve(value) if COMPONENTS[last].names() else dict([split_entry(value)])
    node[last] = copy.deepcopy(value)


def _spell_out(node: Any, parents: Sequence[str], part: str) -> None:
    """Write down a field of a component that YAML left to its default, and a nested component that it only named."""
    held = _component_at(parents)
    if held is None or not isinstance(node, dict):
        return
    kind, name = held
    if part not in node and part in kind.fields(name):
        node[part] = kind.default(name, part)
    if isinstance(node.get(part), str) and kind.nested(name, part) is not None:
        node[part] = {node[part]: {}}


def _component_at(keys: Sequence[str]) -> tuple[Registry, str] | None:
    """The kind and name of the component whose fields stand at a dotted path: ``method.byol.predictor.mlp``."""
    roots = {**COMPONENTS, "evaluations": registry.evaluation, "augmentations": registry.augmentation}
    if len(keys) < 2 or keys[0] not in roots:
        return None
    kind, name = roots[keys[0]], keys[1]
    for field, inner in zip(keys[2::2], keys[3::2], strict=False):
        nested = kind.nested(name, field) if name in kind.names() else None
        if nested is None:
            return None
        kind, name = nested, inner
    return (kind, name) if len(keys) % 2 == 0 and name in kind.names() else None


def _no_such(tree: dict[str, Any], path: str, node: Any, part: str, parents: list[str]) -> str:
    place = ".".join(parents)
    if not isinstance(node, dict):
        return f"{path!r} does not exist: {place!r} has no parts"
    if len(parents) == 1 and parents[0] in COMPONENTS:
        (name,) = node
        return f"{path!r} does not exist: {parents[0]} is {name!r} here ({parents[0]}.{name}. ...), not {part!r}"
    if part in ("seed", "seeds") and not parents:
        return f"{path!r} is not a setting of a run: set `seeds:` in the file, or choose some of them with --seeds"
    if (meant := _of_that_name(tree, part)) and not parents:
        return f"{path!r} does not exist: did you mean {' or '.join(map(repr, meant))}?"
    known = [f"{place}.{key}" if place else key for key in node]
    return f"{path!r} does not exist: {nearest(f'{place}.{part}' if place else part, known)}"


def _of_that_name(tree: Mapping[str, Any], name: str, place: str = "") -> list[str]:
    """The settings of that name, up to three: the last part of a path is what people remember."""
    found = [f"{place}{name}"] if place and name in tree else []
    for key, value in tree.items():
        if isinstance(value, dict) and (place or key not in ("augmentations", "evaluations")):
            found += _of_that_name(value, name, f"{place}{key}.")
    return found[:3]


def lookup(tree: Mapping[str, Any], settings: Mapping[str, Any], path: str) -> Any:
    """The value of a path of an arm, as written in YAML where it is varied.

    Beside full paths: ``.first`` and ``.last`` of a list of augmentations, ``head.name`` (which component stands there)
    and ``head.out_dim`` (a field of whichever does). A field that this arm's component does not have is None, and so is
    ``augmentations.color.strength`` where no view of the arm is colored. Raises :class:`SpecError` where no arm could
    have it.
    """
    if path in settings:
        return settings[path]
    stem, _, end = path.rpartition(".")
    if stem in COMPONENTS and tree[stem] is None:
        return None
    if stem in COMPONENTS:
        ((name, fields),) = tree[stem].items()
        if end == "name":
            return name
        if end not in COMPONENTS[stem].names() and end not in tree[stem]:
            return (fields or {}).get(end)
    if end in ("first", "last"):
        listed = lookup(tree, settings, stem)
        if not isinstance(listed, list) or not listed:
            return None
        if stem == "views.branches":
            raise SpecError(f"{path!r} does not exist: a branch has no name, and 'views.branches' has no parts")
        chosen = listed[0 if end == "first" else -1]
        return split_entry(chosen)[0]
    node: Any = tree
    for depth, part in enumerate(path.split(".")):
        keys = path.split(".")[:depth]
        held = _component_at(keys) if isinstance(node, dict) and part not in node else None
        if held is not None and part in held[0].fields(held[1]):
            node = {part: held[0].default(held[1], part)}
        if not isinstance(node, dict) or part not in node:
            if keys and keys[0] in COMPONENTS and depth == 1:
                return None
            owner = _component_at(keys[:-1]) if keys and keys[0] in COMPONENTS else None
            if owner is not None and owner[0].nested(owner[1], keys[-1]) is not None:
                return None  # another component, or a number, stands in that field of this arm
            raise SpecError(_no_such(dict(tree), path, node, part, keys))
        node = node[part]
    if path in COMPONENTS and isinstance(node, dict):
        (name,) = node
        return name
    return None if _of_an_unused_augmentation(tree, path) else node


def _of_an_unused_augmentation(tree: Mapping[str, Any], path: str) -> bool:
    """The scale says what every augmentation means; of an arm that does not use it, that says nothing."""
    key, _, rest = path.partition(".")
    if key != "augmentations" or not rest:
        return False
    return rest.partition(".")[0] not in {split_entry(one)[0] for one in _augmentations(tree["views"])}


def _augmentations(views: Mapping[str, Any]) -> Iterator[Any]:
    """The entries of a tree's views, wherever they stand."""
    for place, entries in views.items():
        if place == "branches":
            yield from (one for branch in entries for one in branch["augment"])
        else:
            yield from entries
