"""Runs of one setting that saw different data are named and not averaged; what was not recorded may be any data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.report.read.collect import collect
from harness.report.read.records import Results, State
from harness.report.read.same_data import set_aside
from harness.report.render.page import render
from harness.store.results import read_json, write_json
from tests.report.fake_results import BATCH, HANDLES, FakeResults, add

SEEDS = 3
A, B, C = "aaaa", "bbbb", "cccc"


def study(root: Path, seen: list[list[str | None]], handle: str = "") -> Results:
    """One arm for each list, whose runs saw the data of these digests; of one evaluation only if there is a handle."""
    fake = FakeResults(root)
    arms = []
    for number, digests in enumerate(seen):
        settings = {BATCH: 256 * (number + 1)}
        arm = add(fake, settings, SEEDS, lambda *_: "done", lambda _, seed: {"linear": {"top1": 40.0 + seed}})
        for run, digest in zip(arm["runs"].values(), digests, strict=True):
            path = fake.folder(run) / (f"evaluations/{handle}.json" if handle else "provenance.json")
            held: dict[str, Any] = read_json(path)
            write_json(path, held | ({"data": {"digest": digest, "images": {"train": 9}}} if digest else {}))
        arms.append(arm)
    report = [{"table": {"rows": {"batch": BATCH}, "columns": {"Top-1": "linear/top1"}}}]
    fake.experiment("one", arms=arms, report=report)
    return collect(root)


CASES: dict[str, tuple[list[list[str | None]], list[bool]]] = {
    "all alike": ([[A, A, A], [A, A, A]], [True, True]),
    "nothing recorded": ([[None] * 3, [None] * 3], [True, True]),
    "old runs and new ones": ([[None, None, A], [A, None, A]], [True, True]),
    "a seed of other data": ([[A, A, A], [A, B, A]], [True, False]),
    "a setting of other data": ([[A, A, A], [B, B, B], [A, A, A]], [True, False, True]),
    "a seed of every setting": ([[A, B, A], [A, B, A]], [False, False]),
    "no majority among settings": ([[A, A, A], [B, B, B]], [False, False]),
    "no majority among three": ([[A, A, A], [B, B, B], [C, C, C]], [False, False, False]),
    "an old run and two data": ([[None, A, B], [A, A, A]], [False, True]),
}


@pytest.mark.parametrize("handle", ["", HANDLES["linear"]], ids=["trained", "evaluated"])
@pytest.mark.parametrize("case", CASES)
def test_settings_that_mix_data_have_no_numbers(tmp_path: Path, case: str, handle: str) -> None:
    seen, counted = CASES[case]
    results = study(tmp_path, seen, handle)
    cells = results.cells(results.experiments[0], "linear/top1")
    assert [len(cell.values) for cell in cells] == [SEEDS * one for one in counted]
    assert all(
        {*cell.states.values()} == {State.OTHER_DATA} for cell, one in zip(cells, counted, strict=True) if not one
    )
    assert len(results.problems) == (not all(counted))
    page = render(results)
    assert ("other data" in page) is not all(counted)


def test_the_page_names_data_seeds_and_runs(tmp_path: Path) -> None:
    results = study(tmp_path, [[A, B, B], [B, B, B]])
    (odd,) = (run for run in results.experiments[0].ids if results.runs[run].data == A)
    (problem,) = results.problems
    assert problem.file == "experiments/one@micro.json"
    assert f"aaaa (train 9 images; seeds 0: {odd})" in problem.what
    assert problem.what.endswith("the numbers of 1 of 2 settings were left out")
    assert results.runs[odd].evaluations  # as it is for other experiments, which may have no run of other data


def test_arms_that_ask_for_other_data_are_compared_all_the_same(tmp_path: Path) -> None:
    """An experiment may vary its data: a digest is held against those of runs that ask for the same."""
    results = study(tmp_path, [[A, A, A], [B, B, B]])
    runs = dict(results.runs)
    second = results.experiments[0].arms[1]
    for run in second.runs.values():
        spec = {**runs[run].spec, "data": {"cifar10": {"train_images": 100}}}
        runs[run] = replace(runs[run], spec=spec)
    assert not set_aside(results.experiments[0], runs).runs
