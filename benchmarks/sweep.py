"""g. The sweep itself: planning, status and the report of ten thousand runs, and what it costs to start one.

``python -m benchmarks.sweep --runs 100000`` measures planning and status of so many (minutes, and 700,000 inodes of the
disk that ``TMPDIR`` names); it prints a table and writes nothing else.

Processor time is what counts here: no other tool stands beside, and the disk is warm. The runs are those of a real grid
at scale ``micro``; "done" means that every file of every run lies in the results folder.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.clock import Contender, Effort, Timing, measure
from benchmarks.record import OURS, Row, Section, Target
from harness.config.experiment import Experiment, load_experiment
from harness.runtime import Runtime
from harness.store.results import RunFolder, Store, write_json
from harness.sweep.local.pool import Pool
from harness.sweep.plan.manifest import manifest
from harness.sweep.plan.plan import Plan, make_plan
from harness.sweep.status import status

ROOT = Path(__file__).resolve().parent.parent
STARTS, FEW_STARTS = 20, 2
SMALLEST = 500
"""Runs of one learning rate and one seed; 2500 with all five rates."""

GRID = """\
# How do ten thousand runs fare?
title: A grid of ten thousand runs
scale: micro
vary:
  - objective.nt_xent.temperature: [0.1, 0.2, 0.3, 0.4, 0.5]
    optimizer.lars.lr: [{rates}]
    optimizer.lars.weight_decay: [1.0e-6, 1.0e-5, 1.0e-4, 1.0e-3]
    views.targeted: {{pairs: [color, noise, blur, rotate, cutout]}}
seeds: {seeds}
runs: {runs}
evaluate: [linear]
report:
  - heatmap:
      rows: {{temperature: objective.nt_xent.temperature}}
      columns: {{rate: optimizer.lars.lr}}
      cell: linear/top1
claims:
  - id: half-is-best
    says: a temperature of one half is best
    where: nowhere
    on: linear/top1
    expect: {{best: {{objective.nt_xent.temperature: 0.5}}}}
