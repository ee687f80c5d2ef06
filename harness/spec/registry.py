"""Names -> component classes: a component is registered where it is defined, and nowhere else.

A component is a frozen, keyword-only dataclass whose fields are its YAML keys (design, law 2)::

    @augmentation("solarize")
    @dataclass(frozen=True, kw_only=True)
    class Solarize:
        threshold: float = 0.5

An *entry* is how YAML names one: ``solarize`` or ``{solarize: {threshold: 0.3}}``.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError

from harness.spec.errors import Complaint, SpecError, nearest, remedy

C = TypeVar("C", bound=type)

Entry = str | Mapping[str, Mapping[str, Any] | None]
Resolved = dict[str, dict[str, Any]]
"""``{name: {field: value, ...}}`` with every default filled in: canonical, JSON-able, hashable by its text."""


def knob(default: Any, *, neutral: Any) -> Any:
    """A field added after results exist: at its neutral value it is left out of the identity (law 3)."""
    return dataclasses.field(default=default, metadata={"neutral": neutral})


def split_entry(entry: Any) -> tuple[str, dict[str, Any]]:
    """``"crop"`` or ``{"crop": {...}}`` -> ``("crop", {...})``; raises :class:`SpecError` on any other form."""
    if isinstance(entry, str):
        return entry, {}
    if (type(entry) is dict or isinstance(entry, Mapping)) and len(entry) == 1:
        name, fields = next(iter(entry.items()))
        if isinstance(name, str) and (fields is None or type(fields) is dict or isinstance(fields, Mapping)):
            return name, dict(fields or {})
    raise SpecError(f"{json.dumps(entry, default=str)} is neither a name nor one {{name: {{field: value}}}}")


def integral(value: Any) -> Any:
    """``10.0`` -> ``10`` throughout, so that typed fields alone decide what a number is."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {key: integral(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [integral(one) for one in value]
    return value


def _defined(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


class Registry:
    """All components of one kind. Calling it with a name registers a class; see the module docstring."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._classes: dict[str, type] = {}
        self._adapters: dict[str, TypeAdapter[Any]] = {}
        self._built: dict[tuple[str, str], Any] = {}
        self._resolved: dict[tuple[str, str], str] = {}

    def __call__(self, name: str) -> Callable[[C], C]:
        def register(cls: C) -> C:
            there = self._classes.get(name)
            if there is not None and _defined(there) != _defined(cls):  # a module that is loaded anew may register anew
                raise TypeError(f"{self.kind} {name!r} is registered twice: by {_defined(there)} and {_defined(cls)}")
            params = getattr(cls, "__dataclass_params__", None)
            if params is None or not params.frozen or not all(f.kw_only for f in dataclasses.fields(cls)):
                raise TypeError(f"{cls.__qualname__} must be a @dataclass(frozen=True, kw_only=True)")
            setattr(cls, "__pydantic_config__", ConfigDict(extra="forbid", allow_inf_nan=False))  # noqa: B010 (mypy knows no such field)
            self._classes[name] = cls
            self._adapters.pop(name, None)
            self._built.clear()
            self._resolved.clear()
            return cls

        return register

    def names(self) -> tuple[str, ...]:
        """Registered names, in order of registration."""
        return tuple(self._classes)

    def get(self, name: str) -> type:
        """The class of ``name``; raises :class:`SpecError` with the nearest valid name."""
        if name not in self._classes:
            raise SpecError(f"unknown {self.kind} {name!r}: {nearest(name, self._classes)}")
        return self._classes[name]

    def name_of(self, component: object) -> str:
        """The name a component's class was registered under."""
        return next(name for name, cls in self._classes.items() if cls is type(component))

    def adapter(self, name: str) -> TypeAdapter[Any]:
        """The pydantic adapter that checks the fields of ``name`` (also the source of its JSON schema)."""
        cls = self.get(name)
        if name not in self._adapters:
            self._adapters[name] = TypeAdapter(cls)
        return self._adapters[name]

    def build(self, entry: Any) -> Any:
        """The component an entry names. Raises :class:`SpecError`: unknown name or field, wrong type, out of range.

        Equal entries give one object (components are frozen): a grid of ten thousand runs has few different ones.
        """
        name, fields = split_entry(entry)
        adapter = self.adapter(name)
        try:
            # JSON strict mode: lists become tuples, ints become floats, but "10" never becomes 10.
            key = name, json.dumps(fields)
            if key not in self._built:
                self._built[key] = adapter.validate_json(json.dumps(integral(fields)), strict=True)
            return self._built[key]
        except ValidationError as error:
            raise SpecError([self._complaint(name, one) for one in error.errors()]) from None
        except TypeError as error:
            raise SpecError([Complaint(name, str(error))]) from None

    def resolve(self, entry: Any) -> Resolved:
        """The canonical form of an entry: all fields typed and filled in, neutral knobs left out."""
        name, fields = split_entry(entry)
        key = name, json.dumps(fields, default=str)
        if key not in self._resolved:
            self._resolved[key] = json.dumps(self._without_neutral(name, self.build(entry)))
        return {name: json.loads(self._resolved[key])}

    def _without_neutral(self, name: str, component: Any) -> dict[str, Any]:
        dumped = cast(dict[str, Any], json.loads(self.adapter(name).dump_json(component)))
        for field in dataclasses.fields(component):
            if "neutral" in field.metadata and dumped.get(field.name) == field.metadata["neutral"]:
                del dumped[field.name]
        return dumped

    def fields(self, name: str) -> tuple[str, ...]:
        """Field names of a component, in order of declaration."""
        return tuple(field.name for field in dataclasses.fields(self.get(name)))

    def _complaint(self, name: str, error: Any) -> Complaint:
        path = ".".join(str(part) for part in (name, *error["loc"]))
        if error["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
            unknown = str(error["loc"][-1])
            return Complaint(
                path, f"{self.kind} {name!r} has no field {unknown!r}: {nearest(unknown, self.fields(name))}"
            )
        got = error.get("input")
        return Complaint(path, f"{error['msg']} (got {json.dumps(got, default=str)}){remedy(error['type'], got)}")


augmentation = Registry("augmentation")
dataset = Registry("dataset")
encoder = Registry("encoder")
head = Registry("head")
method = Registry("method")
objective = Registry("objective")
optimizer = Registry("optimizer")
evaluation = Registry("evaluation")

REGISTRIES: dict[str, Registry] = {
    registry.kind: registry
    for registry in (augmentation, dataset, encoder, head, method, objective, optimizer, evaluation)
}
