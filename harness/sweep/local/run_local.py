"""Sweep on this machine: estimate the cost, ask if it is long, run the pool, report how it ended."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from harness.components import Evaluation
from harness.config.errors import SpecError
from harness.runtime import Compile, Runtime
from harness.store import snapshot
from harness.store.causes import Cause
from harness.store.results import Store
from harness.sweep.display.console import agreed
from harness.sweep.display.live import Watch, clock, many, say, were
from harness.sweep.display.tables import show_failures
from harness.sweep.local.gpu_locks import GpuLocks
from harness.sweep.local.pool import Outcome, Pool
from harness.sweep.local.ranks import ProcessesHere
from harness.sweep.local.resources import Allocation, gpus
from harness.sweep.plan.code_changes import Recording
from harness.sweep.plan.cost import CostEstimate, Prices
from harness.sweep.plan.plan import Plan, PlannedRun
from harness.sweep.worker import worker
from harness.sweep.worker.worker import Execute

ASK_S = 600.0
"""A local sweep priced above this asks first, where there is a person to ask."""
LONG_S = 8 * 3600.0
"""Where there is none, it does not start above this price without ``--yes``."""


def prices_here(store: Store, asked: Iterable[Evaluation], here: Allocation, data: Path) -> Prices:
    """What runs cost on this machine when so many share it."""
    gpu = gpus()[0][1] if here.gpus else None
    each = max(1.0, here.jobs * here.processes / len(here.gpus)) ** -1 if here.gpus else here.threads
    return Prices.read(store, gpu, [one.id for one in asked], each * here.processes, here.processes, data)


def confirm_long(console: Console, cost: CostEstimate, *, yes: bool) -> bool:
    """Whether to go on with a sweep of this price. Raises :class:`SpecError` where nobody can be asked."""
    asks = sys.stdin.isatty()
    if yes or cost.wall_seconds <= (ASK_S if asks else LONG_S):
        return True
    said = f"This would run on this machine for about {clock(cost.wall_seconds)}."
    if not asks:
        raise SpecError(f"{said} Add --yes to start it, or choose a smaller --scale.")
    say(console, said, style="yellow")
    return agreed(console, "Go on?", "Nothing was started.")


def run_here(
    console: Console,
    plan: Plan,
    runs: Sequence[PlannedRun],
    cost: CostEstimate,
    here: Allocation,
    data: Path,
    execute: Execute = worker.train,
    *,
    images_per_pass: int = 0,
    compile: Compile = "off",
) -> Outcome:
    """Run them and print a table of what failed."""
    labels = {one.folder.id: one.label for one in runs}
    device = "auto" if here.gpus else "cpu"
    runtime = Runtime(data=data, device=device, threads=here.threads, images_per_pass=images_per_pass, compile=compile)
    ranks = ProcessesHere(here.processes) if here.processes > 1 else None
    code = snapshot.take(plan.store, plan.experiment.document.path)
    folders = [one.folder for one in runs]
    with Recording(plan.store, partial(say, console), code) as recording:
        with Watch(console, len(runs), here.jobs, cost.mean, labels) as watch:
            pool = Pool(
                folders, plan.evaluations, runtime, watch,
                jobs=here.jobs, gpus=here.gpus, execute=execute, code=code, leases=GpuLocks(), ranks=ranks,
            )  # fmt: skip
            outcome = pool.run()
        if outcome.stopped:
            recording.drop()
    show_failures(console, [plan.store.run(run) for run in outcome.failed], labels)
    if outcome.held:
        say(console, f"{were(len(outcome.held), 'run')} not started. Fix the error, then sweep again.", style="red")
    cut = sum(cause is Cause.INTERRUPTED for cause in outcome.causes.values())
    if outcome.stopped:
        say(console, "Stopped. Run the same command again to resume.", style="yellow")
    elif cut:  # by --cancel of another terminal, or killed one by one
        said = f"{many(cut, 'run')} did not finish; run the same command again to resume."
        say(console, said, style="yellow")
    return outcome
