"""CSV, Markdown and LaTeX carry the same numbers as the page."""

from __future__ import annotations

import io

import pandas as pd
import pytest

from harness.report.read.collect import collect
from harness.report.read.records import Results
from harness.report.render.export import to_csv, to_latex, to_markdown
from tests.report.fake_results import FakeResults


@pytest.mark.parametrize("share", ["nothing", "some", "all"])
def test_csv_has_every_entry_with_interval_n_and_runs(results: dict[str, Results], share: str) -> None:
    frame = pd.read_csv(io.StringIO(to_csv(results[share])))
    pairs = frame[frame.experiment == "augmentation_pairs"]
    assert len(pairs) == 49 and (pairs.asked == 3).all()
    assert pairs.runs.str.split().map(len).eq(3).all()
    measured = pairs[pairs.n > 1]
    assert (measured.low < measured["mean"]).all() and (measured["mean"] < measured.high).all()
    assert pairs[pairs.n < 2].low.isna().all()
    both = pairs.dropna(subset="difference")
    assert (both["mean"] - both.published).sub(both.difference).abs().max() < 1e-9 or both.empty


def test_markdown_tables_are_rectangular(results: dict[str, Results]) -> None:
    tables = [block for block in to_markdown(results["some"]).split("\n\n") if block.startswith("|")]
    assert len(tables) == 4
    for table in tables:
        assert len({line.count("|") for line in table.strip().splitlines()}) == 1


def test_markdown_bolds_the_best(results: dict[str, Results]) -> None:
    row = next(line for line in to_markdown(results["all"]).splitlines() if line.startswith("| yes | 0.1 |"))
    assert row.count("**") == 2 and "[64.4]" in row


def test_a_heatmap_has_one_bold_number_and_a_chart_one_a_line(results: dict[str, Results]) -> None:
    tables = [block for block in to_markdown(results["all"]).split("\n\n") if block.startswith("|")]
    assert tables[0].count("**") == 2 and "**48." in tables[0]  # crop then color
    lines = next(table for table in tables if table.startswith("| batch size"))
    assert lines.count("**") == 2 * 2  # the two lengths that were run; the paper's have none of ours
    assert "[46.0]" in tables[0] and "the highest in bold" in to_latex(results["all"])


def test_latex_escapes_and_closes(fake: FakeResults) -> None:
    settings = {"a.b": "100% & $5_000 #1 {x} \\~^"}
    block = [{"table": {"rows": {"a_b": "a.b"}, "columns": {"T": "linear/top1"}}}]
    fake.experiment(
        "one", title="50% & more", arms=[{"settings": settings, "runs": {"0": "000000000000"}}], report=block
    )
    text = to_latex(collect(fake.root))
    assert r"100\% \& \$5\_000 \#1 \{x\} \textbackslash{}\textasciitilde{}\textasciicircum{}" in text
    assert r"\caption{50\% \& more" in text
    assert text.count(r"\begin{") == text.count(r"\end{") == 2
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
