"""The command ``harness`` (or ``python -m harness.cli``): one sub-command for each thing to do.

Nothing heavy is imported before a sub-command works: ``--help`` and completion take a tenth of a second.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

import harness
from harness.arguments import Parser, add_places, positive, said
from harness.cli import commands
from harness.cli.completion import SHELLS, complete, complete_experiments, complete_runs, shell_code
from harness.data import __main__ as data
from harness.doctor import __main__ as doctor
from harness.report import __main__ as report
from harness.sweep.arguments import add_experiments, add_only, add_scale, add_where, add_which, add_yes

EXAMPLES = """\
examples:
  %(prog)s data cifar10                              fetch and verify CIFAR-10, once
  %(prog)s run augmentation_pairs --scale smoke      seconds a run, on any CPU
  %(prog)s plan temperature --scale micro            what would run, and what it would cost
  %(prog)s run my_study.yaml                         an experiment of your own; SLURM if there is one
  %(prog)s status --watch                            how far every sweep is
  %(prog)s logs 3f2a -f                              what a run says, while it says it
  %(prog)s report -o report.html --open              the page
  eval "$(%(prog)s --completion bash)"               completion of commands, options, experiments and ids of runs

%(prog)s COMMAND --help has more examples. Exit codes: 0 all is well; 1 something failed; 2 the input is wrong and
nothing was started; 130 stopped by Ctrl-C.
"""

RUN = """\
examples:
  %(prog)s augmentation_pairs --scale smoke        seconds a run, on any CPU
  %(prog)s temperature --scale micro               a real signal on a laptop
  %(prog)s my_study.yaml                           a file of your own, at its own scale; SLURM if there is one
  %(prog)s my_study.yaml --cluster mine.yaml       with the partition, time and account of a cluster file
  %(prog)s temperature -o optimizer.lars.lr=0.5    another value for every run
  %(prog)s temperature --only 3f2a,9c              two of its runs

The same command again trains only what is missing; interrupted runs resume from their last checkpoint. What takes
more than ten minutes asks first. Exit codes: 0 all is well; 1 runs failed, were held back or cut off; 2 the input is
wrong and nothing was started; 130 stopped by Ctrl-C.
"""

PLAN = """\
examples:
  %(prog)s temperature --scale micro               how many runs, how many hours, which claims
  %(prog)s temperature --list                      and every run with its id, seed and settings
  %(prog)s temperature batch_sizes --budget 40h    the best use of forty GPU-hours, claim by claim
  %(prog)s temperature --json                      for scripts
"""

STATUS = """\
examples:
  %(prog)s                                         every sweep in results/
  %(prog)s temperature --scale micro               one of them
  %(prog)s --watch                                 again every 5 seconds; --watch 60: every minute
  %(prog)s --json                                  for scripts: every run with its settings and state

Exit codes: 0 nothing failed; 1 runs failed.
"""

LOGS = """\
examples:
  %(prog)s 3f2a                                    the log of the run whose id begins so, and its attempts
  %(prog)s 3f2a -f                                 and what is added to it while the run is alive
"""

CANCEL = """\
examples:
  %(prog)s                                         every sweep in results/
  %(prog)s temperature --scale micro               one of them
  %(prog)s --only 3f2a                             one run

Nothing is lost: `harness run` goes on where they stopped.
"""

RETRY = """\
examples:
  %(prog)s temperature --scale micro               its failed runs, and evaluations that were unavailable
  %(prog)s temperature --only 3f2a                 one of them
"""


def parser() -> Parser:
    """The command line."""
    made = Parser(prog="harness", description="Declare an ablation study, run it, judge it.", epilog=EXAMPLES)
    made.add_argument("--version", action="version", version=f"%(prog)s {harness.__version__}")
    made.add_argument("--completion", choices=SHELLS, help="print shell code that completes this command")
    commands_ = made.add_subparsers(dest="command", metavar="COMMAND", title="commands")

    def command(name: str, do: Callable[[argparse.Namespace], int], about: str, examples: str) -> Parser:
        one: Parser = commands_.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
        one.epilog = examples
        one.set_defaults(do=do, plan=False, retry=False, list=False, json=False)
        return one

    run = command("run", commands.run, "run every run of an experiment that is not done yet, here or on SLURM", RUN)
    plan = command("plan", commands.run, "count and price the runs; write and start nothing", PLAN)
    retry = command("retry", commands.run, "run failed runs again", RETRY)
    for one in (run, plan, retry):
        complete_experiments(add_experiments(one, "files, or names of built-in experiments"))
        add_which(one.add_argument_group("which runs"))
        where = one.add_argument_group("where")
        add_where(where)
        if one is not plan:
            add_yes(where)
    plan.add_argument("--list", action="store_true", help="name every run: id, seed, settings, state")
    plan.add_argument("--json", action="store_true", help="print the plan as JSON")
    plan.set_defaults(plan=True, yes=False)
    retry.set_defaults(retry=True)

    status = command("status", commands.status, "say how far sweeps are, what runs and what failed", STATUS)
    cancel = command("cancel", commands.cancel, "stop what runs and what waits; it can be resumed", CANCEL)
    for one in (status, cancel):
        complete_experiments(add_experiments(one, "those sweeps alone (default: all)"))
        add_scale(one)
        add_places(one, "results")
    status.add_argument(
        "--watch", nargs="?", type=positive, const=5, metavar="SECONDS", help="show it again and again (default: 5)"
    )
    status.add_argument("--json", action="store_true", help="print it as JSON")
    add_only(cancel)
    add_yes(cancel)

    logs = command("logs", commands.logs, "print the log of a run", LOGS)
    complete_runs(logs.add_argument("run", metavar="ID", type=said, help="the first digits of its id are enough"))
    logs.add_argument("-f", "--follow", action="store_true", help="go on while the run is alive")
    add_places(logs, "results")

    page = command("report", lambda asked: report.report(asked, page), report.ABOUT, report.EPILOG)
    report.add_arguments(page)
    fetch = command("data", lambda asked: data.act(asked), data.ABOUT, "")
    data.add_arguments(fetch)
    check = command("doctor", lambda asked: doctor.act(asked, check), doctor.ABOUT, doctor.EXAMPLES)
    doctor.add_arguments(check)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code. Bad input is one message a fault and 2, never a traceback."""
    made = parser()
    complete(made)
    asked = made.parse_args(argv)
    if asked.completion:
        print(shell_code(asked.completion))
        return 0
    if asked.command is None:
        made.print_help()
        return 2
    return int(asked.do(asked))


if __name__ == "__main__":
    sys.exit(main())
