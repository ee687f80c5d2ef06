"""The benchmarks run, and their numbers add up. What they measure is no test's business."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import builds, gpu, lineage, record, views
from benchmarks.__main__ import RESULTS, main
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


@pytest.mark.parametrize("count", [6, 9, 12])
def test_the_interval_of_a_median_is_the_narrowest_of_its_kind_that_has_95_percent(count: int) -> None:
    """Oracle: each value lies below the median or above it, every one of these cases as likely as any other."""
    low, middle, high = builds.median_interval([float(one) for one in reversed(range(count))])
    below = [sum(case) for case in itertools.product((0, 1), repeat=count)]

    def covered(rank: float) -> float:
        """Share of cases with the median between the values at ``rank`` from below and from above."""
        return sum(rank < found < count - rank for found in below) / len(below)

    assert low + high == count - 1 and middle == (count - 1) / 2
    assert covered(low) >= 0.95 > covered(low + 1)


def test_too_few_pairs_have_no_interval() -> None:
    with pytest.raises(ValueError, match="5 values"):
        builds.median_interval([1.0] * 5)


OTHER_BUILD = {
    "harness/__init__.py": "",
    "benchmarks/__init__.py": "",
    "benchmarks/__main__.py": "def prepare(): pass",
    "benchmarks/views.py": "def pictures(count): return count",
    "benchmarks/pretraining.py": """
def parts_of(scale, batch): return scale, batch
class Ours:
    def __init__(self, images, parts): assert (images, parts) == (6, ("micro", 3))
    def epoch(self): sum(range(100_000))
""",
}


def test_another_build_is_measured_with_its_own_packages(tmp_path: Path) -> None:
    for name, text in OTHER_BUILD.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with builds.Build(tmp_path, 3, 2) as build:
        assert all(seconds > 0 for seconds in build.burst())
    assert build.process.returncode == 0


def test_what_is_no_checkout_is_refused(tmp_path: Path) -> None:
    """An empty folder, and one whose harness would be the one that is installed."""
    with pytest.raises(SystemExit, match="2"):
        main(["--only", "b", "--against", str(tmp_path)])
    (tmp_path / "benchmarks").mkdir()
    for name, text in OTHER_BUILD.items():
        if name.startswith("benchmarks"):
            (tmp_path / name).write_text(text)
    with pytest.raises(RuntimeError, match="no checkout"):
        builds.Build(tmp_path, 3, 2)


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")  # lightly's DINO head calls the older one of torch
@pytest.mark.parametrize("method", lineage.TITLES)
def test_lightlys_networks_have_the_sizes_of_ours_and_its_loss_reaches_them(method: str) -> None:
    parts = lineage.recipe(method, lineage.TINY_BATCH)
    script = lineage.SCRIPTS[method](parts)
    sizes = [one or 32 for one in parts.views.sizes]
    images = views.pictures(lineage.TINY_BATCH).images
    (batch,) = lineage.loop(images, lineage.TINY_BATCH, lineage.transforms(parts)[method], script).loader
    assert [tuple(view.shape) for view in batch] == [(lineage.TINY_BATCH, 3, size, size) for size in sizes]
    loss = script.loss(batch)
    loss.backward()  # type: ignore[no-untyped-call]
    assert math.isfinite(float(loss.detach()))

    def kernels(network: torch.nn.Module) -> Iterator[tuple[int, ...]]:
        return (tuple(one.shape) for one in network.parameters() if one.requires_grad and one.ndim > 1)

    assert sorted(kernels(script)) == sorted(kernels(parts.build_method(images=64, classes=10)))
    assert all(one.grad is not None for one in script.parameters() if one.requires_grad)


@pytest.mark.slow
def test_a_rehearsal_leaves_no_results(capsys: pytest.CaptureFixture[str]) -> None:
    def results() -> dict[str, tuple[int, bytes]]:
        return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in RESULTS.iterdir()}

    before, threads = results(), torch.get_num_threads()
    try:
        assert main(["--rehearse", "--only", "c"]) == 0
    finally:
        torch.set_num_threads(threads)
    assert results() == before


def test_a_rehearsal_fails_where_a_section_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(effort: object) -> Section:
        raise AttributeError("an interface that changed")

    monkeypatch.setattr("benchmarks.views.run", broken)
    threads = torch.get_num_threads()
    try:
        with pytest.raises(AttributeError, match="changed"):
            main(["--rehearse", "--only", "a"])
    finally:
        torch.set_num_threads(threads)


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
