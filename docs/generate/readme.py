"""``python -m docs.generate.readme``: write the result table of README.md anew from the committed results."""

from __future__ import annotations

from pathlib import Path

from docs.generate.reference import ROOT, claims_table, counted
from harness.report.judge.judging import judge_all
from harness.report.judge.score import Score
from harness.report.read.collect import collect
from harness.report.read.names import visible

README = ROOT / "README.md"
SCALE = "micro"
BEGIN, END = "<!-- results: begin -->\n", "<!-- results: end -->\n"

HEADLINES = (
    "augmentation_pairs/crop-with-color-wins",
    "color_strength/simclr-gains-more-from-color",
    "projection_heads/nonlinear-far-over-none",
    "temperature/normalisation-helps-the-representation",
    "batch_sizes/larger-batches-win-short-training",
    "model_size/deeper-is-better",
)
"""The claims of the table, by a rule that looks at no result: section 1 of the SimCLR paper lists six findings, and
each is here by the claim that tests the first thing which its sentence asserts."""


def table(results: Path = ROOT / "results") -> str:
    """Return the table and the count of all verdicts. A headline whose experiment was not swept is NOT RUN."""
    scores = {score.judged.key.replace(f"@{SCALE}/", "/"): score for score in map(Score, judge_all(collect(results)))}
    rows = claims_table(scores[key] for key in HEADLINES if key in scores)
    absent = "".join(f"| {key} | – | – | – | – | NOT RUN |\n" for key in HEADLINES if key not in scores)
    return visible(f"{rows}{absent}\n{counted(scores.values())}\n")


def updated(readme: str, results: Path = ROOT / "results") -> str:
    """Return the text of README.md with the table of today's results between its two markers."""
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}{table(results)}{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    README.write_text(updated(README.read_text(encoding="utf-8")), encoding="utf-8")
