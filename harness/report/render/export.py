"""The tables outside the page: tidy CSV at full precision, Markdown and LaTeX as they would be printed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from harness.report.read.metrics import Metric
from harness.report.read.names import visible
from harness.report.read.records import Results
from harness.report.render.entries import Entry
from harness.report.render.tables import Grid, Row, grids
from harness.report.stats import Estimate


def tidy(results: Results) -> pd.DataFrame:
    """One row per entry of every block of every experiment: what ``--format csv`` writes."""
    records = []
    for experiment in results.experiments:
        for number, grid in enumerate(grids(results, experiment), start=1):
            for row in grid.rows:
                for column, entry in zip(grid.columns, row.entries, strict=True):
                    records.append(_record(grid, number, row, column, entry))
    columns = ["experiment", "scale", "block", "row", "column", "metric", "mean", "low", "high", "n", "asked"]
    more = ["chosen", "drop", "drop_low", "drop_high", "drop_n", "unconverged"]
    return pd.DataFrame(records, columns=[*columns, "state", "published", "difference", "runs", *more])


def _record(grid: Grid, number: int, row: Row, column: str, entry: Entry) -> dict[str, Any]:
    ours, experiment = entry.estimate, grid.experiment
    arms = [experiment.arms[index] for index in entry.cell.arms] if entry.cell else []
    return {
        "experiment": experiment.name,
        "scale": experiment.scale,
        "block": f"{number} {grid.kind}",
        "row": "; ".join(f"{stub}={name}" for stub, name in zip(grid.stubs, row.names, strict=True)),
        "column": f"{grid.column_label}={column}" if grid.column_label else column,
        "metric": entry.metric.path,
        "mean": ours.mean if ours else None,
        "low": entry.metric.bounds(ours)[0] if ours else None,
        "high": entry.metric.bounds(ours)[1] if ours else None,
        "n": ours.n if ours else 0,
        "asked": entry.asked,
        "state": entry.absent or str(entry.state),
        "published": entry.published,
        "difference": entry.difference,
        "runs": " ".join(run for arm in arms for _, run in sorted(arm.runs.items())),
        "chosen": entry.choice.note if entry.choice else None,
        "drop": entry.drop.mean if entry.drop else None,
        "drop_low": entry.drop.low if entry.drop else None,
        "drop_high": entry.drop.high if entry.drop else None,
        "drop_n": entry.drop.n if entry.drop else None,
        "unconverged": entry.unconverged,
    }


def cell_text(entry: Entry) -> str:
    """``48.2 ± 0.8 (n=3)``, or the state of a cell without a number; and which setting was chosen for it."""
    chosen = f"; {entry.choice.note}" if entry.choice else ""
    if entry.estimate is None:
        return f"{entry.absent}{chosen}"
    weak = f"; probe not converged in {entry.unconverged}" if entry.unconverged else ""
    return f"{_measured(entry.estimate, entry.metric)}{weak}{chosen}"


def printed(entry: Entry) -> str:
    """A published number with the decimals that papers print: ``46.0``; entropies are read to a tenth."""
    return "" if entry.published is None else f"{entry.published:.1f}"


def _measured(one: Estimate, metric: Metric, sign: str = "") -> str:
    digits = metric.decimals
    spread = "" if one.half is None else f" ± {one.half:.{digits}f}"
    return f"{one.mean:{sign}.{digits}f}{spread} (n={one.n})"


def table_of(
    grid: Grid, bold: Callable[[str], str], escape: Callable[[str], str] = str
) -> tuple[list[str], list[list[str]]]:
    """Head and body of a printed table: stubs, each column's numbers and their difference to a baseline, references."""

    def text(entry: Entry) -> str:
        ours = bold(escape(cell_text(entry))) if entry.best else escape(cell_text(entry))
        return ours if entry.published is None else f"{ours} [{printed(entry)}]"

    against = bool(grid.against)
    head = [*grid.stubs, *(name for column in grid.columns for name in ([column, "against baseline"][: 1 + against]))]
    body = []
    for row in grid.rows:
        line = [escape(name) for name in row.names]
        for entry in row.entries:
            drop = _measured(entry.drop, entry.metric, "+") if entry.drop else "baseline" if row.baseline else ""
            line += [text(entry), escape(drop)] if against else [text(entry)]
        body.append(line)
    for one in grid.references if grid.kind == "table" else ():
        line = [escape(one.name), *[""] * (len(grid.stubs) - 1)]
        for held, metric in zip(one.estimates, grid.metrics, strict=True):
            line += [escape(_measured(held, metric)) if held else "not run", *[""] * against]
        body.append(line)
    return [escape(name) for name in head], body


def to_csv(results: Results) -> str:
    """All entries, tidy, at full precision."""
    return str(tidy(results).to_csv(index=False, lineterminator="\n"))


def to_markdown(results: Results) -> str:
    """One table per block; best in bold; the published number in brackets."""
    return _document(results, "## {title}\n\n{caption}\n\n{table}\n", _markdown_table)


def to_latex(results: Results) -> str:
    """One booktabs table per block; best in bold; the published number in brackets."""
    frame = "\\begin{{table}}\n\\centering\n\\caption{{{title}. {caption}}}\n{table}\n\\end{{table}}\n"
    return _document(results, frame, _latex_table, _latex)


CAPTION = "Ours: mean ± half of the 95 % t interval over n seeds; the highest in bold; in brackets the published value."

BEYOND = "Student's t knows no ends of a scale: an interval that reaches past 0 or 100 % ends there."


def _document(results: Results, frame: str, draw: Callable[[Grid], str], escape: Callable[[str], str] = str) -> str:
    parts = []
    for experiment in results.experiments:
        for grid in grids(results, experiment):
            title = f"{experiment.title or experiment.name} (at {experiment.scale})"
            caption = f"{CAPTION} {BEYOND}" if grid.beyond else CAPTION
            parts.append(frame.format(title=escape(title), caption=escape(caption), table=draw(grid)))
    return visible("\n".join(parts))


def _markdown_table(grid: Grid) -> str:
    def line(parts: Sequence[str]) -> str:
        return "| " + " | ".join(part.replace("|", "\\|").replace("\n", " ") for part in parts) + " |"

    head, body = table_of(grid, lambda text: f"**{text}**")
    return "\n".join([line(head), line(["---"] * len(head)), *map(line, body)])


def _latex_table(grid: Grid) -> str:
    head, body = table_of(grid, lambda text: f"\\textbf{{{text}}}", _latex)
    head_line, *lines = [" & ".join(parts) + r" \\" for parts in (head, *body)]
    spec = "l" * len(grid.stubs) + "r" * (len(head) - len(grid.stubs))
    return "\n".join(
        [f"\\begin{{tabular}}{{{spec}}}", r"\toprule", head_line, r"\midrule", *lines, r"\bottomrule", r"\end{tabular}"]
    )


_LATEX = {"\\": r"\textbackslash{}", "±": r"$\pm$", "τ": r"$\tau$", "<": r"\textless{}", ">": r"\textgreater{}"}
_LATEX |= {"→": r"$\rightarrow$", "−": r"$-$"}
_LATEX |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {char: f"\\{char}" for char in "&%$#_{}"}


def _latex(text: str) -> str:
    return "".join(_LATEX.get(char, char) for char in text)
