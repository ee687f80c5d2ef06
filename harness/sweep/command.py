"""What a sweep does once its arguments are read: plan every file, choose runs, share the budget, and run or submit.

All files are planned before the first run starts: a fault in the last of them costs nothing.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from rich.console import Console

from harness.config.errors import SpecError
from harness.config.experiment import Experiment, load_experiment
from harness.config.yaml_file import parse_value
from harness.runtime import Compile, check_compiler
from harness.store.provenance import code_fingerprint
from harness.store.results import Store
from harness.sweep.display.console import STOPPED, agreed
from harness.sweep.display.format import hours
from harness.sweep.display.live import many, say, were
from harness.sweep.display.tables import show_claims, show_plan, show_runs, show_selection
from harness.sweep.display.unavailable import show_lacking, show_unavailable
from harness.sweep.local import run_local
from harness.sweep.local.pool import Outcome
from harness.sweep.local.resources import Allocation, allocate
from harness.sweep.plan.budget import Candidates, Selection, select
from harness.sweep.plan.cost import CostEstimate, Prices, estimate
from harness.sweep.plan.manifest import check_names, record
from harness.sweep.plan.plan import Plan, PlannedRun, make_plan
from harness.sweep.plan.preflight import check_data, check_processes, lacking, other_data, remarks
from harness.sweep.plan.retry import as_retried, forget
from harness.sweep.plan.unavailable import unavailable_of
from harness.sweep.slurm.config import altered, find_cluster


def run_files(asked: argparse.Namespace, console: Console, store: Store) -> int:
    """Read the experiments that were named, and run or plan them. Returns the exit code; raises :class:`SpecError`."""
    if not asked.experiments:
        raise SpecError("name an experiment, e.g. experiments/temperature.yaml (or --help for what else there is)")
    return sweep(asked, console, store, [load_experiment(path, asked.scale) for path in asked.experiments])


def sweep(asked: argparse.Namespace, console: Console, store: Store, experiments: Sequence[Experiment]) -> int:
    """Returns the worst exit code of all files. Raises :class:`SpecError` before anything is written or started."""
    look = partial(make_plan, store=store, overrides=read_overrides(asked.overrides), code=code_fingerprint())
    plans = [as_retried(look(one)) if asked.retry else look(one) for one in experiments]
    check_choice(asked.only, asked.seeds, plans)
    candidates: Candidates = [(plan, _chosen(asked, plan)) for plan in plans]
    if asked.json:
        console = Console(quiet=True)
    selection = _selection(asked, console, candidates) if asked.budget else None
    candidates = [(plan, _selected(selection, runs)) for plan, runs in candidates]
    files = sum(bool(runs) for _, runs in candidates)  # that share the cap on jobs
    if asked.json:
        print(json.dumps([_as_json(asked, plan, runs) for plan, runs in candidates], indent=1, default=str))
        return 0
    if asked.plan:
        code = max(_plan_only(asked, console, plan, runs, files) for plan, runs in candidates)
        if asked.list:
            for plan, runs in candidates:
                show_runs(console, plan, {one.folder.id for one in runs})
        _would_be_refused(console, [partial(check_names, plans)])  # two of these files may have one name
        return code
    check_names(plans)
    if not _ready(asked, console, candidates):
        return 2
    if asked.retry:
        for plan, runs in candidates:
            forget(plan, runs)
    worst = 0
    for index, plan in enumerate(plans):
        if index or asked.retry:
            plan = look(plan.experiment)  # what an earlier file trained is not to do any more
        code = _one(asked, console, plan, _selected(selection, _chosen(asked, plan)), files)
        if code == STOPPED:
            return STOPPED
        worst = max(worst, code)
    return worst


def _selected(selection: Selection | None, runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    if selection is None:
        return list(runs)
    order = {run: place for place, run in enumerate(selection.selected)}
    return sorted((one for one in runs if one.folder.id in order), key=lambda one: order[one.folder.id])


def _ready(asked: argparse.Namespace, console: Console, candidates: Candidates) -> bool:
    """Check and ask for all files before the first starts; False for no. Raises :class:`SpecError`."""
    here: dict[str, PlannedRun] = {}
    costs = []
    for plan, runs in candidates:
        if _cluster(asked, plan) is None:
            new = [one for one in runs if one.folder.id not in here]
            costs.append(_show_here(asked, console, plan, new, chosen=len(runs))[1])
            if runs:
                show_lacking(console, lacking(plan.evaluations, asked.data))
            here |= {one.folder.id: one for one in runs}
    for plan, runs in candidates:
        _show_remarks(asked, console, plan, runs)
    check_data(here.values(), asked.data)
    check_processes(here.values(), asked.processes_per_run or 1, asked.images_per_pass or 0, _compile(asked))
    if here:
        check_compiler(_compile(asked), "cuda" if _crew(asked, len(here)).gpus else "cpu")
    if len(candidates) > 1:  # of one file alone, whoever submits it checks the same before anything is written
        _check_submissions(asked, candidates)
    if not _agreed_to_submit(asked, console, candidates):
        return False
    if not costs:
        return True
    whole = replace(costs[0], wall_seconds=sum(one.wall_seconds for one in costs))
    return run_local.confirm_long(console, whole, yes=asked.yes)


def _agreed_to_submit(asked: argparse.Namespace, console: Console, candidates: Candidates) -> bool:
    """Ask a person, if there is one, before jobs of more than ten minutes are submitted, all files together."""
    clusters = [_cluster(asked, plan) for plan, _ in candidates]
    if asked.yes or not any(clusters) or not sys.stdin.isatty():
        return True
    from harness.sweep.slurm import queue
    from harness.sweep.slurm.submit import prices_on

    queued = queue.query(candidates[0][0].store).runs
    missing: dict[str, float] = {}
    unit = ""
    for (plan, runs), cluster in zip(candidates, clusters, strict=True):
        if cluster is not None:
            prices = prices_on(plan.store, plan.evaluations, cluster[1], asked.data)
            unit = prices.unit
            for one in runs:
                if one.folder.id not in queued:
                    missing[one.folder.id] = prices.hours(prices.left(one, plan.evaluations))
    total = sum(missing.values())
    if 3600 * total <= run_local.ASK_S:
        return True
    say(console, f"This would submit {many(len(missing), 'run')}, about {hours(total)} {unit}.", style="yellow")
    return agreed(console, "Go on?", "Nothing was submitted.")


def _check_submissions(asked: argparse.Namespace, candidates: Candidates) -> None:
    """The checks of :func:`harness.sweep.slurm.submit.sweep_on`, of every file that is to be submitted."""
    from harness.sweep.slurm import queue

    queued: Collection[str] | None = None
    for plan, runs in candidates:
        if (cluster := _cluster(asked, plan)) is not None:
            queued = queue.query(plan.store).runs if queued is None else queued
            missing = [one for one in runs if one.folder.id not in queued]
            check_data(missing, asked.data)
            check_processes(missing, cluster[1].processes_per_run, cluster[1].images_per_pass, cluster[1].compile)


def _plan_only(asked: argparse.Namespace, console: Console, plan: Plan, runs: Sequence[PlannedRun], files: int) -> int:
    cluster = _cluster(asked, plan)
    if cluster is not None:
        code = _submit(asked, console, plan, runs, files)
        ranks, passes, compile = cluster[1].processes_per_run, cluster[1].images_per_pass, cluster[1].compile
    else:
        prices, _ = _show_here(asked, console, plan, runs, chosen=len(runs))
        show_claims(console, plan, prices, {one.folder.id for one in runs})
        code = 0
        ranks, passes, compile = asked.processes_per_run or 1, asked.images_per_pass or 0, _compile(asked)
        if runs:
            show_lacking(console, lacking(plan.evaluations, asked.data))
    _show_remarks(asked, console, plan, runs)
    checks = (partial(check_data, runs, asked.data), partial(check_processes, runs, ranks, passes, compile))
    _would_be_refused(console, checks)
    return code


def _as_json(asked: argparse.Namespace, plan: Plan, runs: Sequence[PlannedRun]) -> dict[str, Any]:
    """A plan for scripts: its price, every run with its arm and seed, and why a start would be refused."""
    cluster = _cluster(asked, plan)
    if cluster is None:
        here = _crew(asked, len(runs))
        prices, at_once = run_local.prices_here(plan.store, plan.evaluations, here, asked.data), here.jobs
        ranks, passes, compile = asked.processes_per_run or 1, asked.images_per_pass or 0, _compile(asked)
    else:
        from harness.sweep.slurm.submit import prices_on

        about = cluster[1]
        prices, at_once = prices_on(plan.store, plan.evaluations, about, asked.data), about.array_cap * about.at_once
        ranks, passes, compile = about.processes_per_run, about.images_per_pass, about.compile
    chosen = {one.folder.id for one in runs}
    settings = {run: (arm.settings, seed) for arm in reversed(plan.arms) for seed, run in arm.runs.items()}
    checks = (partial(check_data, runs, asked.data), partial(check_processes, runs, ranks, passes, compile))
    return {
        "experiment": plan.experiment.name,
        "scale": plan.experiment.scale.name,
        "file": str(plan.experiment.document.path),
        "overrides": plan.overrides,
        "where": cluster[0] if cluster else "local",
        "evaluations": [one.label for one in plan.evaluations],
        "cost": asdict(estimate(prices, runs, plan.evaluations, at_once)),
        "refused": list(_refusals(checks)),
        "runs": [
            {
                "id": run,
                "seed": settings[run][1],
                "settings": settings[run][0],
                "state": str(one.state),
                "stale": one.stale,
                "to_do": one.to_do,
                "chosen": run in chosen,
            }
            for run, one in plan.runs.items()
        ],
    }


def _would_be_refused(console: Console, checks: Iterable[Callable[[], None]]) -> None:
    for one in _refusals(checks):
        say(console, f"As things are, a start would be refused: {one}", style="yellow")


def _refusals(checks: Iterable[Callable[[], None]]) -> Iterator[str]:
    for check in checks:
        try:
            check()
        except SpecError as error:
            yield from map(str, error.complaints)


def _show_remarks(asked: argparse.Namespace, console: Console, plan: Plan, runs: Sequence[PlannedRun]) -> None:
    """What is no data, and whether it is other data than before."""
    for remark in [*remarks(runs, asked.data), *other_data(plan, runs, asked.data)]:
        say(console, remark, style="yellow")


def _one(asked: argparse.Namespace, console: Console, plan: Plan, runs: Sequence[PlannedRun], files: int) -> int:
    if _cluster(asked, plan) is not None:
        return _submit(asked, console, plan, runs, files)
    if len(asked.experiments) > 1:
        say(console, f"{plan.experiment.file.title}: {many(len(runs), 'run')}", style="bold")
    return _run_here(asked, console, plan, runs)


def _submit(asked: argparse.Namespace, console: Console, plan: Plan, runs: Sequence[PlannedRun], files: int) -> int:
    """``files`` of this command have runs to do: SLURM caps an array, and the cap is one for all of them."""
    from harness.sweep.slurm.submit import sweep_on

    if runs:
        show_lacking(console, lacking(plan.evaluations, asked.data))
    name, cluster = _cluster(asked, plan)
    cluster = altered(cluster, array_cap=max(1, cluster.array_cap // max(1, files)))
    return sweep_on(console, plan, runs, (name, cluster), asked.data.resolve(), only_plan=asked.plan)


def _show_here(
    asked: argparse.Namespace, console: Console, plan: Plan, runs: Sequence[PlannedRun], chosen: int
) -> tuple[Prices, CostEstimate]:
    here = _crew(asked, len(runs))
    prices = run_local.prices_here(plan.store, plan.evaluations, here, asked.data)
    cost = estimate(prices, runs, plan.evaluations, here.jobs)
    many = f"{here.jobs} at a time" if here.jobs > 1 else "one at a time"
    many += f", {here.processes} processes each" if here.processes > 1 else ""
    show_plan(console, plan, cost, f"here, {many}" + (" on GPUs" if here.gpus else ""), data=asked.data, chosen=chosen)
    return prices, cost


def _run_here(asked: argparse.Namespace, console: Console, plan: Plan, runs: Sequence[PlannedRun]) -> int:
    here = _crew(asked, len(runs))
    prices = run_local.prices_here(plan.store, plan.evaluations, here, asked.data)
    cost = estimate(prices, runs, plan.evaluations, here.jobs)
    record(plan)
    outcome = None
    if runs:
        passes, compile = asked.images_per_pass or 0, _compile(asked)
        outcome = run_local.run_here(
            console, plan, runs, cost, here, asked.data, images_per_pass=passes, compile=compile
        )
    _show_gaps(console, plan, outcome)
    left = len(plan.to_do) - len(runs)
    clean = outcome is None or outcome.clean
    of = [one for one in plan.runs.values() if _is_chosen(asked, one)]
    return verdict(console, plan, of, left, clean=clean, stopped=bool(outcome and outcome.stopped))


def _show_gaps(console: Console, plan: Plan, outcome: Outcome | None) -> None:
    """Of the runs that ran just now as their files have it, of the others as planned."""
    ran = outcome.causes if outcome else {}
    labels = {one.id: one.label for one in plan.evaluations}
    found = [unavailable for one in plan.runs.values() if one.folder.id not in ran for unavailable in one.unavailable]
    found += [unavailable for run in ran for unavailable in unavailable_of(plan.store.run(run).status(labels))]
    show_unavailable(console, found, labels)


def _compile(asked: argparse.Namespace) -> Compile:
    found: Compile = asked.compile or "off"
    return found


def _crew(asked: argparse.Namespace, runs: int) -> Allocation:
    return allocate(runs, asked.jobs, asked.processes_per_run or 1)


def verdict(console: Console, plan: Plan, of: Collection[PlannedRun], left: int, *, clean: bool, stopped: bool) -> int:
    """The last line, and the exit code, of the runs that were asked for: earlier failures among them count too."""
    asked_for = {one.folder.id for one in of}
    out = [one for one in plan.left_out if one.folder.id in asked_for]
    if clean and not out:
        command = f"python -m harness.report {shlex.quote(str(plan.store.root))} > report.html"
        all_ = f"All {many(len(plan.runs), 'run')} are accounted for."
        if len(of) < len(plan.runs):
            all_ = f"Done; of {many(len(plan.runs), 'run')} {len(of)} were asked for."
        open_ = f"Done; left to do, because not chosen: {many(left, 'run')}." if left else all_
        say(console, f"{open_} The report: {command}", style="green")
        return 0
    if out:
        say(console, f"{were(len(out), 'run')} left out: failed before, unreadable or without weights.", style="red")
    return STOPPED if stopped else 1


# --- which runs -----------------------------------------------------------------------------------------------------


def _chosen(asked: argparse.Namespace, plan: Plan) -> list[PlannedRun]:
    """What is to do of it, less what ``--only`` and ``--seeds`` leave out."""
    return [one for one in plan.to_do if _is_chosen(asked, one)]


def _is_chosen(asked: argparse.Namespace, one: PlannedRun) -> bool:
    by_id = not asked.only or one.folder.id.startswith(tuple(asked.only))
    return by_id and (asked.seeds is None or one.run.seed in asked.seeds)


def check_choice(only: Sequence[str], seeds: Collection[int] | None, plans: Sequence[Plan]) -> None:
    """Raises :class:`SpecError` for an id or a replicate that none of the plans has."""
    names = ", ".join(f"{plan.experiment.name}@{plan.experiment.scale.name}" for plan in plans)
    for one in only:
        if not any(run.startswith(one) for plan in plans for run in plan.runs):
            raise SpecError(f"--only {one}: no run of {names} begins so")
    most = max(plan.experiment.seeds for plan in plans)
    for seed in sorted(seeds or ()):
        if seed >= most:
            has = f"{most} seeds, 0 to {most - 1}" if most > 1 else "one seed, 0"
            raise SpecError(f"--seeds {seed}: {names} has {has}")


def _selection(asked: argparse.Namespace, console: Console, candidates: Candidates) -> Selection:
    """Spend the budget on all files together, at the prices of the place where they would run."""
    store, wanted = candidates[0][0].store, [one for plan, _ in candidates for one in plan.evaluations]
    cluster = _cluster(asked, candidates[0][0])
    queued: Collection[str] = ()
    if cluster is None:
        prices = run_local.prices_here(
            store, wanted, _crew(asked, sum(len(runs) for _, runs in candidates)), asked.data
        )
    else:
        from harness.sweep.slurm import queue
        from harness.sweep.slurm.submit import prices_on

        prices = prices_on(store, wanted, cluster[1], asked.data)
        queued = queue.query(store, read_only=asked.plan).runs
        candidates = [(plan, [one for one in runs if one.folder.id not in queued]) for plan, runs in candidates]
    selection = select(candidates, prices, asked.budget, queued)
    show_selection(console, selection)
    return selection


def _cluster(asked: argparse.Namespace, plan: Plan) -> Any:
    """The cluster to submit to, or None for this machine. What is said on the command line goes before its file."""
    found = find_cluster(asked.cluster, plan.experiment.document.path.parent)
    written = {key: getattr(asked, key) for key in ("processes_per_run", "images_per_pass", "compile")}
    said = {key: value for key, value in written.items() if value is not None}
    return (found[0], altered(found[1], **said)) if found and said else found


def read_overrides(written: Sequence[str]) -> dict[str, Any]:
    """Parse ``-o PATH=VALUE`` options. Raises :class:`SpecError`."""
    overrides = {}
    for one in written:
        path, equals, value = one.partition("=")
        if not equals or not path.strip():
            raise SpecError(f"-o {one}: expected PATH=VALUE, e.g. -o optimizer.lars.lr=0.5")
        if path.strip() in overrides:
            raise SpecError(f"-o {one}: {path.strip()} was given a value before; once is enough")
        overrides[path.strip()] = parse_value(value)
    return overrides
