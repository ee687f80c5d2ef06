"""The page that is committed is the one that the committed results give, byte for byte."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import pytest

from harness.report.read.collect import collect
from harness.report.render.page import render

ROOT = Path(__file__).resolve().parents[2]


def pinned() -> dict[str, str]:
    """The versions that wrote the committed page."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    return dict(re.findall(r"^([\w-]+)==(\S+)$", text, re.MULTILINE))


def test_the_committed_page_is_rebuilt_byte_for_byte() -> None:
    other = {name: found for name, wanted in pinned().items() if (found := importlib.metadata.version(name)) != wanted}
    if other:
        pytest.skip(f"pictures differ between versions; here are {other}, the page was written with constraints.txt")
    page = render(collect(ROOT / "results"))
    assert page == (ROOT / "reports" / "index.html").read_text(encoding="utf-8")


def test_what_is_committed_under_results_is_small_and_whole() -> None:
    results = collect(ROOT / "results")
    assert not results.problems
    assert results.experiments
