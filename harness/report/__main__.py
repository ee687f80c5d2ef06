"""``python -m harness.report results/ > reports/index.html``: the report, its exports, the check of its verdicts."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.arguments import Parser

if TYPE_CHECKING:
    from harness.report.read.records import Results

ABOUT = "write the report of a results folder to a file or to standard output"
EPILOG = """\
examples:
  %(prog)s results/ > reports/index.html       one self-contained page, opens offline
  %(prog)s results/ -o report.html --open      the same, and the browser shows it
  %(prog)s results/ --figures reports/figures  pictures of the heatmaps (PNG, SVG)
  %(prog)s results/ --format csv > table.csv   every number with its interval, n and runs
  %(prog)s results/ --json                     every claim with its verdict, for scripts
  %(prog)s results/ --accept                   remember today's verdicts in results/verdicts.json
  %(prog)s results/ --check                    fail if a claim that was REPRODUCED then is not now

exit codes: 0 fine; 1 a claim that held no longer holds (--check); 2 not a results folder, nothing accepted that could
be checked, or a file in it is broken (each is named on stderr; the page is still written, without it)
"""

FORMATS = ("html", "csv", "latex", "markdown")


def written(results: Results, format: str) -> str:
    """The report in one of :data:`FORMATS`. Imports only what that needs: the page alone takes matplotlib."""
    if format == "html":
        from harness.report.render.page import render

        return render(results)
    from harness.report.render import export

    return {"csv": export.to_csv, "latex": export.to_latex, "markdown": export.to_markdown}[format](results)


def add_arguments(made: Parser) -> None:
    """The options of this command."""
    made.add_argument(
        "results", type=Path, nargs="?", default=Path("results"), help="results folder (default: results)"
    )
    instead = made.add_mutually_exclusive_group()
    instead.add_argument("--format", choices=FORMATS, default="html", help="what to write (default: html)")
    instead.add_argument("--figures", type=Path, metavar="DIR", help="write pictures of the heatmaps into DIR instead")
    instead.add_argument("--json", action="store_true", help="write the claims and their verdicts as JSON instead")
    instead.add_argument("--check", action="store_true", help="compare the verdicts with the accepted ones instead")
    instead.add_argument("--accept", action="store_true", help="write the verdicts as the accepted ones instead")
    made.add_argument("-o", "--output", type=Path, metavar="FILE", help="write to FILE (default: standard output)")
    made.add_argument("--open", action="store_true", help="show FILE in the browser once it is written")


def parser() -> Parser:
    """The command line."""
    made = Parser(prog="python -m harness.report", description=f"{ABOUT[0].upper()}{ABOUT[1:]}.", epilog=EPILOG)
    add_arguments(made)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    made = parser()
    return report(made.parse_args(arguments), made)


def report(asked: argparse.Namespace, made: Parser) -> int:
    """Do what was asked for; returns the exit code. ``made`` complains of options that do not go together."""
    writes = not (asked.check or asked.accept or asked.figures)
    if asked.output and not writes:
        made.error("-o takes a page or a table; --figures, --check and --accept write none")
    if asked.open and not asked.output:
        made.error("--open shows the file that was written: name it, e.g. -o report.html")
    if writes and not asked.output and not asked.json and asked.format == "html" and sys.stdout.isatty():
        made.error("a page is not for a terminal: write it to a file, e.g. -o report.html (--open shows it)")
    from harness.report.read.collect import NotResults, collect

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

        paths = write_figures(results, asked.figures)
        for path in paths:
            print(path, file=sys.stderr)
        if not paths:
            print("no experiment here has a heatmap: nothing was drawn", file=sys.stderr)
        return 0
    if asked.json:
        from harness.report.judge.listing import claims_json

        text = claims_json(results)
    else:
        text = written(results, asked.format)
    if asked.output is None:
        sys.stdout.buffer.write(text.encode("utf-8"))
        sys.stdout.flush()
        return 0
    from harness.store.results import write_atomic

    write_atomic(asked.output, text)
    print(asked.output, file=sys.stderr)
    if asked.open:
        import webbrowser

        webbrowser.open(asked.output.resolve().as_uri())
    return 0


if __name__ == "__main__":
    sys.exit(main())
