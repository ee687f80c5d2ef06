"""Settings of a run in words. No torch: ``--status`` names runs too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def label(settings: Mapping[str, Any]) -> str:
    """Varied settings for people: ``targeted [crop, color], epochs 30``."""
    return ", ".join(f"{path.rpartition('.')[2]} {_short(value)}" for path, value in settings.items())


def _short(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "[" + ", ".join(_short(one) for one in value) + "]"
    if isinstance(value, dict) and "augment" in value:  # a branch of views
        size = "" if value.get("size") is None else f" of {value['size']}"
        return f"{value.get('count', 1)} {_short(value['augment'])}{size}"
    if isinstance(value, dict) and len(value) == 1:
        ((name, fields),) = value.items()
        if not isinstance(fields, dict | None):  # no component, but the one entry of a field that is a mapping
            return f"{name} {_short(fields)}"
        inner = ", ".join(f"{key} {_short(one)}" for key, one in (fields or {}).items())
        return f"{name}({inner})" if inner else str(name)
    return json.dumps(value, default=str)
