"""``python -m benchmarks [--quick] [--only a,c]``: measure, print a table, write it, its data and a plot.

Results are written after every section; ``--only`` replaces those sections and keeps the others as they were.
``--rehearse`` takes every path on tiny sizes, writes what it finds into a folder that it removes, and fails where
anything does.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import torch

from benchmarks import record
from benchmarks.clock import Effort
from benchmarks.figure import draw
from benchmarks.record import Section
from harness.store import provenance
from harness.train.memory import keep_memory

SECTIONS = {
    "a": ("views", "one view and every operator of Figure 5"),
    "b": ("pretraining", "images per second of pretraining, end to end"),
    "c": ("contrast", "NT-Xent: time and memory"),
    "d": ("parts", "LARS, linear probe, kNN; start-up and memory of a run"),
    "e": ("growth", "time against images, batch and runs side by side"),
    "f": ("loader", "decoding an image folder"),
    "g": ("sweep", "planning, status and report of ten thousand runs; starting one"),
}
ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    listing = "\n".join(f"  {letter}  {what}" for letter, (_, what) in SECTIONS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog=f"sections:\n{listing}\n\nOn a GPU: python -m benchmarks.gpu",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    effort = parser.add_mutually_exclusive_group()
    effort.add_argument("--quick", action="store_true", help="a quarter of the time, fewer sizes")
    effort.add_argument("--rehearse", action="store_true", help="tiny sizes, no results: does everything still run?")
    parser.add_argument("--only", default="".join(SECTIONS), help="letters of sections, such as a,c", metavar="LETTERS")
    parser.add_argument("--out", type=Path, help="folder for cpu.json, cpu.md, cpu.svg (default: benchmarks/results)")
    parser.add_argument(
        "--against",
        type=Path,
        metavar="CHECKOUT",
        help="another checkout, beside which section b puts this build's SimCLR in pairs",
    )
    chosen = parser.parse_args(argv)
    if chosen.rehearse and chosen.out:
        parser.error("--rehearse leaves no results: leave out --out")
    if chosen.against and not (chosen.against / "benchmarks" / "pretraining.py").is_file():
        parser.error(f"--against {chosen.against}: no checkout of this project (git worktree add makes one)")
    chosen.effort = Effort.REHEARSAL if chosen.rehearse else Effort.QUICK if chosen.quick else Effort.FULL
    chosen.only = [letter for letter in chosen.only if letter not in ", "]
    if unknown := [letter for letter in chosen.only if letter not in SECTIONS]:
        parser.error(f"no such section: {', '.join(unknown)} (there are {', '.join(SECTIONS)})")
    return chosen


def prepare() -> None:
    """One thread; and the state of memory in which training runs."""
    torch.set_num_threads(1)
    os.environ["LIGHTLY_DID_VERSION_CHECK"] = "True"  # importing lightly would ask its server for a newer version
    warnings.filterwarnings("ignore")  # of the libraries beside us
    keep_memory()  # as a run of ours does; whoever else makes tensors of a batch here gains from it too


def measured(letter: str, effort: Effort, against: Path | None = None) -> Section:
    """One section, with when and under what load it was measured (load average of a minute, before and after)."""
    load, began = os.getloadavg()[0], time.monotonic()
    run = import_module(f"benchmarks.{SECTIONS[letter][0]}").run
    section: Section = run(effort, against) if letter == "b" else run(effort)
    section.measured = {
        "cpu": provenance.cpu_name(),
        "time": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "commit": (provenance.git_state()["commit"] or "unknown")[:7],
        "quick": effort is Effort.QUICK,
        "seconds": round(time.monotonic() - began, 1),
        "load_average": [round(load, 2), round(os.getloadavg()[0], 2)],
    }
    return section


def tables(letters: Sequence[str], effort: Effort, out: Path, against: Path | None) -> str:
    """Measure these sections, and write results into ``out`` after each; their Markdown."""
    about = {"title": "CPU", **record.circumstances()}
    absent = [library for library in record.BESIDE_US if about["libraries"][library] == "not installed"]
    if absent:
        print(f"left out, as they are not installed: {', '.join(absent)}", file=sys.stderr)
    text = ""
    for letter in letters:
        print(f"{letter}. {SECTIONS[letter][1]} ...", file=sys.stderr, flush=True)
        sections = record.merged(out / "cpu.json", [measured(letter, effort, against)])
        text = record.write(out, "cpu", about, sections)
        draw(sections, out / "cpu.svg")
    return text


def main(argv: list[str] | None = None) -> int:
    chosen = arguments(argv)
    prepare()
    if chosen.effort is Effort.REHEARSAL:
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as out:
            tables(chosen.only, chosen.effort, Path(out), chosen.against or ROOT)
        print(f"Rehearsed {', '.join(chosen.only)} in {time.monotonic() - began:.0f} s; the numbers meant nothing.")
    else:
        print(tables(chosen.only, chosen.effort, chosen.out or RESULTS, chosen.against))
    return 0


if __name__ == "__main__":
    sys.exit(main())
