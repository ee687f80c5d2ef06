"""Register components by name, where they are defined.

A component is a frozen, keyword-only dataclass whose fields are its YAML keys (design, law 2)::

    @augmentation("solarize")
    @dataclass(frozen=True, kw_only=True)
    class Solarize:
        tiny: ClassVar[Examples] = ({}, {"threshold": 0.3})
        threshold: float = 0.5

``tiny`` are the examples that its digest is computed of (:mod:`harness.digests`). An *entry* is how YAML names one:
``solarize`` or ``{solarize: {threshold: 0.3}}``.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError, core_schema

from harness.config.errors import Complaint, SpecError, nearest, remedy

C = TypeVar("C", bound=type)

Entry = str | Mapping[str, Mapping[str, Any] | None]
Resolved = dict[str, dict[str, Any]]
"""``{name: {field: value, ...}}`` with every default filled in: canonical, JSON-able, hashable by its text."""
Examples = tuple[Mapping[str, Any], ...]
"""Settings that make a component small, then changes of these: see :meth:`Registry.examples`."""


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

    def restore(self, resolved: Resolved) -> Any:
        """The component of a specification that was written down: what it leaves out is neutral (:func:`knob`).

        Not the default: that may have changed since, and then means something else in files that are written today.
        """
        name, fields = split_entry(resolved)
        missing = {
            field.name: field.metadata["neutral"]
            for field in dataclasses.fields(self.get(name))
            if "neutral" in field.metadata and field.name not in fields
        }
        return self.build({name: {**fields, **missing}})

    def build(self, entry: Any) -> Any:
        """The component an entry names. Raises :class:`SpecError`: unknown name or field, wrong type, out of range."""
        name, fields = split_entry(entry)
        adapter = self.adapter(name)
        try:
            # JSON strict mode: lists become tuples, ints become floats, but "10" never becomes 10.
            return adapter.validate_json(json.dumps(integral(fields)), strict=True)
        except ValidationError as error:
            raise SpecError([self._complaint(name, one) for one in error.errors()]) from None
        except TypeError as error:
            raise SpecError([Complaint(name, str(error))]) from None

    def resolve(self, entry: Any) -> Resolved:
        """The canonical form of an entry: all fields typed and filled in, neutral options left out."""
        name, _ = split_entry(entry)
        return {name: self._without_neutral(name, self.build(entry))}

    def written(self, component: Any) -> Resolved:
        """The canonical form of a component: ``{name: {field: value}}``, neutral fields left out."""
        name = self.name_of(component)
        return {name: self._without_neutral(name, component)}

    def _without_neutral(self, name: str, component: Any) -> dict[str, Any]:
        dumped = cast(dict[str, Any], json.loads(self.adapter(name).dump_json(component)))
        for field in dataclasses.fields(component):
            if "neutral" in field.metadata and dumped.get(field.name) == field.metadata["neutral"]:
                del dumped[field.name]
        return dumped

    def fields(self, name: str) -> tuple[str, ...]:
        """Field names of a component, in order of declaration."""
        return tuple(field.name for field in dataclasses.fields(self.get(name)))

    def nested(self, name: str, field: str) -> Registry | None:
        """The kind of component that a field holds (:class:`Nested`); None where it holds something else."""
        hint = get_type_hints(self.get(name), include_extras=True).get(field)
        return next((one.registry for one in getattr(hint, "__metadata__", ()) if isinstance(one, Nested)), None)

    def default(self, name: str, field: str) -> Any:
        """What a field is where YAML does not name it, as YAML would write it; None where it has to."""
        (found,) = (one for one in dataclasses.fields(self.get(name)) if one.name == field)
        if found.default is dataclasses.MISSING:
            return None
        nested = self.nested(name, field)
        plain = nested is None or found.default is None or isinstance(found.default, int | float)
        return found.default if plain or nested is None else nested.written(found.default)

    def examples(self, name: str) -> tuple[Resolved, ...]:
        """The entries that show what a component does: those that its class gives, every default filled in.

        ``tiny`` of the class are settings that make it small, and then changes of these, one each. A class without
        fields needs none. Raises ``LookupError`` where others have none, :class:`SpecError` where one is not valid.
        """
        cls = self.get(name)
        given: Examples = getattr(cls, "tiny", () if self.fields(name) else ({},))
        if not given:
            said = "settings that make it small, then changes of them, one each, until every field and branch occurs"
            raise LookupError(f"{self.kind} {name!r}: give {_defined(cls)} `tiny: ClassVar[Examples]`, {said}")
        base, *changes = given
        return tuple(self.resolve({name: {**base, **change}}) for change in ({}, *changes))

    def _complaint(self, name: str, error: Any) -> Complaint:
        path = ".".join(str(part) for part in (name, *error["loc"]))
        if error["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
            unknown = str(error["loc"][-1])
            return Complaint(
                path, f"{self.kind} {name!r} has no field {unknown!r}: {nearest(unknown, self.fields(name))}"
            )
        if error["type"] == NESTED:
            return Complaint(path, error["msg"])
        got = error.get("input")
        return Complaint(path, f"{error['msg']} (got {json.dumps(got, default=str)}){remedy(error['type'], got)}")


NESTED = "nested_component"
COMPONENT_KIND = "x-component"
"""Key of a JSON schema that stands for any component of a kind."""


@dataclasses.dataclass(frozen=True)
class Nested:
    """The annotation of a field that is itself a component: ``Annotated[Head, Nested(head)]``.

    YAML names it by an entry, as everywhere: ``predictor: {nonlinear: {out_dim: 64}}``; dotted paths go through it.
    ``optional``: null may stand there too. ``number``: so may a plain number, and stays one (a schedule that is
    constant); ``low`` and ``high``
    bound it (both included unless ``above``, which leaves ``low`` out), and bound the values of a component that has
    an attribute ``extremes``, the smallest and the largest of them.
    """

    registry: Registry
    number: bool = False
    optional: bool = False
    low: float | None = None
    high: float | None = None
    above: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self._validated, serialization=core_schema.plain_serializer_function_ser_schema(self._written)
        )

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        entry = {COMPONENT_KIND: self.registry.kind}  # pydantic follows references to definitions of its own alone
        also = [*([{"type": "number"}] if self.number else []), *([{"type": "null"}] if self.optional else [])]
        return {"anyOf": [*also, entry]} if also else entry

    def _validated(self, value: Any) -> Any:
        if self.optional and value is None:
            return None
        if self.number and isinstance(value, int | float) and not isinstance(value, bool):
            self._bounded(float(value), float(value), value)
            return float(value)
        try:
            found = self.registry.build(value)
        except SpecError as error:
            raise PydanticCustomError(NESTED, "{said}", {"said": "; ".join(map(str, error.complaints))}) from None
        if hasattr(found, "extremes"):
            smallest, largest = found.extremes
            self._bounded(smallest, largest, value)
        return found

    def _bounded(self, smallest: float, largest: float, value: Any) -> None:
        if self.low is not None and (smallest < self.low or (self.above and smallest == self.low)):
            said = f"should be {'above' if self.above else 'at least'} {self.low:g} (got {json.dumps(value)})"
            raise PydanticCustomError(NESTED, "{said}", {"said": said})
        if self.high is not None and largest > self.high:
            said = f"should be at most {self.high:g} (got {json.dumps(value)})"
            raise PydanticCustomError(NESTED, "{said}", {"said": said})

    def _written(self, value: Any) -> Any:
        return value if value is None or isinstance(value, int | float) else self.registry.written(value)


augmentation = Registry("augmentation")
dataset = Registry("dataset")
encoder = Registry("encoder")
head = Registry("head")
method = Registry("method")
objective = Registry("objective")
optimizer = Registry("optimizer")
schedule = Registry("schedule")
evaluation = Registry("evaluation")

REGISTRIES: dict[str, Registry] = {
    registry.kind: registry
    for registry in (augmentation, dataset, encoder, head, method, objective, optimizer, schedule, evaluation)
}
