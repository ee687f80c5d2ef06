"""``python -m harness.digests [FILE]``: compute the digests of this code, and print them or write them to FILE."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.digests.record import record
from harness.store.results import write_atomic

NICE = 10
"""A file is written beside trainings, which come first."""


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0. Components without examples are named on stderr, and left out."""
    parser = argparse.ArgumentParser(prog="python -m harness.digests", description=__doc__, allow_abbrev=False)
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="where to write them, as JSON")
    asked = parser.parse_args(argv)
    if asked.file is not None:
        os.nice(NICE)
    found = record(said=lambda what: print(what, file=sys.stderr)).as_text()
    if asked.file is None:
        print(found, end="")
    elif not asked.file.exists():
        write_atomic(asked.file, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
