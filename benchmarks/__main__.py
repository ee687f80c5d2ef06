"""``python -m benchmarks [--quick] [--only a,c]``: measure, print a table, write it, its data and a plot.

Results are written after every section; ``--only`` replaces those sections and keeps the others as they were.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from importlib import import_module
from pathlib import Path

import torch

from benchmarks import record
from benchmarks.figure import draw
from benchmarks.record import Section
from harness import provenance
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
RESULTS = Path(__file__).resolve().parent / "results"


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    listing = "\n".join(f"  {letter}  {what}" for letter, (_, what) in SECTIONS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog=f"sections:\n{listing}\n\nOn a GPU: python -m benchmarks.gpu",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="a quarter of the time, fewer sizes")
    parser.add_argument("--only", default="".join(SECTIONS), help="letters of sections, such as a,c", metavar="LETTERS")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for cpu.json, cpu.md, cpu.svg")
    chosen = parser.parse_args(argv)
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


def measured(letter: str, *, quick: bool) -> Section:
    """One section, with when and under what load it was measured (load average of a minute, before and after)."""
    load, began = os.getloadavg()[0], time.monotonic()
    section: Section = import_module(f"benchmarks.{SECTIONS[letter][0]}").run(quick=quick)
    section.measured = {
        "cpu": provenance.cpu_name(),
        "time": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "commit": (provenance.git_state()["commit"] or "unknown")[:7],
        "quick": quick,
        "seconds": round(time.monotonic() - began, 1),
        "load_average": [round(load, 2), round(os.getloadavg()[0], 2)],
    }
    return section


def main(argv: list[str] | None = None) -> int:
    chosen = arguments(argv)
    prepare()
    about = {"title": "CPU", **record.circumstances()}
    text = ""
    for letter in chosen.only:
        print(f"{letter}. {SECTIONS[letter][1]} ...", file=sys.stderr, flush=True)
        sections = record.merged(chosen.out / "cpu.json", [measured(letter, quick=chosen.quick)])
        text = record.write(chosen.out, "cpu", about, sections)
        draw(sections, chosen.out / "cpu.svg")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
