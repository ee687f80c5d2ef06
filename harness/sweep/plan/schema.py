"""Write the JSON schema of experiment files, with all registered components, for editors."""

from __future__ import annotations

import json
from typing import Any

from harness import components
from harness.config import registry
from harness.config.claim import CLAIM_KINDS
from harness.config.experiment import ExperimentFile
from harness.config.grid import COMPONENTS
from harness.config.registry import COMPONENT_KIND, Registry
from harness.config.run import BranchSpec

assert components  # its import registers every component


def schema() -> dict[str, Any]:
    """Of ``experiments/*.yaml``: pydantic's, made to complete component names wherever one may stand."""
    made = ExperimentFile.model_json_schema()
    definitions = made["$defs"]
    for kind, one in registry.REGISTRIES.items():
        definitions[kind] = _entry(one, definitions)
    components_ = {path: _of(one.kind) for path, one in COMPONENTS.items()}
    views = {f"views.{branch}": _list(_of("augmentation")) for branch in ("shared", "both", "targeted")}
    branch = BranchSpec.model_json_schema()
    branch["properties"]["augment"] = views["views.both"]
    definitions["branch"] = {**branch, "required": ["augment"]}
    branches = {"views.branches": _list(_of("branch"))}
    pairs = {"type": "object", "properties": {"pairs": _list({"enum": list(registry.augmentation.names())})}}
    fixed = {"type": "object", "properties": {**components_, **views, **branches}}
    grid = {
        "type": "object",
        "minProperties": 1,
        "properties": {
            **{path: _list(one) for path, one in {**components_, **branches}.items()},
            **{path: {"anyOf": [_list(one), pairs]} for path, one in views.items()},
        },
        "additionalProperties": {"type": "array", "minItems": 1},
    }
    for holder in (made, definitions["AtScale"]):
        properties = holder["properties"]
        for key, shape in (("fixed", fixed), ("vary", _list(grid)), ("evaluate", _list(_of("evaluation")))):
            about = {name: properties[key][name] for name in ("description", "title") if name in properties[key]}
            properties[key] = {**shape, **about}
    definitions["Claim"]["properties"]["expect"]["properties"] = {kind: {} for kind in sorted(CLAIM_KINDS)}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}


def schema_text() -> str:
    """As it is committed in ``experiments/experiment.schema.json``."""
    return json.dumps(schema(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _of(kind: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{kind}"}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _referring(schema: Any) -> Any:
    """The same schema, with what stands for a component of a kind made a reference to all of that kind."""
    if isinstance(schema, dict):
        if COMPONENT_KIND in schema:
            return {
                **_of(schema[COMPONENT_KIND]),
                **{key: schema[key] for key in schema if key in ("default", "title")},
            }
        return {key: _referring(value) for key, value in schema.items()}
    return [_referring(one) for one in schema] if isinstance(schema, list) else schema


def _entry(kind: Registry, definitions: dict[str, Any]) -> dict[str, Any]:
    """A bare name, or ``{name: {field: value}}`` with the fields of that component."""
    written = []
    for name in sorted(kind.names()):
        fields = kind.adapter(name).json_schema(ref_template="#/$defs/{model}")
        definitions |= fields.pop("$defs", {})
        fields.pop("description", None)  # the docstring: for readers of the code
        fields = _referring(fields)
        written.append(
            {
                "type": "object",
                "properties": {name: {"anyOf": [fields, {"type": "null"}]}},
                "required": [name],
                "additionalProperties": False,
            }
        )
    return {"anyOf": [{"enum": sorted(kind.names())}, *written]}
