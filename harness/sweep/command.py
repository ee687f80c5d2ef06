"""What a sweep does once its arguments are read: plan every file, choose runs, share the budget, and run or submit.

All files are planned before the first run starts: a fault in the last of them costs nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

from rich.console import Console

from harness.provenance import code_fingerprint
from harness.spec.document import parse_value
from harness.spec.errors import SpecError
from harness.spec.experiment import Experiment
from harness.store import State, Store
from harness.sweep import local, status
from harness.sweep.budget import Offer, Purchase, buy
from harness.sweep.cluster import altered, find_cluster
from harness.sweep.live import say
from harness.sweep.machine import Crew, crew
from harness.sweep.plan import Plan, PlannedRun, make_plan
from harness.sweep.preflight import check_data, check_processes
from harness.sweep.price import bill
from harness.sweep.record import record
from harness.sweep.show import show_claims, show_plan, show_purchase


def sweep(asked: argparse.Namespace, console: Console, store: Store, experiments: Sequence[Experiment]) -> int:
    """Returns the worst exit code of all files. Raises :class:`SpecError` before anything is written or started."""
    look = partial(make_plan, store=store, overrides=read_overrides(asked.overrides), code=code_fingerprint())
    plans = [look(one) for one in experiments]
    _check_choice(asked, plans)
    if asked.retry and not asked.plan:
        for plan in plans:
            status.forget_failures(plan, asked.only)
            status.forget_unavailable(plan, asked.only)
        plans = [look(one) for one in experiments]
    purchase = _purchase(asked, console, [(plan, _chosen(asked, plan)) for plan in plans]) if asked.budget else None
    worst = 0
    for index, plan in enumerate(plans):
        if index and not asked.plan:
            plan = look(plan.experiment)  # what an earlier file trained is not to do any more
        runs = _chosen(asked, plan)
        if purchase is not None:
            order = {run: place for place, run in enumerate(purchase.bought)}
            runs = sorted((one for one in runs if one.folder.id in order), key=lambda one: order[one.folder.id])
        worst = max(worst, _one(asked, console, plan, runs))
    return worst


def _one(asked: argparse.Namespace, console: Console, plan: Plan, runs: Sequence[PlannedRun]) -> int:
    cluster = _cluster(asked, plan)
    if cluster is None:
        return _here(asked, console, plan, runs)
    from harness.sweep.launch import sweep_on

    return sweep_on(console, plan, runs, cluster, asked.data.resolve(), only_plan=asked.plan)


def _here(asked: argparse.Namespace, console: Console, plan: Plan, runs: Sequence[PlannedRun]) -> int:
    here = _crew(asked, len(runs))
    prices = local.prices_here(plan.store, plan.evaluations, here)
    cost = bill(prices, runs, plan.evaluations, here.jobs)
    many = f"{here.jobs} at a time" if here.jobs > 1 else "one at a time"
    many += f", {here.processes} processes each" if here.processes > 1 else ""
    show_plan(console, plan, cost, f"here, {many}" + (" on GPUs" if here.gpus else ""))
    if asked.plan:
        show_claims(console, plan, prices, {one.folder.id for one in runs})
        return 0
    check_data(runs, asked.data)
    check_processes(runs, here.processes, asked.images_per_pass or 0)
    if not local.confirm_long(console, cost, yes=asked.yes):
        return 2
    record(plan)
    passes = asked.images_per_pass or 0
    outcome = local.run_here(console, plan, runs, cost, here, asked.data, images_per_pass=passes) if runs else None
    left = len(plan.to_do) - len(runs)
    clean = outcome is None or outcome.clean
    return verdict(console, plan, left, clean=clean, stopped=bool(outcome and outcome.stopped))


def _crew(asked: argparse.Namespace, runs: int) -> Crew:
    return crew(runs, asked.jobs, asked.processes_per_run or 1)


def verdict(console: Console, plan: Plan, left: int, *, clean: bool, stopped: bool) -> int:
    """The last line, and the exit code: failures of earlier sweeps count too, and what cannot be had."""
    bad = plan.in_state(State.FAILED, State.BROKEN)
    weightless = [one for one in plan.runs.values() if one.weightless]
    if clean and not bad and not weightless:
        command = f"python -m harness.report {plan.store.root} > report.html"
        open_ = f"Done; {left} runs that were not chosen are left to do." if left else ""
        say(console, f"{open_ or f'All {len(plan.runs)} runs are accounted for.'} The report: {command}", style="green")
        return 0
    if bad or weightless:
        say(console, f"{len(bad) + len(weightless)} runs were left out, as listed above.", style="red")
    return 130 if stopped else 1


# --- which runs -----------------------------------------------------------------------------------------------------


def _chosen(asked: argparse.Namespace, plan: Plan) -> list[PlannedRun]:
    """What is to do of it, less what ``--only`` and ``--seeds`` leave out."""
    return [
        one
        for one in plan.to_do
        if (not asked.only or one.folder.id.startswith(tuple(asked.only)))
        and (asked.seeds is None or one.run.seed in asked.seeds)
    ]


def _check_choice(asked: argparse.Namespace, plans: Sequence[Plan]) -> None:
    names = ", ".join(f"{plan.experiment.name}@{plan.experiment.scale.name}" for plan in plans)
    for one in asked.only:
        if not any(run.startswith(one) for plan in plans for run in plan.runs):
            raise SpecError(f"--only {one}: no run of {names} begins so")
    most = max(plan.experiment.seeds for plan in plans)
    for seed in sorted(asked.seeds or ()):
        if seed >= most:
            raise SpecError(f"--seeds {seed}: {names} has {most} seeds, 0 to {most - 1}")


def _purchase(asked: argparse.Namespace, console: Console, offer: Offer) -> Purchase:
    """Spend the budget on all files together, at the prices of the place where they would run."""
    store, wanted = offer[0][0].store, [one for plan, _ in offer for one in plan.evaluations]
    cluster = _cluster(asked, offer[0][0])
    queued: Collection[str] = ()
    if cluster is None:
        prices = local.prices_here(store, wanted, _crew(asked, sum(len(runs) for _, runs in offer)))
    else:
        from harness.sweep import scheduler
        from harness.sweep.launch import prices_on

        prices, queued = prices_on(store, wanted, cluster[1]), scheduler.look(store).runs
        offer = [(plan, [one for one in runs if one.folder.id not in queued]) for plan, runs in offer]
    purchase = buy(offer, prices, asked.budget, queued)
    show_purchase(console, purchase)
    return purchase


def _cluster(asked: argparse.Namespace, plan: Plan) -> Any:
    """The cluster to submit to, or None for this machine. What is said on the command line goes before its file."""
    found = find_cluster(asked.cluster, plan.experiment.document.path.parent)
    said = {"processes_per_run": asked.processes_per_run, "images_per_pass": asked.images_per_pass}
    said = {key: value for key, value in said.items() if value is not None}
    return (found[0], altered(found[1], **said)) if found and said else found


def read_overrides(written: Sequence[str]) -> dict[str, Any]:
    overrides = {}
    for one in written:
        path, equals, value = one.partition("=")
        if not equals or not path.strip():
            raise SpecError(f"-o {one}: expected PATH=VALUE, e.g. -o optimizer.lars.lr=0.5")
        overrides[path.strip()] = parse_value(value)
    return overrides
