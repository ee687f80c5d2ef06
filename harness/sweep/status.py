"""``--status``, ``--logs``, ``--cancel``: from files, with SLURM's queue as further evidence. No torch."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.config.errors import SpecError, nearest
from harness.store.attempts import entries, last, now
from harness.store.results import RunFolder, State, Store, StoreError, read_json, write_json
from harness.store.run_lock import machine, process_start
from harness.sweep.display.console import STOPPED, agreed
from harness.sweep.display.failures import OPEN, endings, show_endings
from harness.sweep.display.live import many, progress, say
from harness.sweep.display.tables import show_failures, show_stuck
from harness.sweep.display.unavailable import show_unavailable
from harness.sweep.local.circuit_breaker import HOLD_AFTER, CircuitBreaker
from harness.sweep.plan import studies
from harness.sweep.plan.labels import label
from harness.sweep.plan.unavailable import UnavailableEvaluation, unavailable_of
from harness.sweep.slurm import queue
from harness.sweep.slurm.submissions import submissions

FOLLOW_S = 0.5
"""Between two looks at a log that is followed."""

Manifests = dict[str, dict[str, Any]]


def manifests(store: Store, keys: Sequence[str]) -> Manifests:
    """Expanded experiments by ``name@scale``; ``keys`` are names with or without the scale (none: all).

    Raises :class:`SpecError` if the results folder has no such sweep, :class:`StoreError` on a truncated file.
    """
    try:
        found: Manifests = {path.stem: read_json(path) for path in sorted(store.experiments.glob("*.json"))}
    except StoreError as error:
        raise StoreError(str(error).replace(" to compute it again", "; the next sweep of it writes it anew")) from None
    for name, held in found.items():
        if not isinstance(held, dict) or not isinstance(held.get("arms"), list) or "evaluations" not in held:
            raise StoreError(f"{store.experiments / name}.json: not an expanded experiment; move it away")
    for key in keys:
        if not any(_means(key, name) for name in found):
            raise SpecError(f"{store.root}: no sweep of {key!r} here yet; {nearest(key, found)}")
    return {name: held for name, held in found.items() if not keys or any(_means(key, name) for key in keys)}


def check_file(store: Store, path: Path, key: str) -> None:
    """Raises :class:`SpecError` where ``path`` is a file, and the sweep of its name is of another one."""
    if not path.is_file():
        return
    for name, held in manifests(store, [key]).items():
        if not studies.is_of(held, path, store.root):
            said = f"{store.experiments / name}.json is of another file of this name ({held.get('file')})"
            raise SpecError(f"{path}: {said}; to ask for that one, name it without folder and suffix")


def _means(key: str, name: str) -> bool:
    """``temperature`` is every scale of it, ``temperature@micro`` that one, with and without overrides."""
    return name in (key,) or name.startswith((key + "@", key + "+"))


def runs_of(store: Store, held: dict[str, Any]) -> dict[str, str]:
    """Run id -> a label for people."""
    varied: dict[str, str] = {}
    for arm in held["arms"]:
        for seed, run in arm["runs"].items():
            varied.setdefault(run, f"{label(arm['settings'])}, seed {seed}")
    return varied


COLUMNS = ("done", "running", "queued", "failed", "unknown", "cancelled", "to do")


def status(console: Console, store: Store, keys: Sequence[str]) -> int:
    """One row per sweep, then what is running, what failed and why. Exit code 1 if anything failed."""
    chosen = manifests(store, keys)
    if not chosen:
        say(console, f"{store.root}: nothing was swept here yet")
        return 0
    jobs_now = queue.query(store)
    counts: dict[str, Counter[str]] = {}
    running: dict[str, RunFolder] = {}
    failed: dict[str, RunFolder] = {}
    ended: dict[str, tuple[RunFolder, State]] = {}
    broken: list[str] = []
    weights_missing: set[str] = set()
    labels: dict[str, str] = {}
    evaluations: dict[str, str] = {}
    found: dict[tuple[str, ...], UnavailableEvaluation] = {}  # of each run once, however many sweeps share it
    for name, held in chosen.items():
        named = runs_of(store, held)
        labels |= named
        seen = {run: store.run(run).status(held["evaluations"].values()) for run in named}
        states = {run: one.state for run, one in seen.items()}
        evaluations |= {evaluation_id: label for label, evaluation_id in held["evaluations"].items()}
        found |= {(run, *gap): gap for run, one in seen.items() for gap in unavailable_of(one)}
        counts[name] = Counter(_word(state, jobs_now.runs.get(run)) for run, state in states.items())
        running |= {run: store.run(run) for run, state in states.items() if state is State.RUNNING}
        failed |= {run: store.run(run) for run, state in states.items() if state is State.FAILED}
        ended |= {run: (store.run(run), state) for run, state in states.items() if run not in jobs_now.runs}
        broken += [run for run, state in states.items() if state is State.BROKEN]
        weights_missing |= {run for run, state in states.items() if state is State.TRAINED and not _weights(store, run)}
    _show_counts(console, counts)
    for name, held in chosen.items():
        if held.get("overrides"):
            changed = ", ".join(f"-o {path}={_yaml(value)}" for path, value in held["overrides"].items())
            say(console, f"{name}: {changed}")
    show_stuck(console, jobs_now.stuck)
    _show_running(console, running, labels)
    show_failures(console, failed.values(), labels)
    show_endings(console, endings(ended.values()))
    _show_held(console, store, [run for run, (_, state) in ended.items() if state in OPEN])
    for run in broken:
        say(console, f"{store.run(run).path}: unreadable files; sweep --plan says which", style="red")
    if weights_missing:
        lack = f"{many(len(weights_missing), 'run')} {'lacks' if len(weights_missing) == 1 else 'lack'} evaluations"
        say(console, f"{lack}, and the weights are not here; sweep --plan says which", style="yellow")
    show_unavailable(console, found.values(), evaluations)
    return 1 if failed or broken else 0


def _yaml(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def watch(console: Console, seconds: float, show: Callable[[], int]) -> int:
    """Show again and again, until Ctrl-C: on a terminal in the place of what was there before."""
    while True:
        if console.is_terminal:
            console.clear()
        show()
        try:
            time.sleep(seconds)
        except KeyboardInterrupt:
            return STOPPED


def as_json(store: Store, keys: Sequence[str]) -> list[dict[str, Any]]:
    """:func:`status` for scripts: each sweep with its overrides, counts and runs."""
    jobs_now = queue.query(store)
    sweeps = []
    for name, held in manifests(store, keys).items():
        runs = []
        for arm in held["arms"]:
            for seed, run in arm["runs"].items():
                folder = store.run(run)
                state = folder.status(held["evaluations"].values()).state
                about = {"id": run, "seed": int(seed), "settings": arm["settings"]}
                word = _word(state, jobs_now.runs.get(run))
                runs.append({**about, "state": word, "outcome": str(state), "log": str(folder.log)})
        states = Counter({one["id"]: one["state"] for one in runs}.values())
        about = {"sweep": name, "file": held.get("file"), "overrides": held.get("overrides", {})}
        sweeps.append({**about, "states": states, "runs": runs})
    return sweeps


def _show_counts(console: Console, counts: Mapping[str, Counter[str]]) -> None:
    """A row per sweep. What no run is (queued, where there is no cluster) has no column, so that 80 letters do."""
    seen = {word for words in counts.values() for word in words}
    usual = {"done", "running", "failed", "to do"}
    columns = [one for one in COLUMNS if one in usual | seen]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("sweep", overflow="fold")
    for name in ("runs", *columns):
        table.add_column(name, justify="right", no_wrap=True)
    for sweep, words in counts.items():
        table.add_row(sweep, str(words.total()), *(str(words[word]) if words[word] else "-" for word in columns))
    console.print(table)


def _weights(store: Store, run: str) -> bool:
    return store.run(run).weights.exists()


def _word(state: State, queued: str | None) -> str:
    if state.finished:
        return "done"
    if state in (State.TODO, State.TRAINED, State.CANCELLED) and queued is not None:
        return "unknown" if queued == "unknown" else "queued"
    return "failed" if state is State.BROKEN else "to do" if state is State.TRAINED else state.value


def _show_running(console: Console, running: dict[str, RunFolder], labels: dict[str, str]) -> None:
    if not running:
        return
    table = Table(box=box.SIMPLE_HEAD, title="Running", title_justify="left", pad_edge=False)
    for name in ("run", "what", "stage", "epoch", "images/s", "left", "attempt", "where"):
        table.add_column(name, overflow="fold")
    for run, folder in running.items():
        attempt = last(folder) or {}
        where = f"{attempt.get('host', '?')}" + (f", job {attempt['job']}" if attempt.get("job") else "")
        number = str(attempt.get("attempt", ""))
        table.add_row(run, Text(labels[run]), *progress(folder), number, where)
    console.print(table)


def find_run(store: Store, beginning: str) -> RunFolder:
    """The one run whose id begins so. Raises :class:`SpecError` for none or several."""
    found = [folder for folder in store.all_runs() if folder.id.startswith(beginning)]
    if len(found) == 1:
        return found[0]
    if found:
        raise SpecError(f"{beginning}: several runs begin so: {', '.join(one.id for one in found[:8])}")
    raise SpecError(
        f"{beginning}: no run in {store.root} begins so; {nearest(beginning, [f.id for f in store.all_runs()])}"
    )


def logs(console: Console, store: Store, beginning: str, *, follow: bool = False) -> int:
    """Every attempt in a line, then the run's log; with ``follow`` what is added to it while the run is alive."""
    folder = find_run(store, beginning)
    say(console, f"{folder.path}: {folder.state()}", style="bold")
    for path in reversed(entries(folder)):
        with contextlib.suppress(StoreError, KeyError):
            one = read_json(path)
            say(console, _attempt_line(one) if isinstance(one, dict) else f"{path}: not the record of an attempt")
    if not folder.log.exists():
        say(console, f"{folder.log}: no log yet")
        return 0
    say(console, str(folder.log), style="dim")
    with folder.log.open(encoding="utf-8", errors="replace") as log:
        alive = True
        while alive:
            alive = follow and folder.lock_state() is State.RUNNING  # asked first: its last words are still read
            sys.stdout.write(log.read())
            sys.stdout.flush()
            if alive:
                time.sleep(FOLLOW_S)
    return 0


