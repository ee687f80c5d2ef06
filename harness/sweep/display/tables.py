"""The tables that ``--plan`` and the end of a sweep print."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from harness.store.results import RunFolder, State, StoreError, read_json
from harness.sweep.display.format import hours
from harness.sweep.display.live import clock, many, say
from harness.sweep.display.unavailable import show_unavailable

if TYPE_CHECKING:  # plans know torch; --status, which prints with this module, does not wait for it
    from harness.sweep.plan.budget import Selection
    from harness.sweep.plan.cost import CostEstimate, Prices
    from harness.sweep.plan.plan import Plan, PlannedRun

LISTED = 6
WEIGHTS_MISSING = (
    "Trained, but the weights are missing (checkpoints are not committed), so no evaluation can be added. "
    "Copy checkpoints/final.pt from where each was trained, or move its folder away to train it again"
)


def show_plan(
    console: Console,
    plan: Plan,
    cost: CostEstimate,
    place: str,
    *,
    data: Path | None = None,
    queued: int = 0,
    chosen: int | None = None,
) -> None:
    """Counts, price and everything that deserves a word, for a reader who has never seen the tool.

    ``chosen`` of the runs are to be started; those that ``cost`` is of, if nothing else is said. ``data`` is the folder
    of data sets that settings are held against.
    """
    experiment, scale = plan.experiment, plan.experiment.scale
    say(console, experiment.file.title, style="bold")
    say(console, f"{experiment.document.path} at scale {scale.name!r}: {scale.file.title}")
    for path, value in plan.overrides.items():
        say(console, f"override: {path} = {value}", style="yellow")
    table = Table(box=box.SIMPLE_HEAD, show_header=False, pad_edge=False)
    table.add_column(justify="right", style="bold")
    table.add_column()
    for count, what in _counts(plan, queued, cost.runs if chosen is None else chosen):
        table.add_row(f"{count:,}", what)
    console.print(table)
    evaluations = ", ".join(one.label for one in plan.evaluations)
    say(console, f"Each run is trained once, then evaluated: {evaluations}.")
    say(console, price_line(cost, place, len(plan.to_do) - queued, left_out=len(plan.left_out)))
    for what, count in Counter(one.other_code for one in plan.runs.values() if one.other_code).items():
        say(console, f"{many(count, 'run')} {'is' if count == 1 else 'are'} {what}.")
    for title, runs in _remarks(plan):
        remark(console, title, runs)
    found = [unavailable for one in plan.runs.values() for unavailable in one.unavailable]
    show_unavailable(console, found, {one.id: one.label for one in plan.evaluations})
    if plan.to_do:  # of what was trained already the report says it, from the weights
        _show_idle(console, plan, data)
        _show_inert(console, plan)


def _counts(plan: Plan, queued: int, chosen: int) -> Iterable[tuple[int, str]]:
    arms, seeds = len(plan.arms), plan.experiment.seeds
    grids = "one grid" if plan.grids == 1 else f"{plan.grids} grids"
    yield len(plan.runs), f"runs: {arms} settings from {grids}, {seeds} seed{'s' if seeds > 1 else ''} each"
    if merged := plan.asked - len(plan.runs):
        yield merged, "of the cells are the same run as another cell"
    if shared := sum(bool(one.also_in) for one in plan.runs.values()):
        names = sorted({name for one in plan.runs.values() for name in one.also_in})
        yield shared, f"shared with other experiments, trained once for all: {', '.join(names)}"
    states = Counter(one.state for one in plan.runs.values())
    words = {
        State.DONE: "done",
        State.DIVERGED: "diverged (a result: the loss became infinite or NaN)",
        State.RUNNING: "running now",
        State.FAILED: "failed (--retry runs them again)",
        State.BROKEN: "with unreadable files",
        State.UNKNOWN: "locked by a machine that stopped responding; a sweep takes them over",
        State.CANCELLED: "cancelled; a sweep starts them again",
    }
    yield from ((states[state], text) for state, text in words.items() if states[state])
    if stale := sum(bool(one.stale) for one in plan.runs.values()):
        yield stale, "of them stale: components they used compute something else now (still counted as done)"
    weights_missing = sum(one.weights_missing for one in plan.runs.values())
    if evaluable := states[State.TRAINED] - weights_missing:
        yield evaluable, "trained, evaluations missing"
    if weights_missing:
        yield weights_missing, "trained elsewhere, evaluations and weights missing: left out"
    if queued:
        yield queued, "submitted and waiting for the scheduler"
    yield len(plan.to_do) - queued, "to do"
    if chosen < len(plan.to_do) - queued:
        yield chosen, "of these chosen"


def price_line(cost: CostEstimate, place: str, to_do: int, left_out: int = 0) -> str:
    """What is to do, in hours."""
    if not cost.runs:
        left = f"Nothing else to do: see the {many(left_out, 'run')} below." if left_out else "Nothing left to do."
        return left if not to_do else "No run that is to do was chosen."
    if cost.unknown:
        return f"The cost of {many(cost.runs, 'run')} is unknown: {'; '.join(cost.unknown)}."
    basis = "from measured times of similar runs" if cost.measured else "a guess: no similar run was timed yet"
    return (
        f"About {clock(cost.mean)} a run, {hours(cost.hours)} {cost.unit} in all, "
        f"{clock(cost.wall_seconds)} {place} ({basis})."
    )


def _show_idle(console: Console, plan: Plan, data: Path | None) -> None:
    """Settings that cannot take effect where they are set."""
    from harness.sweep.plan.unused_settings import idle

    for what, arms in idle(plan, data).items():
        more = f" and {len(arms) - LISTED} more" if len(arms) > LISTED else ""
        of = "every setting" if len(arms) in (0, len(plan.arms)) else "; ".join(arms[:LISTED]) + more
        say(console, f"NO EFFECT: {what} ({of})", style="bold yellow")


def _show_inert(console: Console, plan: Plan) -> None:
    """Settings that differ in nothing that trains: to compare them would compare noise, or the same numbers."""
    from harness.sweep.plan.no_effect import inert

    first: dict[str, PlannedRun] = {}
    for arm in plan.arms:
        one = plan.runs[arm.runs[min(arm.runs)]]
        first.setdefault(one.folder.id, one)
    each = list(first.values())
    found = inert([one.run for one in each])
    if found is None:
        say(console, "Too many settings to search for ones without effect; the report checks the trained runs.")
        return
    for group in found:
        names = "; ".join(each[place].label.rpartition(", seed")[0] for place in group[:LISTED])
        more = f" and {len(group) - LISTED} more" if len(group) > LISTED else ""
        say(console, f"INERT: nothing that trains differs between {names}{more}", style="bold yellow")


def _remarks(plan: Plan) -> Iterable[tuple[str, list[PlannedRun]]]:
    runs = list(plan.runs.values())
    yield (
        "Stale: what the code computes has changed since",
        [one for one in runs if one.stale and not one.weights_missing],
    )
    yield WEIGHTS_MISSING, [one for one in runs if one.weights_missing]
    yield "Unreadable", [one for one in runs if one.state is State.BROKEN]
    yield "Failed", [one for one in runs if one.state is State.FAILED]
    yield "Unknown", [one for one in runs if one.state is State.UNKNOWN]


def show_claims(console: Console, plan: Plan, prices: Prices, selected: Collection[str]) -> None:
    """What each claim needs and costs, and what can be said of it once ``selected`` is done."""
    from harness.sweep.plan.claim_requirements import missing, needs, outlook

    if not (wanted := needs(plan)):
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("claim", "cells", "runs", "missing", prices.unit, "with these runs"):
        table.add_column(name, justify="left" if name in ("claim", "with these runs") else "right")
    lines = Text("\n")
    for need in wanted:
        open_ = missing(need, plan)
        price = hours(sum(prices.hours(prices.left(one, plan.evaluations)) for one in open_)) if open_ else "-"
        settled, said = outlook(need, plan, selected)
        style = "" if settled else "yellow"
        counts = (str(number) if number else "-" for number in (len(need.cells), len(need.runs), len(open_)))
        table.add_row(Text(need.claim), *counts, price, Text(said, style=style))
        lacks = f", {len(open_)} missing ({price} {prices.unit})" if open_ else ""
        lines.append(f"{need.claim}\n", style="bold")
        lines.append(f"  {many(len(need.cells), 'cell')}, {many(len(need.runs), 'run')}{lacks}; ")
        lines.append(f"{said}\n", style=style)
    if Measurement.get(console, console.options.update(max_width=1000), table).maximum <= console.width:
        console.print(table)
    else:  # names of claims are searched for, and copied: none is broken
        console.print(lines, soft_wrap=True)


def show_runs(console: Console, plan: Plan, chosen: Collection[str]) -> None:
    """Every run of a plan in a line: id, seed, state, arm. With a star: a start would begin it."""
    say(console, f"\n  {'run':12}  seed  {'state':9}  settings", style="bold")
    for run, one in plan.runs.items():
        arm = one.label.rpartition(", seed")[0]
        say(console, f"{'*' if run in chosen else ' '} {run:12}  {one.run.seed:>4}  {one.state:9}  {arm}")
    say(console, "* to be started; --only takes the first digits of an id")


def show_selection(console: Console, selected: Selection) -> None:
    """What a budget pays for, what it leaves out, and which claims stay open for it."""
    runs, out = len(selected.selected), len(selected.left_out)
    say(
        console,
        f"Budget {hours(selected.budget)} {selected.unit}: {runs} of {runs + out} runs fit, {hours(selected.hours)} "
        f"{selected.unit}; left out {out}, {hours(sum(selected.left_out.values()))} {selected.unit}.",
        style="bold",
    )
    if selected.open_claims:
        say(console, f"Claims left undecided that all runs would decide ({len(selected.open_claims)}):")
    for claim, why in selected.open_claims:
        say(console, f"  {claim}  {why}", style="yellow")


def _shortened(text: str, most: int = 160) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."


def remark(console: Console, title: str, runs: list[PlannedRun]) -> None:
    """A heading and the first few runs under it, with the reason."""
    if not runs:
        return
    say(console, f"\n{title} ({len(runs)}):", style="yellow")
    said = ""
    for one in runs[:LISTED]:
        why = one.why or ("" if one.weights_missing else one.stale)
        why = why if one.state is State.BROKEN else _shortened(why)  # what ends with its remedy is never cut
        say(console, f"  {one.folder.id}  {one.label}  {why if why != said else ''}".rstrip())
        said = why  # a reason that many share is said once
    if len(runs) > LISTED:
        say(console, f"  ... and {len(runs) - LISTED} more")


def show_stuck(console: Console, stuck: Mapping[str, Sequence[str]]) -> None:
    """Jobs that wait for what will not come by itself: to call them queued alone would let people wait as well."""
    for reason, jobs in stuck.items():
        some = ", ".join(jobs[:LISTED]) + (", ..." if len(jobs) > LISTED else "")
        said = f"{len(jobs)} jobs cannot start ({reason}): {some}"
        say(
            console,
            f"{said}; release them, or --cancel, change the cluster file and sweep again",
            style="yellow",
        )


def show_failures(console: Console, folders: Iterable[RunFolder], labels: dict[str, str]) -> None:
    """Failed runs, grouped by what killed them: one row a fault, not one a run."""
    groups: dict[tuple[str, str], list[tuple[RunFolder, dict[str, object]]]] = defaultdict(list)
    for folder in folders:
        try:
            held = read_json(folder.failure) or {}
        except StoreError as error:
            held = {"type": "unreadable", "message": str(error)}
        groups[str(held.get("cause", "code")), str(held.get("fingerprint", ""))].append((folder, held))
    if not groups:
        return
    table = Table(box=box.SIMPLE_HEAD, title="What failed", title_justify="left", pad_edge=False)
    for name in ("runs", "cause", "error", "first of them"):
        table.add_column(name, justify="right" if name == "runs" else "left", overflow="fold")
    for (cause, _), members in sorted(groups.items(), key=lambda item: -len(item[1])):
        folder, held = members[0]
        said = f"{held.get('type')}: {held.get('message')}"
        first = f"{folder.id}  {labels.get(folder.id, '')}".rstrip()
        table.add_row(str(len(members)), Text(cause), Text(said[:400]), Text(first))
    console.print(table)
    say(console, "--logs ID shows a run's log; --retry runs failed ones again, --only ID just that one.")
