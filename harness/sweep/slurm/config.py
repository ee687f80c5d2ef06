"""Cluster files: how to ask a site for machines. Never part of a run's identity."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from harness.config import builtin
from harness.config.errors import Complaint, SpecError, nearest
from harness.config.experiment import Positive
from harness.config.yaml_file import Document, read_yaml
from harness.runtime import Compile
from harness.sweep.slurm.passthrough import broken, sbatch_faults, srun_faults

Flags = dict[str, str | int | float | bool]


class Cluster(BaseModel):
    """The keys of ``experiments/clusters/*.yaml``."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    partition: str | None = Field(default=None, description="sbatch --partition")
    account: str | None = Field(default=None, description="sbatch --account")
    qos: str | None = Field(default=None, description="sbatch --qos")
    constraint: str | None = Field(default=None, description="sbatch --constraint")
    time: str = Field(default="auto", description="Limit of one job, HH:MM:SS, D-HH:MM:SS or auto (from the price).")
    gpus: Annotated[int, Field(ge=0)] = Field(default=1, description="GPUs of one job, on each of its nodes.")
    gres: str | None = Field(default=None, description="Where --gpus-per-node is not understood, e.g. gpu:a100:1")
    cpus: Positive = Field(default=8, description="Cores of one job, on each of its nodes.")
    mem: str | None = Field(default="32G", description="Memory of one job, on each of its nodes.")
    array_cap: Positive = Field(default=64, description="Jobs at a time, over all arrays of a command.")
    runs_per_job: Positive = Field(default=1, description="Runs one job works through.")
    at_once: Positive = Field(default=1, description="Runs side by side within a job (small runs share a GPU).")
    processes_per_run: Positive = Field(default=1, description="Processes (tasks) that share one run, a GPU each.")
    nodes: Positive = Field(default=1, description="Nodes that the processes of one run are spread over, evenly.")
    images_per_pass: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Most images a process takes through its networks at once; 0: its part of the batch."
    )
    compile: Compile = Field(
        default="off", description="torch.compile of the networks: off, default, reduce-overhead (CUDA graphs)."
    )
    signal_seconds: Positive = Field(default=180, description="Warning before the time limit: a step and a checkpoint.")
    setup: list[str] = Field(default=[], description="Shell lines before the job, e.g. module load cuda")
    sbatch: Flags = Field(default={}, description="Further sbatch options; none that the sweep writes itself.")
    srun: list[str] = Field(default=[], description="Further srun options; none that the sweep writes itself.")

    @field_validator("partition", "account", "qos", "constraint", "gres", "mem")
    @classmethod
    def one_line(cls, asked: str | None) -> str | None:
        """Raises ``ValueError`` on a line break: a job's script would be read on from there."""
        if broken(asked):
            raise ValueError("contains a line break: write it on one line")
        return asked

    @field_validator("sbatch")
    @classmethod
    def nothing_said_twice(cls, flags: Flags) -> Flags:
        """Raises ``ValueError`` on what the sweep writes itself; keys as sbatch spells them."""
        _refuse(f"{key}: {fault}" for key, fault in sbatch_faults(flags))
        return {key.replace("_", "-"): value for key, value in flags.items()}

    @field_validator("srun")
    @classmethod
    def nothing_told_twice(cls, words: list[str]) -> list[str]:
        """Raises ``ValueError`` on what the sweep tells srun itself."""
        _refuse(fault for _, fault in srun_faults(words))
        return words

    @field_validator("time")
    @classmethod
    def readable(cls, time: str) -> str:
        """Raises ``ValueError`` on a time that Slurm would read in another way."""
        if time != "auto" and not re.fullmatch(r"(\d+-)?\d{1,2}:\d{2}:\d{2}", time):
            raise ValueError("time must be auto, HH:MM:SS or D-HH:MM:SS, in quotes")
        return time

    @model_validator(mode="after")
    def consistent(self) -> Cluster:
        """Raises ``ValueError`` where the processes of a run cannot have what they need."""
        if self.processes_per_run % self.nodes:
            raise ValueError(f"processes_per_run: {self.processes_per_run} is not divisible by {self.nodes} nodes")
        if self.processes_per_run > 1 and self.at_once > 1:
            raise ValueError("at_once: must be 1 where processes_per_run is above 1")
        if not self.gres and 0 < self.gpus < self.tasks_per_node:
            raise ValueError(f"gpus: {self.tasks_per_node} processes on a node need as many GPUs, not {self.gpus}")
        if self.cpus < self.tasks_per_node:
            raise ValueError(
                f"cpus: {self.tasks_per_node} processes on a node need a core each, not {self.cpus} in all"
            )
        return self

    @model_validator(mode="after")
    def long_enough(self) -> Cluster:
        """Raises ``ValueError`` where a job would spend its time on being warned: the start alone takes minutes."""
        if self.minutes is not None and 60 * self.minutes < 3 * self.signal_seconds:
            least = 3 * self.signal_seconds
            raise ValueError(f"time: {self.time} is below {least} s, three times signal_seconds: raise it")
        return self

    @property
    def tasks_per_node(self) -> int:
        """Tasks of a job on each of its nodes: one, or the processes of a run."""
        return self.processes_per_run // self.nodes

    @property
    def cpus_per_task(self) -> int:
        """Cores of each task."""
        return self.cpus // self.tasks_per_node

    @property
    def minutes(self) -> int | None:
        """The time limit in minutes, rounded up; None for ``auto``."""
        if self.time == "auto":
            return None
        days, _, clock = self.time.rpartition("-")
        hours, minutes, seconds = (int(part) for part in clock.split(":"))
        return int(days or 0) * 1440 + hours * 60 + minutes + (seconds > 0)


def _refuse(faults: Iterable[str]) -> None:
    if found := "; ".join(faults):
        raise ValueError(found)


def load_cluster(path: Path) -> Cluster:
    """Read and check one file. Raises :class:`SpecError` with a line for every complaint."""
    document = read_yaml(path)
    try:
        return Cluster.model_validate(document.data)
    except ValidationError as error:
        complaints = list(_passed_through(document))
        for one in error.errors():
            if complaints and one["loc"] in (("sbatch",), ("srun",)) and one["type"] == "value_error":
                continue
            keys = [part for part in one["loc"] if isinstance(part, int) or part in document.data]
            said = one["msg"].removeprefix("Value error, ")
            if one["type"] == "extra_forbidden":
                said = f"unknown key: {nearest(str(one['loc'][-1]), Cluster.model_fields)}"
            complaints.append(document.complaint(keys, f"{'.'.join(map(str, one['loc'][:2]))}: {said}"))
        raise SpecError(complaints) from None


def _passed_through(document: Document) -> Iterator[Complaint]:
    """What is wrong with further options, each at its own line."""
    flags, words = document.data.get("sbatch"), document.data.get("srun")
    for key, fault in sbatch_faults(flags) if isinstance(flags, dict) else ():
        yield document.complaint(("sbatch", key), f"sbatch.{key}: {fault}")
    if isinstance(words, list) and all(isinstance(word, str) for word in words):
        for index, fault in srun_faults(words):
            yield document.complaint(("srun", index), f"srun: {fault}")


def altered(cluster: Cluster, **changes: int | str) -> Cluster:
    """The same with other values. Raises :class:`SpecError` where they do not go together."""
    try:
        return Cluster.model_validate({**cluster.model_dump(), **changes})
    except ValidationError as error:
        raise SpecError([Complaint("", one["msg"].removeprefix("Value error, ")) for one in error.errors()]) from None


def find_cluster(asked: str, experiments: Path) -> tuple[str, Cluster] | None:
    """``local`` -> None; ``auto`` -> ``slurm`` if sbatch is on the PATH; a name or a file -> that cluster."""
    if asked == "local" or (asked == "auto" and shutil.which("sbatch") is None):
        return None
    path = cluster_path(asked, experiments)
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise SpecError(f"--cluster {asked}: sbatch and srun are not on the PATH here")
    return path.stem, load_cluster(path)


def cluster_path(asked: str, experiments: Path) -> Path:
    """The file that is meant. Raises :class:`SpecError` where there is none."""
    name = "slurm" if asked == "auto" else asked
    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise SpecError(f"--cluster {asked}: no such file")
        return Path(name)
    path = builtin.beside(experiments, f"clusters/{name}.yaml")
    if not path.is_file():
        known = ["auto", "local", *builtin.names(experiments, "clusters/*.yaml")]
        raise SpecError(f"--cluster {asked}: {nearest(asked, known)}")
    return path


def describe(cluster: Cluster) -> dict[str, Any]:
    """What is written into a submission's record."""
    return cluster.model_dump(mode="json")
