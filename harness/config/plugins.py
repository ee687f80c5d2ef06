"""Load components of other packages: modules that an installed distribution names as entry points.

A distribution says in its pyproject.toml::

    [project.entry-points."harness.components"]
    my_study = "my_study.stripes"

and every process that builds runs, here or in a SLURM job, imports ``my_study.stripes`` after the harness's own
components, whose decorators register what it defines. Torch-free: nothing is imported here.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Mapping
from functools import cache
from pathlib import Path

GROUP = "harness.components"


@cache
def entry_points() -> tuple[importlib.metadata.EntryPoint, ...]:
    """In the order of their names, so that registration does not depend on the file system."""
    return tuple(sorted(importlib.metadata.entry_points(group=GROUP), key=lambda one: (one.name, one.value)))


@cache
def sources() -> Mapping[str, bytes]:
    """Every Python file of the packages that the entry points lie in: they can change a number as our own can."""
    found: dict[str, bytes] = {}
    for package in sorted({one.module.partition(".")[0] for one in entry_points()}):
        spec = importlib.util.find_spec(package)  # of a top-level name: finds, does not import
        if spec is None:
            continue  # the import will say so
        roots = [Path(one) for one in spec.submodule_search_locations or ()]
        paths = sorted(path for root in roots for path in root.rglob("*.py")) or [Path(spec.origin or "")]
        base = roots[0].parent if roots else paths[0].parent
        found |= {path.relative_to(base).as_posix(): path.read_bytes() for path in paths if path.is_file()}
    return found
