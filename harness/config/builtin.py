"""The experiments, scales, published numbers and clusters that come with the harness.

In a checkout they are the folder ``experiments`` beside the package; a wheel holds them as ``harness/experiments``.
Files beside a user's own experiment come before those of the same name here.
"""

from __future__ import annotations

from pathlib import Path

from harness.config.errors import SpecError, nearest

PACKAGE = Path(__file__).resolve().parents[1]


def folder() -> Path:
    """The folder of the built-in experiments."""
    inside = PACKAGE / "experiments"
    return inside if inside.is_dir() else PACKAGE.parent / "experiments"


def beside(experiments: Path, name: str) -> Path:
    """``scales/micro.yaml`` of the folder ``experiments``, or the built-in file of that name where it has none."""
    own = experiments / name
    return own if own.is_file() or not (folder() / name).is_file() else folder() / name


def names(experiments: Path, pattern: str) -> list[str]:
    """What matches ``pattern``, such as ``scales/*.yaml``, in ``experiments`` or here: sorted, without suffix.

    The part of the pattern before its first wildcard is left out: ``paper/*/*.yaml`` gives ``simclr/figure_5``.
    """
    start = pattern.partition("*")[0].rstrip("/")
    found = {path.relative_to(root / start) for root in (experiments, folder()) for path in root.glob(pattern)}
    return sorted(path.with_suffix("").as_posix() for path in found)


def experiment_path(written: Path) -> Path:
    """The file that is meant: a path, or the name of a built-in experiment, with or without suffix.

    Raises :class:`SpecError` for a name that is neither.
    """
    if written.parent != Path() or written.is_file():
        return written
    path = folder() / (written.name if written.suffix in (".yaml", ".yml") else f"{written.name}.yaml")
    if not path.is_file():
        raise SpecError(f"{written}: no such file, and no built-in experiment: {nearest(written.stem, names_here())}")
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def names_here() -> list[str]:
    """Names of the built-in experiments."""
    return names(folder(), "*.yaml")
