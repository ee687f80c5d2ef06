"""``torchrun --nproc-per-node 8 -m harness.sweep.torchrun experiments/temperature.yaml``: for sites with neither SLURM
nor a wish for the local pool. The processes that torchrun started share each missing run, one run after another.

They run the code of the checkout (the local pool and SLURM jobs: a snapshot of it), so leave it alone meanwhile.
The first that fails or is stopped ends the command; the same command again goes on (or ``torchrun --max-restarts``).
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path

from rich.console import Console

from harness import distributed
from harness.arguments import Parser, add_places, positive
from harness.config.errors import SpecError
from harness.config.experiment import load_experiment
from harness.runtime import COMPILE, Rank, Runtime, check_compiler
from harness.store.attempts import Attempt, cause_of
from harness.store.causes import Cause
from harness.store.provenance import code_fingerprint
from harness.store.results import RunFolder, Store, StoreError, read_json
from harness.store.snapshot import keep_sources
from harness.sweep.arguments import COMPILE_HELP, add_only, add_overrides, add_scale
from harness.sweep.command import check_choice, read_overrides
from harness.sweep.display.live import say
from harness.sweep.local.resources import cores, gpus
from harness.sweep.plan.code_changes import Recording
from harness.sweep.plan.manifest import check_names, record
from harness.sweep.plan.plan import make_plan
from harness.sweep.plan.preflight import check_data, check_processes
from harness.sweep.worker import worker
from harness.sweep.worker.worker import Assignment

REPORT_S = 5.0
"""So long the first process waits for the word of one that failed."""


def parser() -> Parser:
    """The command line: those options of ``python -m harness.sweep`` that mean something here."""
    made = Parser(prog="torchrun --nproc-per-node N -m harness.sweep.torchrun", description=__doc__)
    made.add_argument("experiment", type=Path, metavar="EXPERIMENT.yaml", help="what to run")
    add_scale(made)
    add_overrides(made)
    add_only(made)
    add_places(made)
    made.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"], help="auto: CUDA if there is any")
    made.add_argument(
        "--images-per-pass",
        type=positive,
        default=0,
        metavar="N",
        help="most images a process takes through its networks at once (default: its whole part of a batch)",
    )
    made.add_argument("--compile", choices=COMPILE, default="off", help=COMPILE_HELP)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of every process; returns the exit code, 2 for bad input."""
    asked = parser().parse_args(argv)
    me = Rank(rank=int(os.environ.get("RANK", "0")), world=int(os.environ.get("WORLD_SIZE", "1")))
    with _own_terminal(me) as console:
        try:
            return work(asked, me, console)
        except (SpecError, StoreError) as error:
            for one in getattr(error, "complaints", (error,)):
                say(console, str(one))
            return 2
        except OSError as error:  # it may be this process's alone, and only the first one's console prints
            said = f"{error.filename or asked.results}: {error.strerror or error}"
            print(f"process {me.rank}: {said}", file=sys.stderr, flush=True)
            return worker.EXIT_DISK if cause_of(error) is Cause.DISK else 2


def work(asked: argparse.Namespace, me: Rank, console: Console) -> int:
    """Plan, agree on what is missing, and share run after run."""
    plan = make_plan(
        load_experiment(asked.experiment, asked.scale),
        Store(asked.results),
        overrides=read_overrides(asked.overrides),
        code=code_fingerprint(),
    )
    check_names([plan])
    check_choice(asked.only, None, [plan])
    missing = [one for one in plan.to_do if not asked.only or one.folder.id.startswith(tuple(asked.only))]
    check_data(missing, asked.data)
    check_processes(missing, me.world, asked.images_per_pass, asked.compile)
    check_compiler(asked.compile, "cuda" if asked.device != "cpu" and gpus() else "cpu")

    def begin() -> list[str]:
        record(plan)
        keep_sources(plan.store)  # names what differs once these results are stale
        return [one.folder.id for one in missing]

    distributed.initialise(me)
    runs = distributed.from_first(begin)  # what is missing may look another way from another node
    distributed.shutdown()
    say(console, f"{len(runs)} runs are missing; {me.world} processes share each")
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    runtime = Runtime(
        data=asked.data,
        device=asked.device,
        threads=max(1, cores() // here),
        images_per_pass=asked.images_per_pass,
        compile=asked.compile,
    )
    with Recording(plan.store, partial(say, console)) if me.rank == 0 and runs else nullcontext() as recording:
        for run in runs:
            folder = plan.store.run(run)
            code = _share(Assignment(folder, tuple(plan.evaluations), runtime, rank=me))
            say(console, f"{run}  {_ended(folder, code) if me.rank == 0 else ''}")
            if code not in (0, worker.EXIT_ELSEWHERE):
                if recording is not None:
                    recording.drop()
                return code
    return 0


def _share(assignment: Assignment) -> int:
    """One run, its output in its log."""
    for number in worker.STOP_SIGNALS:  # the run before has left them ignored
        signal.signal(number, signal.SIG_DFL)
    before = [os.dup(descriptor) for descriptor in (1, 2)]
    streams = sys.stdout, sys.stderr
    assignment.folder.path.mkdir(parents=True, exist_ok=True)
    worker.redirect(assignment.log)
    try:
        return worker.take_part(assignment)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor, saved in zip((1, 2), before, strict=True):
            os.dup2(saved, descriptor)
            os.close(saved)
        sys.stdout, sys.stderr = streams


def _ended(folder: RunFolder, code: int) -> str:
    """How the first process's part ended; closes the attempt if another process ended this one."""
    attempt = Attempt.unfinished(folder, os.getpid())
    if attempt is None:
        return {0: "done", worker.EXIT_ELSEWHERE: "a live process holds it"}.get(code, "see its log")
    deadline = time.monotonic() + REPORT_S
    while not folder.failure.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    failure = None
    with suppress(StoreError):
        failure = read_json(folder.failure)
    if failure is None:
        attempt.end(Cause.INTERRUPTED, "another process of the run crashed")
        return "another process died; see the run's logs"
    attempt.end(Cause(failure["cause"]), f"{failure['type']}: {failure['message']}")
    return f"{failure['type']}: {failure['message']}"


@contextmanager
def _own_terminal(me: Rank) -> Iterator[Console]:
    """A console that the runs' redirections leave alone; only the first process has one that prints."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as stream:
        yield Console(file=stream, highlight=False, quiet=me.rank != 0)


if __name__ == "__main__":
    sys.exit(main())
