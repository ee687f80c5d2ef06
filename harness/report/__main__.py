"""``python -m harness.report results/ > reports/index.html``: the report, its exports, the check of its verdicts."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from harness.report.read.collect import NotResults, collect
from harness.report.read.records import Results
from harness.report.render.export import to_csv, to_latex, to_markdown

EPILOG = """\
examples:
  python -m harness.report results/ > reports/index.html       one self-contained page, opens offline
  python -m harness.report results/ --figures reports/figures  pictures of the heatmaps (PNG, SVG)
  python -m harness.report results/ --format csv > table.csv   every number with its interval, n and runs
  python -m harness.report results/ --accept                   remember today's verdicts in results/verdicts.json
  python -m harness.report results/ --check                    fail if a claim that was REPRODUCED then is not now

exit codes: 0 fine; 1 a claim that held no longer holds (--check); 2 not a results folder, nothing accepted that could
be checked, or a file in it is broken (each is named on stderr; the page is still written, without it)
"""


def page(results: Results) -> str:
    """The HTML page; imported late, so that the other formats need neither jinja2 nor matplotlib."""
    from harness.report.render.page import render

    return render(results)


FORMATS = {"html": page, "csv": to_csv, "latex": to_latex, "markdown": to_markdown}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m harness.report",
        description="Write the report of a results folder to standard output.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "results", type=Path, nargs="?", default=Path("results"), help="results folder (default: results)"
    )
    instead = made.add_mutually_exclusive_group()
    instead.add_argument("--format", choices=FORMATS, default="html", help="what to write (default: html)")
    instead.add_argument("--figures", type=Path, metavar="DIR", help="write pictures of the heatmaps into DIR instead")
    instead.add_argument("--check", action="store_true", help="compare the verdicts with the accepted ones instead")
    instead.add_argument("--accept", action="store_true", help="write the verdicts as the accepted ones instead")
    return made


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    asked = parser().parse_args(arguments)
    try:
        results = collect(asked.results)
        code = act(asked, results)
    except NotResults as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # a full disk behind `>`, or a reader that went away: no claim is to blame
        if error.filename is None:  # Python still holds the text, and would complain of it again when it ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return 0
        print(f"error: {error.filename or 'standard output'}: {error.strerror or error}", file=sys.stderr)
        return 2
    for problem in results.problems:
        print(f"broken: {problem}", file=sys.stderr)
    return 2 if results.problems else code


def act(asked: argparse.Namespace, results: Results) -> int:
    """Do the one thing that was asked for."""
    if asked.accept or asked.check:
        from harness.report.judge import baseline

        return (baseline.accept if asked.accept else baseline.check)(asked.results, results)
    if asked.figures:
        from harness.report.render.figures import write_figures

        written = write_figures(results, asked.figures)
        for path in written:
            print(path, file=sys.stderr)
        if not written:
            print("no experiment here has a heatmap: nothing was drawn", file=sys.stderr)
        return 0
    sys.stdout.buffer.write(FORMATS[asked.format](results).encode("utf-8"))
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
