"""Check SLURM: whether it is there and answers, what its settings mean for a sweep, and whether it takes our jobs."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from harness.config.errors import SpecError
from harness.doctor.finding import Finding, fail, note, ok, warn
from harness.doctor.here import SHARED, filesystem
from harness.sweep.slurm.config import Cluster, cluster_path, find_cluster

SHORT_MINUTES = 30
NEEDED = ("sbatch", "srun", "squeue", "scancel", "scontrol")


def check_slurm(asked: str, experiments: Path, results: Path) -> Iterator[Finding]:
    """``asked`` is what ``--cluster`` was given. Without SLURM, and unless one was asked for, that is no fault."""
    if asked == "local":
        yield note("SLURM", "not asked for: --cluster local")
        return
    try:
        _ = asked == "auto" or cluster_path(asked, experiments)
    except SpecError as error:  # a name that means nothing is no fault of SLURM's
        yield fail("cluster", str(error), "experiments/clusters/example.yaml lists every key")
        return
    missing = [one for one in NEEDED if shutil.which(one) is None]
    if "sbatch" in missing and asked == "auto":
        yield note("SLURM", "no sbatch on the PATH: sweeps run on this machine")
        return
    if missing:
        remedy = "load the module that brings them, or run this on a login node; --cluster local does without"
        yield fail("SLURM", f"not on the PATH: {', '.join(missing)}", remedy)
        return
    settings = configuration()
    if settings is None:
        yield fail("SLURM", f"{version()} is installed, but no controller answers", "scontrol ping says more; later?")
        return
    yield ok("SLURM", f"{version()}, cluster {settings.get('ClusterName', '?')}")
    yield from (array_size(settings), accounting(settings), requeue(settings), preemption(settings))
    yield from shared(results)
    yield from cluster_file(asked, experiments)


def version() -> str:
    """Return the version that sbatch prints."""
    said = _run("sbatch", "--version")
    return said.stdout.strip() if said and said.returncode == 0 else "sbatch"


def configuration() -> dict[str, str] | None:
    """``scontrol show config``, or None if it does not answer."""
    said = _run("scontrol", "show", "config")
    if said is None or said.returncode != 0:
        return None
    pairs = (line.partition("=") for line in said.stdout.splitlines())
    return {key.strip(): value.strip() for key, equals, value in pairs if equals}


def array_size(settings: Mapping[str, str]) -> Finding:
    """Check the longest job array that the site allows."""
    longest = settings.get("MaxArraySize", "1001")
    if longest in ("0", "1"):
        return fail("arrays", f"MaxArraySize={longest}: job arrays are switched off", "ask the site to allow them")
    return ok("arrays", f"MaxArraySize={longest}: a longer sweep goes out as several arrays that share the cap")


def accounting(settings: Mapping[str, str]) -> Finding:
    """Good to have for people; the sweep itself reads its own files and ``squeue``."""
    kind = settings.get("AccountingStorageType", "").rpartition("/")[2]
    if kind in ("none", ""):
        return note("accounting", "off: sacct knows nothing, and the sweep does not ask it")
    said = _run("sacct", "--noheader", "--allocations", "--starttime=now-1hours", "--format=JobID")
    if said is None or said.returncode != 0:
        why = said.stderr.strip() if said else "sacct does not answer"
        return note("accounting", f"{kind}, but {why}: the sweep does not need it")
    return ok("accounting", f"{kind}, sacct answers")


def requeue(settings: Mapping[str, str]) -> Finding:
    """Check whether the site requeues jobs."""
    if settings.get("JobRequeue") == "0":
        return ok("requeue", "JobRequeue=0, but our jobs ask for it: cut off, they come back and go on")
    return ok("requeue", "a job that is cut off comes back and goes on from its checkpoint")


def preemption(settings: Mapping[str, str]) -> Finding:
    """USR2 ahead of preemption is a favour of the site: runs listen to SIGTERM as well, and save every ten minutes."""
    if settings.get("PreemptType", "none").rpartition("/")[2] in ("none", "(null)"):
        return ok("preemption", "none on this cluster")
    spelled = settings.get("SlurmctldParameters", "") + "," + settings.get("PreemptParameters", "")
    if "send_user_signal" in spelled:
        return ok("preemption", f"PreemptMode={settings.get('PreemptMode', '?')}, jobs are warned (USR2) and requeue")
    seen = f"PreemptMode={settings.get('PreemptMode', '?')} without preempt_send_user_signal: no USR2, only SIGTERM"
    return warn("preemption", seen, "runs save on SIGTERM too; a partition that is not preempted loses nothing at all")


def shared(results: Path) -> Iterator[Finding]:
    """Jobs write where the sweep reads: a folder that only this machine has will not do."""
    standing = next(path for path in (results.absolute(), *results.absolute().parents) if path.exists())
    kind = filesystem(standing)
    if not any(name in kind for name in SHARED):
        seen = f"{results} lies on {kind}, which is seldom shared between machines"
        yield warn("shared", seen, "every node must see it, this code and the Python environment: --results DIR")


def cluster_file(asked: str, experiments: Path) -> Iterator[Finding]:
    """SLURM's own answer to the jobs of this cluster file, without submitting one (``sbatch --test-only``)."""
    try:
        found = find_cluster(asked, experiments)
    except SpecError as error:
        for one in error.complaints:
            yield fail("cluster", str(one), "experiments/clusters/example.yaml lists every key")
        return
    if found is None:
        return
    name, cluster = found
    from harness.sweep.slurm.submit import rehearse  # imports torch

    if cluster.minutes is not None and cluster.minutes < SHORT_MINUTES:
        seen = f"{name}.yaml gives a job {cluster.minutes} minutes: much of them goes into starting it, again and again"
        yield warn("time", seen, "time: auto, or half an hour and more")
    accepted, said = rehearse(cluster)
    if accepted:
        yield ok("cluster", f"{name}.yaml would be taken: {_shortened(said)}")
        if cluster.minutes is None:
            yield from _long_jobs(name, *rehearse(cluster, longest=True))
    else:
        yield fail("cluster", f"{name}.yaml would be refused: {_shortened(said)}", _advice(said, cluster))


