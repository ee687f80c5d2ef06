"""Options of the commands that run experiments: which runs, and where. No torch, so that ``--help`` is quick."""

from __future__ import annotations

import argparse
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.arguments import add_places, positive, said
from harness.config.errors import SpecError
from harness.runtime import COMPILE
from harness.sweep.display.format import hours_of

if TYPE_CHECKING:
    from harness.store.results import Store

OVERRIDE_HELP = "set a value of every run, e.g. optimizer.lars.lr=0.5; may be repeated"
COMPILE_HELP = "torch.compile of the networks, up to minutes before the first step (default: off)"
SCALE_HELP = "smoke, micro, cifar10, imagenet, or a file of scales/ beside the experiment"
ONLY_HELP = "only these (first digits of their ids)"


def add_experiments(parser: argparse.ArgumentParser, about: str = "one or several") -> argparse.Action:
    """The experiments a command is about: any number of them."""
    return parser.add_argument("experiments", nargs="*", type=Path, metavar="EXPERIMENT", help=about)


def add_scale(parser: Any) -> None:
    """``--scale``, for a parser or a group of one."""
    parser.add_argument("--scale", metavar="NAME", type=said, help=SCALE_HELP)


def add_only(parser: Any) -> None:
    """``--only``, for a parser or a group of one."""
    parser.add_argument("--only", metavar="ID[,ID]", type=ids_of, default=[], help=ONLY_HELP)


def add_overrides(parser: Any) -> None:
    """``-o``, for a parser or a group of one."""
    parser.add_argument(
        "-o", "--override", action="append", default=[], metavar="PATH=VALUE", dest="overrides", help=OVERRIDE_HELP
    )


def add_which(group: Any) -> None:
    """Which runs of the experiments."""
    add_scale(group)
    add_overrides(group)
    add_only(group)
    group.add_argument("--seeds", metavar="0[,1-2]", type=seeds, help="only these replicates, e.g. 0 or 1-2")
    group.add_argument(
        "--budget",
        metavar="40h",
        type=budget,
        help="GPU-hours (without GPUs: core-hours; 90m, 2d too) for all files together: seed 0 of every cell first, "
        "then what claims need; says what is left out and which claims stay open for it",
    )


def add_where(group: Any) -> None:
    """Where runs execute, and what they may use there."""
    add_places(group)
    group.add_argument(
        "--cluster",
        default="auto",
        metavar="NAME|FILE",
        help="local, slurm, a file like experiments/clusters/example.yaml, or auto: SLURM if sbatch is here",
    )
    group.add_argument("--jobs", type=positive, metavar="N", help="runs at a time here (default: one per GPU or core)")
    group.add_argument(
        "--processes-per-run", type=positive, metavar="N", help="processes that share one run, each with a GPU if any"
    )
    group.add_argument(
        "--images-per-pass",
        type=positive,
        metavar="N",
        help="most images a process takes through its networks at once, where its part of a batch does not fit",
    )
    group.add_argument("--compile", choices=COMPILE, help=COMPILE_HELP)


def add_yes(parser: Any) -> None:
    """``--yes``, for a parser or a group of one."""
    parser.add_argument("--yes", action="store_true", help="do not ask")


def budget(text: str) -> float:
    """Hours with their unit."""
    try:
        return hours_of(text)
    except ValueError:
        more = f"; which unit? write {text.strip()}h for hours" if re.fullmatch(r"\s*\d+(\.\d+)?\s*", text) else ""
        raise argparse.ArgumentTypeError(f"{text!r} is not a budget such as 40h, 90m or 2d{more}") from None


def ids_of(text: str) -> list[str]:
    """Ids, or their first digits, between commas. None at all would mean every run: an unset variable."""
    return [said(one) for one in text.split(",") if one.strip()] or [said("")]


def seeds(text: str) -> frozenset[int]:
    """``0``, ``0,2`` or ``1-2``."""
    found: set[int] = set()
    for part in text.split(","):
        span = re.fullmatch(r"\s*(\d{1,4})(?:-(\d{1,4}))?\s*", part)
        numbers = range(int(span[1]), int(span[2] or span[1]) + 1) if span else ()
        if not numbers:
            raise argparse.ArgumentTypeError(f"{text!r} are no seeds such as 0, 0,2 or 1-2")
        found |= set(numbers)
    return frozenset(found)


# --- what is read from the arguments once they are parsed


def store_at(results: Path, *, writes: bool) -> Store:
    """The results folder. Raises :class:`SpecError`, before anything is planned, where it cannot be one.

    A folder that is only looked at need not be writable, nor be there.
    """
    from harness.store.results import Store

    if results.exists() and not results.is_dir():
        raise SpecError(f"--results {results}: is a file, not a folder")
    standing = next((path for path in (results, *results.resolve().parents) if path.exists()), Path("/"))
    if writes and not os.access(standing, os.W_OK):
        raise SpecError(f"--results {results}: {standing} is not writable")
    if writes:
        try:
            tempfile.TemporaryFile(dir=standing).close()
        except OSError as error:
            said = f"no file can be written in {standing} ({error.strerror})"
            raise SpecError(f"--results {results}: {said}; name a folder on a disk") from None
    return Store(results)


def keys(asked: argparse.Namespace, store: Store) -> list[str]:
    """Of the experiments that were named, the names of their sweeps, such as ``temperature@micro``.

    Raises :class:`SpecError` where a sweep of that name is of another file.
    """
    from harness.sweep.status import check_file

    found = []
    for path in asked.experiments:
        name = path.stem if path.suffix in (".yaml", ".yml") else path.name
        found.append(f"{name}@{asked.scale}" if asked.scale else name)
        check_file(store, path, found[-1])
    return found
