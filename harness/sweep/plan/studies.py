"""Tell which experiment file a manifest belongs to: files of one name are different studies. No torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.config.run import identity


def place(file: Path, results: Path) -> str:
    """Tells files of one name apart: a digest of the way from the results to the file, which moves along with both."""
    return identity({"file": os.path.relpath(file.resolve(), results.resolve())}, 12)


def is_of(held: Mapping[str, Any], file: Path, results: Path) -> bool:
    """Whether a manifest is of this file; those without a place say only how the file was called."""
    if isinstance(held.get("place"), str):
        return bool(held["place"] == place(file, results))
    called = Path(str(held.get("file", ""))).parts
    return not called or file.resolve().parts[-len(called) :] == called