def _long_jobs(name: str, accepted: bool, said: str) -> Iterator[Finding]:
    if not accepted:
        seen = f"the longest jobs that {name}.yaml may ask for (time: auto) would be refused: {_shortened(said)}"
        yield warn("time", seen, 'time: the longest that your account may have, e.g. "1-00:00:00"')


def _shortened(said: str) -> str:
    lines = [re.sub(r"^(sbatch: )?(error: )?", "", line.strip()) for line in said.splitlines()]
    return "; ".join(line for line in lines if line) or "without a word"


HINTS = {
    "partition": "partition: one of `sinfo -h -o %P`",
    "account": "account: one of `sacctmgr -n show associations user=$USER format=account`",
    "qos": "qos: one of `sacctmgr -n show qos format=name`",
    "time limit": "time: no longer than the partition's, see `sinfo -o '%P %l'`",
    "node configuration": "",
    "gres": "",
}


def _advice(said: str, cluster: Cluster) -> str:
    lowered = said.lower()
    hint = next((hint for words, hint in HINTS.items() if words in lowered), None)
    if hint:
        return f"in the cluster file, {hint}"
    asks = [f"cpus: {cluster.cpus}", f"mem: {cluster.mem}"]
    if cluster.gpus or cluster.gres:
        asks.insert(0, f"gres: {cluster.gres}" if cluster.gres else f"gpus: {cluster.gpus} (or gres: 'gpu:TYPE:1')")
    has = "`sinfo -o '%P %c %m %G'` shows what nodes have"
    return f"no node has all of {', '.join(asks)}: {has}" if hint == "" else f"change the cluster file; {has}"


def _run(*command: str) -> subprocess.CompletedProcess[str] | None:
    """None if the command is not there or does not answer within a minute."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