def _attempt_line(one: dict[str, Any]) -> str:
    job = f", job {one['job']}" if one.get("job") else ""
    job += f", restart {one['restarts']}" if one.get("restarts") else ""
    span = f"{one['start']} to {one['end']}" if "end" in one else f"since {one['start']}"
    cause, detail = one.get("cause", "not closed"), one.get("detail", "")
    return f"attempt {one['attempt']} on {one['host']}{job}: {span}, {cause}  {detail}".rstrip()


def cancel(console: Console, store: Store, keys: Sequence[str], ids: Sequence[str], *, yes: bool) -> int:
    """Stop jobs and local processes of these sweeps. Nothing is lost: a later sweep resumes.

    Exit code 1 if SLURM did not cancel every job: the same command tries again.
    """
    chosen = manifests(store, keys)
    evaluation_ids = {run: held["evaluations"].values() for held in chosen.values() for run in runs_of(store, held)}
    for one in ids:
        if not any(run.startswith(one) for run in evaluation_ids):
            raise SpecError(f"--only {one}: no run of {', '.join(chosen) or store.root} begins so")
    if ids:
        evaluation_ids = {run: wanted for run, wanted in evaluation_ids.items() if run.startswith(tuple(ids))}
    open_ = [run for run, wanted in evaluation_ids.items() if not store.run(run).state(wanted).finished]
    jobs_now = queue.query(store)
    alive = [run for run in open_ if run in jobs_now.runs or store.run(run).lock_state() is State.RUNNING]
    if not alive:
        say(console, "Nothing is running or queued.")
        return 0
    more = f" and call off {len(open_) - len(alive)} more that are not done" if len(open_) > len(alive) else ""
    if not yes and not _agreed(console, f"Stop {many(len(alive), 'run')}{more}, of {', '.join(chosen)}?"):
        return 2
    for run in open_:  # first, so that no pool starts the next one of them
        write_json(store.run(run).cancelled, {"run": run, "time": now()})
    jobs, complaints = queue.cancel(store, set(open_))
    stopped = sum(_terminate(store.run(run)) for run in alive)
    said = [f"cancelled {many(jobs, 'job')}"] if jobs else []
    said += [f"asked {many(stopped, 'local process', 'es')} to save and stop"] if stopped else []
    said += [f"called off {many(len(open_) - len(alive), 'run')} that had not begun"] if more else []
    line = ", ".join(said) or ("nothing was cancelled" if complaints else "nothing was left to stop")
    say(console, f"{line[0].upper()}{line[1:]}. The next sweep goes on with them.")
    for line in complaints:
        say(console, line, style="red")
    return 1 if complaints else 0


def _agreed(console: Console, question: str) -> bool:
    if not sys.stdin.isatty():
        raise SpecError(f"{question} Add --yes to say so.")
    return agreed(console, question, "Nothing was stopped.")


def _terminate(folder: RunFolder) -> bool:
    """Send SIGTERM to the process of this host that holds the lock, if it is still the same one."""
    try:
        held = read_json(folder.lock.path) or {}
    except StoreError:
        return False
    here = (held.get("host"), held.get("boot", machine()[1])) == machine()
    if not here or held.get("started") != process_start(held.get("pid")):
        return False
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(held["pid"], signal.SIGTERM)
        return True
    return False


def _show_held(console: Console, store: Store, waiting: Collection[str]) -> None:
    """A line for every submission that is held back and has runs among those that wait for a sweep."""
    left = set(waiting)
    for submission in reversed(submissions(store)):  # what came of a run is said by the newest that has it
        runs = left & {run for chunk in submission.chunks for task in chunk.tasks for run in task}
        left -= runs
        if runs and (why := CircuitBreaker(submission.folder).held()):
            said = f"{len(runs)} held back, for {HOLD_AFTER} died alike before any had succeeded: {why}"
            say(console, f"{said}; mend it and sweep again", style="red")
