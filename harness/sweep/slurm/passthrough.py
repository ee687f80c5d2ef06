"""Check further options of sbatch and srun: those that the sweep writes itself are refused.

submitit writes the further options last, and the last word counts: an ``array`` there would leave jobs out, a
``signal`` would let runs be killed unwarned, an ``output`` would hide logs from whoever looks for them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

RECORDS = "the sweep keeps the book of its jobs by it"
KEY = "write {} in the cluster file instead"
PROCESSES = KEY.format("processes_per_run")
LOGS = "logs lie in results/jobs; --status and --logs look there"
ENVIRONMENT = "jobs need the environment they are given; write setup: ['export NAME=value'] for more of it"

WRITTEN: dict[str, str] = {
    "account": KEY.format("account"),
    "array": f"{RECORDS}; {KEY.format('array_cap or runs_per_job')}",
    "chdir": "jobs run in the snapshot of the code; write setup: ['cd FOLDER'] for what the site's lines need",
    "cluster": f"{RECORDS}; call the sweep on a login node of that cluster",
    "clusters": f"{RECORDS}; call the sweep on a login node of that cluster",
    "constraint": KEY.format("constraint"),
    "cpus-per-gpu": KEY.format("cpus"),
    "cpus-per-task": KEY.format("cpus"),
    "dependency": f"arrays follow one another by it; {KEY.format('array_cap')}, or wait before you sweep",
    "error": LOGS,
    "export": ENVIRONMENT,
    "export-file": ENVIRONMENT,
    "get-user-env": ENVIRONMENT,
    "gpus": KEY.format("gpus"),
    "gpus-per-node": KEY.format("gpus"),
    "gpus-per-socket": KEY.format("gpus"),
    "gpus-per-task": KEY.format("gpus"),
    "gres": KEY.format("gres"),
    "help": "it would start nothing",
    "input": "jobs read nothing from there",
    "job-name": RECORDS,
    "jobid": RECORDS,
    "kill-on-bad-exit": f"of several processes none goes on alone; {PROCESSES}",
    "mem": KEY.format("mem"),
    "mem-per-cpu": KEY.format("mem"),
    "mem-per-gpu": KEY.format("mem"),
    "nodes": KEY.format("nodes"),
    "ntasks": PROCESSES,
    "ntasks-per-core": PROCESSES,
    "ntasks-per-gpu": PROCESSES,
    "ntasks-per-node": PROCESSES,
    "ntasks-per-socket": PROCESSES,
    "open-mode": LOGS,
    "output": LOGS,
    "parsable": RECORDS,
    "partition": KEY.format("partition"),
    "qos": KEY.format("qos"),
    "quiet": RECORDS,
    "signal": KEY.format("signal_seconds"),
    "tasks-per-node": PROCESSES,
    "test-only": "nothing would be submitted; python -m harness.doctor --cluster FILE asks SLURM so",
    "time": KEY.format("time"),
    "time-min": KEY.format("time"),
    "tres-per-job": KEY.format("gres"),
    "tres-per-task": KEY.format("gres"),
    "unbuffered": "it is always given",
    "usage": "it would start nothing",
    "version": "it would start nothing",
    "wait": "a sweep submits and returns; --status says how far it is",
    "workdir": "jobs run in the snapshot of the code; write setup: ['cd FOLDER'] for what the site's lines need",
    "wrap": "the job's script is the sweep's; write setup for lines before it",
}
"""Long options of sbatch and srun that follow from other keys, or on which the sweep relies, and what to write."""

SHORT = {
    "a": "array", "A": "account", "c": "cpus-per-task", "C": "constraint", "d": "dependency", "D": "chdir",
    "e": "error", "G": "gpus", "i": "input", "J": "job-name", "K": "kill-on-bad-exit", "M": "clusters",
    "n": "ntasks", "N": "nodes", "o": "output", "p": "partition", "q": "qos", "Q": "quiet", "t": "time",
    "h": "help", "u": "unbuffered", "V": "version", "W": "wait",
}  # fmt: skip
"""Their one-letter forms."""

WHOLE = ("requeue", "no-requeue")
"""Options that the sweep looks for, and heeds."""

WITHOUT_VALUE = frozenset("EhHIkKlOQsuvVXZ")
"""One-letter options of srun that take none: another may follow in the same word."""

LONG_WITHOUT_VALUE = frozenset(
    {"contiguous", "debugger-test", "disable-status", "exact", "hold", "label", "no-allocate", "no-kill", "overcommit"}
    | {"overlap", "oversubscribe", "preserve-env", "quit-on-interrupt", "reboot", "spread-job", "use-min-nodes"}
    | {"verbose", "exclusive", "external"}
)
"""Long ones that take none in the next word."""

OF_SRUN_ALONE = {
    "multi-prog": "the program is the sweep's",
    "pty": "jobs have no terminal",
    "relative": PROCESSES,
    "nodelist": "write sbatch: {nodelist: ...} instead",
    "exclude": "write sbatch: {exclude: ...} instead",
    "begin": "write sbatch: {begin: ...} instead",
    "reservation": "write sbatch: {reservation: ...} instead",
}
"""What is a matter of the job, and makes a step of it wait for ever or run something else."""

FROM_THE_SITE = frozenset({"account", "constraint", "gres", "partition", "qos"})
"""Where the cluster file leaves them out, they may come from the user's environment."""

