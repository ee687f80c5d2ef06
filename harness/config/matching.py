"""Match arms with claims: one rule for the sweep, which prices claims, and the report, which judges them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.config.errors import SpecError

Settings = Mapping[str, Any]


def plain(value: Any) -> Any:
    """One form for one meaning: ``{crop: {}}`` is ``crop``, ``10.0`` is ``10``, and True is not 1."""
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, Mapping):
        if len(value) == 1 and not next(iter(value.values())) and isinstance(next(iter(value.values())), dict | None):
            return next(iter(value))
        return tuple(sorted((str(key), plain(one)) for key, one in value.items()))
    if isinstance(value, list | tuple):
        return tuple(plain(one) for one in value)
    return value


def matches(settings: Settings, where: Settings) -> bool:
    """Whether ``settings`` has every path of ``where`` at its value.

    A bare name means a component of that name, whatever its fields: ``{method: byol}``.
    """
    return all(path in settings and stands_for(settings[path], value) for path, value in where.items())


def stands_for(setting: Any, value: Any) -> bool:
    """Whether a value of an arm is the one that a claim names: a component, also by its bare name."""
    if isinstance(value, str) and isinstance(setting, Mapping) and len(setting) == 1 and value in setting:
        return isinstance(setting[value], dict | None)
    return bool(plain(setting) == plain(value))


def split_side(side: dict[str, Any]) -> tuple[dict[str, Any], str | None, dict[str, Any] | None]:
    """A side's settings, its ``on`` and its ``minus``. Raises :class:`SpecError` where these are of another type."""
    settings = {path: value for path, value in side.items() if path not in ("on", "minus")}
    on, minus = side.get("on"), side.get("minus")
    if not isinstance(on, str | None) or not isinstance(minus, dict | None):
        raise SpecError("on: takes a metric, minus: takes settings")
    return settings, on, minus


def metric_shown(report: Sequence[Mapping[str, Mapping[str, Any]]]) -> str:
    """What a claim without ``on`` is about: the first metric that the report block names, else linear top-1."""
    for block in report:
        for kind, about in block.items():
            if kind == "heatmap" and about.get("cell"):
                return str(about["cell"])
            if kind == "lines" and about.get("y"):
                return str(about["y"])
            if kind == "table" and about.get("columns"):
                metrics = [str(metric) for metric in about["columns"].values()]
                return "linear/top1" if "linear/top1" in metrics else metrics[-1]
    return "linear/top1"


def touched(
    expect: Mapping[str, Any], arms: Sequence[Settings], published: Mapping[str, Sequence[Settings]]
) -> frozenset[int]:
    """The arms (by index) whose numbers the verdict on a claim can depend on; none where the grid cannot test it.

    ``expect`` as in YAML; ``published`` holds the places of the cells of each published table that measure the
    claim's metric. Raises :class:`SpecError` for a side that is not one.
    """
    where = expect.get("where", {})
    for kind in ("best", "lowest"):
        if kind in expect:
            ((path, named),) = expect[kind].items()
            return _extreme(path, named, _having(arms, path, where), arms)
    if "monotone" in expect:
        found = _having(arms, expect["monotone"], where)
        values = {plain(arms[index][expect["monotone"]]) for index in found}
        return frozenset(found) if len(values) > 1 else frozenset()
    if "saturates" in expect:
        path, after = expect["saturates"], expect["after"]
        found = [index for index in _having(arms, path, where) if float(arms[index][path]) >= after]
        values = {float(arms[index][path]) for index in found}
        return frozenset(found) if after in values and len(values) > 1 else frozenset()
    if "close" in expect:
        found = _matching(arms, expect["close"])
        cells = [cell for table in published.values() for cell in table]
        known = all(any(matches(arms[index], cell) for cell in cells) for index in found)
        return frozenset(found) if known else frozenset()
    if "agrees" in expect:
        groups = [_matching(arms, cell) for cell in published.get(expect["agrees"], ())]
        groups = [group for group in groups if group]
        return frozenset().union(*groups) if len(groups) >= 3 else frozenset()
    sides = next(expect[kind] for kind in ("greater", "order", "equivalent") if kind in expect)
    groups = [_matching(arms, wanted) for side in sides for wanted in _places(side)]
    return frozenset().union(*groups) if all(groups) else frozenset()


def _places(side: dict[str, Any]) -> Iterable[dict[str, Any]]:
    settings, _, minus = split_side(side)
    yield settings
    if minus is not None:
        yield settings | minus


def _extreme(path: str, named: Any, found: Sequence[int], arms: Sequence[Settings]) -> frozenset[int]:
    wanted = {plain(value) for value in (named if isinstance(named, list) else [named])}
    ours = {plain(arms[index][path]) in wanted for index in found}
    return frozenset(found) if ours == {True, False} else frozenset()


def _having(arms: Sequence[Settings], path: str, where: Settings) -> list[int]:
    return [index for index in _matching(arms, where) if path in arms[index]]


def _matching(arms: Sequence[Settings], where: Settings) -> list[int]:
    return [index for index, settings in enumerate(arms) if matches(settings, where)]
