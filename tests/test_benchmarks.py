"""The benchmarks run, and their numbers add up. What they measure is no test's business."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import gpu, record, views
from benchmarks.__main__ import main
from benchmarks.clock import Contender, Timing, in_turns
from benchmarks.record import Section, Target


def test_contenders_take_turns_and_all_are_measured() -> None:
    called: list[str] = []
    timings = in_turns([Contender(name, lambda name=name: called.append(name)) for name in "ab"], budget_s=0.0)  # type: ignore[misc]
    assert set(timings) == set("ab") == set(called)
    assert len(timings["a"].wall) == len(timings["b"].cpu) >= 2


def test_ratios_are_of_neighbouring_rounds() -> None:
    ours, theirs = Timing(cpu=[1.0, 2.0, 10.0]), Timing(cpu=[2.0, 4.0, 20.0])
    assert theirs.times(ours) == (2.0, 2.0, 2.0)


@pytest.mark.parametrize(("value", "met"), [(3.9, False), (4.0, True)])
def test_a_target_is_met_or_missed_in_the_table(tmp_path: Path, value: float, met: bool) -> None:
    section = Section("a", "views", targets=[Target("faster", value, at_least=4.0)])
    about = {"title": "CPU", **record.circumstances()}
    text = record.write(tmp_path, "cpu", about, [section])
    assert ("**missed**" in text) is not met
    assert json.loads((tmp_path / "cpu.json").read_text())["sections"][0]["targets"][0]["met"] is met


@pytest.mark.slow
def test_a_tiny_benchmark_writes_its_results_without_the_other_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.views.find_spec", lambda name: None)
    monkeypatch.setattr("benchmarks.views.OPERATORS", {"rotate": views.OPERATORS["rotate"]})
    monkeypatch.setattr("benchmarks.views.BATCH", 8)
    threads = torch.get_num_threads()
    try:
        assert main(["--quick", "--only", "a", "--out", str(tmp_path)]) == 0
    finally:
        torch.set_num_threads(threads)
    (section,) = json.loads((tmp_path / "cpu.json").read_text())["sections"]
    assert {row["contender"] for row in section["rows"]} == {
        "harness",
        "torchvision, PIL images",
        "torchvision v2, tensors",
    }
    assert all(row["cpu"] > 0 for row in section["rows"])
    assert (tmp_path / "cpu.md").exists() and (tmp_path / "cpu.svg").exists()


@pytest.mark.slow
def test_the_benchmark_of_a_gpu_rehearses_without_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eager variants only: what compiles is tested with the loop."""
    monkeypatch.setattr(gpu, "VARIANTS", {"float32": (False, "off"), "bfloat16": (True, "off")})
    monkeypatch.setattr(gpu, "TINY", replace(gpu.TINY, side_by_side=(2,)))
    threads = torch.get_num_threads()
    try:
        assert gpu.main(["--device", "cpu", "--out", str(tmp_path)]) == 0
    finally:
        torch.set_num_threads(threads)
    found = json.loads((tmp_path / "rehearsal.json").read_text())["sections"]
    assert [one["letter"] for one in found] == ["g1", "g2", "g3", "g4"]
    assert not any(one["notes"] for one in found), "something died, or took too long"
    losses = [target for one in found for target in one["targets"] if "losses" in target["says"]]
    assert len(losses) == 3 and all(target["met"] for target in losses)