IN_ENVIRONMENT = {
    "array-inx": "array",
    "get-user-env": "export",
    "mem-per-node": "mem",
    "no-requeue": "requeue",
    "requeue": "requeue",
    "timelimit": "time",
}
"""Variables ``SBATCH_<NAME>`` that are not named as their options are."""


def sbatch_faults(flags: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """``(key, what is wrong with it)`` of each further sbatch option that would overrule the sweep."""
    seen: dict[str, str] = {}
    for key, value in flags.items():
        name = key.lstrip("-").replace("_", "-")
        meant = SHORT.get(name) if len(name) == 1 else _written(name, WRITTEN)
        if meant is not None:
            yield key, f"the sweep writes --{meant} itself: {WRITTEN[meant]}"
        elif name not in WHOLE and (whole := [one for one in WHOLE if name and one.startswith(name)]):
            yield key, f"the sweep looks for this one: write {' or '.join(whole)} whole"
        elif not re.fullmatch(r"[a-z][a-z0-9-]+", name):
            yield key, f"{key!r} is not an sbatch option: write a long one without dashes, as in nice: 100"
        elif key.startswith("-"):
            yield key, f"write {name} without the dashes"
        elif broken(value):
            yield key, "contains a line break: write it on one line"
        elif name in seen:
            yield key, f"repeats {seen[name]}: remove one"
        seen.setdefault(name, key)


def srun_faults(words: Sequence[str]) -> Iterator[tuple[int, str]]:
    """``(index, what is wrong with it)`` of each further srun option that would overrule the sweep.

    A word without a dash is the value of the one before it, or else srun would take it for the program to run.
    """
    refused = WRITTEN | OF_SRUN_ALONE
    value_may_follow = False
    for index, word in enumerate(words):
        if broken(word) or not word.strip():
            yield index, f"{word!r} is not an option"
        elif not word.startswith("-") or word in ("-", "--"):
            if not value_may_follow or word.startswith("-"):
                yield index, f"{word!r} would be taken for the program to run: write options, as in --cpu-bind=none"
            value_may_follow = False
        elif word.startswith("--"):
            name = word[2:].partition("=")[0]
            if (meant := _written(name, refused)) is not None:
                yield index, f"the sweep writes --{meant} itself: {refused[meant]}"
            value_may_follow = "=" not in word and name not in LONG_WITHOUT_VALUE
        else:
            letters = [*_letters(word)]
            if (meant := next((SHORT[one] for one in letters if one in SHORT), None)) is not None:
                yield index, f"{word}: the sweep writes --{meant} itself: {refused[meant]}"
            value_may_follow = len(letters) == len(word) - 1 and letters[-1] not in WITHOUT_VALUE


def _written(name: str, refused: Mapping[str, str]) -> str | None:
    """The refused option that a long one is or abbreviates: getopt takes any beginning that only one option has."""
    return name if name in refused else next((one for one in sorted(refused) if name and one.startswith(name)), None)


def _letters(word: str) -> Iterator[str]:
    """The one-letter options of a word such as ``-lN2``."""
    for letter in word[1:]:
        yield letter
        if letter not in WITHOUT_VALUE:
            return


def broken(value: object) -> bool:
    """Whether a text has more than one line."""
    return isinstance(value, str) and len(f"{value}|".splitlines()) > 1


def overruled(variable: str, asked: Mapping[str, object]) -> bool:
    """Whether an environment variable would overrule what jobs of this cluster file (``asked``) are written to ask.

    To sbatch the environment is worth more than the script: ``SBATCH_ARRAY_INX``, ``SBATCH_TIMELIMIT``.
    """
    name = variable.removeprefix("SBATCH_").lower().replace("_", "-")
    if name == variable.lower() or (name not in WRITTEN and name not in IN_ENVIRONMENT):
        return False
    return name not in FROM_THE_SITE or asked.get(name) is not None
