"""What made a result: commit, working-tree state, versions, hardware, and a fingerprint of the code that counts.

Torch-free, so that plan and report can ask for today's fingerprint without it.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import os
import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent

NUMERIC = ("components.py", "data", "models", "methods", "train", "evaluate")
"""Files and rooms whose code can change a number; a change anywhere else leaves results as they are."""

NOT_NUMERIC = frozenset({"data/__main__.py", "data/fetch.py", "train/place.py", "train/progress.py"})


@cache
def code_fingerprint() -> str:
    """First twelve hex digits over the numeric sources without comments, docstrings and layout."""
    digest = hashlib.sha256()
    for path in _numeric_sources():
        digest.update(path.relative_to(PACKAGE).as_posix().encode())
        digest.update(_without_prose(path.read_text(encoding="utf-8")).encode())
    return digest.hexdigest()[:12]


def _numeric_sources() -> list[Path]:
    found: set[Path] = set()
    for name in NUMERIC:
        path = PACKAGE / name
        found |= set(path.rglob("*.py")) if path.is_dir() else {path}
    return sorted(path for path in found if path.relative_to(PACKAGE).as_posix() not in NOT_NUMERIC)


def _without_prose(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            kept = [one for one in body if not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))]
            node.body = kept or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.unparse(tree)


@cache
def git_state() -> dict[str, Any]:
    """``{"commit", "dirty"}`` of the checkout this package lies in; commit None outside of one."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(PACKAGE.parent), *arguments], capture_output=True, text=True, check=True, timeout=20
        ).stdout.strip()

    try:
        # results/ and reports/ are what the code writes; they do not make the code another.
        changed = git("status", "--porcelain", "--", "harness", "experiments", "pyproject.toml")
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(changed)}
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}


@cache
def cpu_name() -> str:
    """The processor's own name, or the architecture where it has none."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Of Python and of the libraries whose numbers we report."""
    names = ("torch", "torchvision")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}


def describe(*, gpu: str | None, threads: int) -> dict[str, Any]:
    """The part of ``provenance.json`` that is known before a run starts."""
    return {
        **git_state(),
        "code": code_fingerprint(),
        "versions": versions(),
        "hardware": {"cpu": cpu_name(), "cores": os.cpu_count(), "gpu": gpu},
        "threads": threads,
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
    }
