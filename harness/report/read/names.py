"""How settings and numbers are written: ``{nonlinear: {out_dim: 128}}`` -> ``nonlinear (out_dim 128)``, ``+3.4``."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any


def value_name(value: Any) -> str:
    """A value as a reader would write it; numbers without trailing zeros, lists with ``+``."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Mapping):
        if isinstance(value.get("augment"), list):
            return _branch_name(value)
        return ", ".join(_pair(key, one) for key, one in value.items())
    if isinstance(value, list | tuple):
        return " + ".join(value_name(one) for one in value) or "none"
    return str(value)


def _pair(key: Any, value: Any) -> str:
    if isinstance(value, Mapping):
        inner = ", ".join(_pair(name, one) for name, one in value.items())
        return f"{key} ({inner})" if inner else str(key)
    return str(key) if value is None else f"{key} {value_name(value)}"


def _branch_name(branch: Mapping[str, Any]) -> str:
    """One of ``views.branches``: ``2 × (crop + flip)``, ``4 × (crop, 16 px)``."""
    size = "" if branch.get("size") is None else f", {branch['size']} px"
    return f"{branch.get('count', 1)} × ({value_name(branch['augment'])}{size})"


def path_name(path: str) -> str:
    """The end of a dotted path says it: ``objective.nt_xent.temperature`` -> ``temperature``."""
    parts = path.split(".")
    name = " ".join(parts[-2:]) if parts[-1] in ("first", "last", "width", "p", "both", "shared") else parts[-1]
    return name.replace("_", " ")


def arm_name(settings: Mapping[str, Any], other: Mapping[str, Any] | None = None) -> str:
    """``{path: value, ...}`` in words, without what ``other`` has too (the contrast is what matters)."""
    settings, other = _paired(settings), None if other is None else _paired(other)
    shown = {path: value for path, value in settings.items() if other is None or other.get(path) != value} or settings
    bare = len(shown) == 1 and not isinstance(next(iter(shown.values())), bool | int | float)
    if bare:
        return value_name(next(iter(shown.values())))
    return ", ".join(f"{path_name(path)} {value_name(value)}" for path, value in shown.items()) or "any setting"


def change_names(base: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """What ``settings`` change against ``base``: ``epochs 100 → 20``, ``views both without color``; "" for nothing."""
    base, settings = _paired(base), _paired(settings)
    changed = {path: value for path, value in settings.items() if path in base and base[path] != value}
    inner = [path for path in changed if any(path.startswith(f"{other}.") for other in changed)]
    return ", ".join(_change(path, base[path], value) for path, value in changed.items() if path not in inner)


def _change(path: str, before: Any, after: Any) -> str:
    name = path.replace(".", " ").replace("_", " ") if path.startswith("views.") else path_name(path)
    if isinstance(before, list) and isinstance(after, list):
        gone, new = [one for one in before if one not in after], [one for one in after if one not in before]
        if gone and not new:
            return f"{name} without {value_name(gone)}"
        if new and not gone:
            return f"{name} with {value_name(new)}"
    return f"{name} {value_name(before)} → {value_name(after)}"


def _paired(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """``x.first: crop, x.last: color`` is one thing, ``crop + color``; ``crop`` twice is ``crop alone``."""
    paired = dict(settings)
    for path in settings:
        stem, _, end = path.rpartition(".")
        if end == "first" and f"{stem}.last" in settings:
            first, last = value_name(paired.pop(path)), value_name(paired.pop(f"{stem}.last"))
            paired[stem] = f"{first} alone" if first == last else f"{first} + {last}"
    return paired


def slug(text: str) -> str:
    """A valid, readable HTML id; of ``name@scale``, names that read alike (``a-b``, ``a_b``, ``A_b``) have several."""
    made = re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower()
    name, at, _ = text.partition("@")
    plain = not at or re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", name)
    return made if plain else f"{made}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def signed(value: float, decimals: int = 1) -> str:
    """``+3.4`` or ``−1.2``, with a real minus sign; ``0.0`` has none."""
    text = f"{value:+.{decimals}f}"
    return text.replace("-", "−") if float(text) else text[1:]


def printed_by(name: str | None) -> str:
    """Who printed a published table, by its folder: ``summary/...`` the summary, ``public/...`` a public run."""
    return {"summary": "summary", "public": "public run"}.get((name or "").partition("/")[0], "paper")


BIDI = {code: f"[U+{code:04X}]" for code in (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))}
"""The characters that turn the direction of the text after them, each with what is written instead."""


def visible(text: str) -> str:
    """Text in which nothing turns what follows: a title with U+202E would print the numbers after it in reverse."""
    return text.translate(BIDI)


def duration(seconds: float) -> str:
    """``2 min 30 s``, ``5 h 12 min``: two units at most."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
