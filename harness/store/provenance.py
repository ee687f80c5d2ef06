"""Describe what made a result: commit, local changes, versions, hardware, and a fingerprint of numeric code.

Torch-free, so that plan and report can ask for today's fingerprint without it. A run that executes a snapshot of the
code (:mod:`harness.store.snapshot`) reports what was written down when it was submitted, not today's checkout.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from harness.config import plugins

PACKAGE = Path(__file__).resolve().parents[1]

NUMERIC = ("components.py", "distributed.py", "data", "evaluate", "methods", "models", "objectives", "optim", "train")
"""Files and rooms whose code can change a number; a change anywhere else leaves results as they are."""

NOT_NUMERIC = frozenset(
    {
        "data/__main__.py",
        "data/fetch.py",
        "data/standins.py",
        "train/memory.py",
        "place.py",
        "train/progress.py",
        "train/trace.py",
    }
)

TRACKED = ("harness", "experiments", "pyproject.toml")
"""What of a checkout makes the code another; results/ and reports/ are what the code writes."""

ORIGIN = "HARNESS_ORIGIN"
"""Environment variable with the path of the JSON file that says what a run was submitted with."""


# --- the code ------------------------------------------------------------------------------------------------------


@cache
def package_files() -> Mapping[str, bytes]:
    """Every file of the package, by its path in it, as it was when this was first asked.

    Fingerprint and snapshot are made from the same bytes, so an edit between the two cannot part them. The experiments
    that a wheel holds in the package are left out: no run reads them, and in a checkout they lie beside it.
    """
    found = sorted(path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    files = {path.relative_to(PACKAGE): path for path in found}
    return {name.as_posix(): path.read_bytes() for name, path in files.items() if name.parts[0] != "experiments"}


def is_numeric(name: str) -> bool:
    """Whether a file of the package, e.g. ``data/augment.py``, can change a number."""
    return name.endswith(".py") and name.split("/")[0] in NUMERIC and name not in NOT_NUMERIC


@cache
def numeric_files() -> Mapping[str, str]:
    """Twelve hex digits for every numeric file, blind to comments, docstrings and layout."""
    ours = {name: _digest(content) for name, content in package_files().items() if is_numeric(name)}
    return ours | {f"outside/{name}": digest for name, digest in outside_files().items()}


@cache
def outside_files() -> Mapping[str, str]:
    """The same for the files of components from outside (:mod:`harness.config.plugins`)."""
    return {name: _digest(content) for name, content in plugins.sources().items()}


@cache
def code_fingerprint() -> str:
    """First twelve hex digits over the numeric sources without comments, docstrings and layout."""
    if "code" in origin():
        return str(origin()["code"])
    digest = hashlib.sha256()
    for name in sorted(filter(is_numeric, package_files()), key=Path):
        digest.update(name.encode())
        digest.update(_without_prose(package_files()[name].decode()).encode())
    for name, content in plugins.sources().items():
        digest.update(name.encode())
        digest.update(_without_prose(content.decode()).encode())
    return digest.hexdigest()[:12]


def _digest(source: bytes) -> str:
    return hashlib.sha256(_without_prose(source.decode()).encode()).hexdigest()[:12]


def _without_prose(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            kept = [one for one in body if not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))]
            node.body = kept or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.unparse(tree)


def differing(before: Mapping[str, str]) -> list[str]:
    """Numeric files that are not today what ``before`` (as from :func:`numeric_files`) says they were."""
    today = numeric_files()
    return sorted(name for name in {*before, *today} if before.get(name) != today.get(name))


@cache
def numeric_files_at(commit: str) -> Mapping[str, str] | None:
    """:func:`numeric_files` of a commit of this checkout; None if git does not know it."""
    try:
        listed = _git("ls-tree", "-r", "--name-only", commit, "--", ".").splitlines()
        return {name: _digest(_git("show", f"{commit}:./{name}").encode()) for name in filter(is_numeric, listed)}
    except (OSError, subprocess.SubprocessError, SyntaxError):
        return None


# --- the checkout --------------------------------------------------------------------------------------------------


@cache
def origin() -> Mapping[str, Any]:
    """What was written down at submission for the snapshot that this package is; empty in a checkout."""
    with suppress(OSError, ValueError):
        held = json.loads(Path(os.environ[ORIGIN]).read_text(encoding="utf-8")) if ORIGIN in os.environ else {}
        if isinstance(held, dict) and held.get("snapshot") == PACKAGE.parent.name:
            return held
    return {}


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(PACKAGE), *arguments], capture_output=True, encoding="utf-8", check=True, timeout=20
    ).stdout


@cache
def _is_tracked() -> bool:
    """Whether git knows this package: an installed copy may lie in the folder of another project, which it does not."""
    try:
        return bool(_git("ls-files", "--", str(PACKAGE / "__init__.py")).strip())
    except (OSError, subprocess.SubprocessError):
        return False


@cache
def git_state() -> Mapping[str, Any]:
    """``{"commit", "dirty"}`` of the checkout this package lies in, or lay in; commit None outside of one."""
    if origin():
        return {key: origin().get(key) for key in ("commit", "dirty", "diff", "untracked", "snapshot")}
    if not _is_tracked():
        return {"commit": None, "dirty": None}
    try:
        changed = _git("status", "--porcelain", "--", *_tracked())
        return {"commit": _git("rev-parse", "HEAD").strip(), "dirty": bool(changed.strip())}
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}


def local_changes() -> tuple[str, list[str]]:
    """``git diff HEAD`` of what makes the code another, and the untracked files there; empty outside of a checkout."""
    if not _is_tracked():
        return "", []
    try:
        untracked = _git("ls-files", "--others", "--exclude-standard", "--full-name", "--", *_tracked())
        return _git("diff", "HEAD", "--", *_tracked()), untracked.splitlines()
    except (OSError, UnicodeError, subprocess.SubprocessError):
        return "", []


def _tracked() -> list[str]:
    return [str(PACKAGE.parent / name) for name in TRACKED]


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
    found = {"python": platform.python_version()}
    for name in ("torch", "torchvision", "numba"):
        with suppress(importlib.metadata.PackageNotFoundError):  # without numba the augmentations are tensor code
            found[name] = importlib.metadata.version(name)
    return found


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