"""


def grid(folder: Path, runs: int) -> Experiment:
    """An experiment file of ``runs`` runs (500, or a multiple of 2500), in a folder beside the project's own scales."""
    for name in ("scales", "paper", "clusters"):
        (folder / name).symlink_to(ROOT / "experiments" / name)
    count = min(5, runs // SMALLEST)
    rates = ", ".join(f"{0.1 * (1 + index):.1f}" for index in range(count))
    path = folder / "grid.yaml"
    path.write_text(GRID.format(rates=rates, seeds=runs // (count * SMALLEST), runs=runs), encoding="utf-8")
    return load_experiment(path)


def finish(plan: Plan) -> None:
    """Every file that a finished run leaves and a reader opens. Not written atomically: that would cost minutes."""
    (evaluation,) = plan.evaluations
    hardware = {"cpu": "none", "cores": 1, "gpu": None}
    about: dict[str, object] = {
        "commit": None,
        "dirty": None,
        "code": "bench",
        "versions": {},
        "hardware": hardware,
        "threads": 1,
    }
    about |= {"started": 0.0, "finished": 60.0, "wall_seconds": 60.0, "images_per_second": 1000.0}
    metrics = "".join(
        json.dumps({"epoch": epoch, "step": 39 * epoch, "lr": 1.0, "loss": 5 - epoch / 10}) + "\n"
        for epoch in range(1, 21)
    )
    for number, one in enumerate(plan.runs.values()):
        folder, run = one.folder, one.folder.id
        (folder.path / "evaluations").mkdir(parents=True)
        value = {"run": run, "handle": evaluation.id, "name": "linear", "label": "linear", "wall_seconds": 5.0}
        value |= {"evaluation": evaluation.resolved, "values": {"top1": 40 + number % 97 / 10}, "code": "bench"}
        files = {
            folder.spec: {"id": run, "spec": one.run.spec()},
            folder.provenance: about,
            folder.outcome: {"run": run, "status": "trained", "epochs": 20, "steps": 780, "loss": 3.0},
            folder.evaluation(evaluation.id): value,
        }
        for path, held in files.items():
            path.write_text(json.dumps(held), encoding="utf-8")
        folder.metrics.write_text(metrics, encoding="utf-8")
    write_json(plan.store.experiment(plan.experiment.name, plan.experiment.scale.name), manifest(plan))


def nothing(folder: RunFolder, asked: Sequence[object], place: Runtime) -> None:
    """The work of a run without its compute."""
    write_json(folder.outcome, {"run": folder.id, "status": "diverged"})


class Silent:
    """Nobody watches."""

    def started(self, folder: RunFolder) -> None: ...
    def ended(self, folder: RunFolder, cause: object, detail: str) -> None: ...
    def held(self, count: int, detail: str) -> None: ...
    def note(self, text: str) -> None: ...
    def tick(self, running: Sequence[RunFolder]) -> None: ...


def start(results: Path, name: str, count: int) -> None:
    """``count`` runs in the local pool, one after the other."""
    folders = [Store(results).run(f"{name}{number:04d}") for number in range(count)]
    Pool(folders, (), Runtime(device="cpu", threads=1), Silent(), jobs=1, execute=nothing).run()


def plans_and_status(folder: Path, runs: int) -> dict[str, Timing]:
    """Planning before and after, and status, of ``runs`` runs whose files are left in ``folder/results``."""
    store, experiment = Store(folder / "results"), grid(folder, runs)
    plans: list[Plan] = []
    timings = {"plan, nothing run yet": timed(lambda: plans.append(make_plan(experiment, store, code="bench")))}
    finish(plans[0])
    timings["plan, all done"] = timed(lambda: plans.append(make_plan(experiment, store, code="bench")))
    assert not plans[1].to_do
    timings["status, all done"] = timed(lambda: status(Console(file=io.StringIO()), store, []))
    return timings


def timed(work: Callable[[], object], units: float = 1.0) -> Timing:
    timing = Timing()
    wall, cpu = measure(Contender("", work), 1)
    timing.wall.append(wall / units)
    timing.cpu.append(cpu / units)
    return timing


def run(effort: Effort) -> Section:
    """The whole section."""
    from harness.report.read.collect import collect
    from harness.report.render.page import render

    runs, starts = effort.of(10_000, 2_500, SMALLEST), effort.of(STARTS, STARTS, FEW_STARTS)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        timings = plans_and_status(folder, runs)
        pages: list[str] = []
        timings["report, all done"] = timed(lambda: pages.append(render(collect(folder / "results"))))
        start(folder / "starts", "warm", starts)  # the fork server imports torch once in a sweep, not once in a run
        timings["start of a run"] = timed(lambda: start(folder / "starts", "cold", starts), starts)
    section = Section("g", f"The sweep itself, {runs:,} runs")
    section.rows = [Row(name, OURS, "s", one.median_wall, one.median_cpu, rounds=1) for name, one in timings.items()]
    section.notes = ["Processor time, workers included, is held against the targets: the wall is the neighbours'.", ""]
    limits = {"plan, nothing run yet": 2.0, "plan, all done": 2.0, "status, all done": 2.0, "report, all done": 10.0}
    section.targets = [
        Target(f"{name}, {runs:,} runs, s", timings[name].median_cpu, at_most=most) for name, most in limits.items()
    ]
    section.targets += [
        Target("start of a run beyond its own compute, s", timings["start of a run"].median_cpu, at_most=0.3),
        Target(f"page of {runs:,} runs, MB", len(pages[0].encode()) / 1e6, at_most=5.0),
    ]
    return section


def main(argv: list[str] | None = None) -> int:
    """Planning and status at another size than section g's."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sweep", description=main.__doc__)
    parser.add_argument("--runs", type=int, default=100_000, help="a multiple of 2500 (default: 100000)")
    runs = parser.parse_args(argv).runs
    if runs < 2500 or runs % 2500:
        parser.error(f"--runs {runs}: a multiple of 2500 is needed")
    with tempfile.TemporaryDirectory() as place:
        timings = plans_and_status(Path(place), runs)
        for name, one in timings.items():
            print(f"{name:24}{one.median_cpu:8.1f} s of processor time {one.median_wall:8.1f} s of wall")
        print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB of memory at most", flush=True)
        held = list((Path(place) / "results").rglob("*"))
        size = sum(path.stat().st_blocks * 512 for path in held)
        print(f"{len(held):,} files and folders, {size / 1e9:.2f} GB on this disk; removing them", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
