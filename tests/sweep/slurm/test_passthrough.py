"""Further options of a cluster file: whatever the sweep writes itself is refused there, however it is spelled."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest
from submitit.slurm.slurm import _make_sbatch_string

from harness.config.errors import SpecError
from harness.sweep.slurm import sbatch, submit
from harness.sweep.slurm.config import Cluster, load_cluster
from harness.sweep.slurm.passthrough import OF_SRUN_ALONE, SHORT, WRITTEN, sbatch_faults, srun_faults
from harness.sweep.slurm.submissions import Chunk

EVERYTHING = Cluster(
    partition="gpu", account="a", qos="q", constraint="c", gpus=8, cpus=16, nodes=2, processes_per_run=16
)


def script(folder: Path, cluster: Cluster) -> str:
    """What sbatch gets of an array that follows another."""
    asked = sbatch.parameters(cluster, Chunk("n", [["a"], ["b"]], 1, 30), after=["7"])
    return str(_make_sbatch_string(command="true", folder=folder, map_count=2, **asked))


@pytest.mark.parametrize("cluster", [EVERYTHING, Cluster(gres="gpu:1", gpus=0)], ids=["gpus", "gres"])
def test_every_option_that_is_written_is_refused_as_a_further_one(tmp_path: Path, cluster: Cluster) -> None:
    text = script(tmp_path, cluster)
    of_sbatch = set(re.findall(r"^#SBATCH --([a-z-]+)", text, re.MULTILINE)) - {"requeue", "wckey"}
    assert len(of_sbatch) > 10 and {key for key, _ in sbatch_faults(dict.fromkeys(of_sbatch, "1"))} == of_sbatch
    (line,) = (one for one in text.splitlines() if one.startswith("srun"))
    of_srun = [one for one in shlex.split(line) if one.startswith("--")]
    assert len(of_srun) > 3 and {index for index, _ in srun_faults([f"{one}=1" for one in of_srun])} == {
        *range(len(of_srun))
    }


@pytest.mark.parametrize("name", sorted(WRITTEN))
def test_no_spelling_slips_through(name: str) -> None:
    short = [letter for letter, meant in SHORT.items() if meant == name]
    spellings = {name, name.replace("-", "_"), f"--{name}", *short, *(f"-{letter}" for letter in short)}
    assert {key for key, _ in sbatch_faults(dict.fromkeys(spellings, "1"))} == spellings
    for words in ([f"--{name}=1"], [f"--{name}", "1"], *([f"-{letter}1"] for letter in short)):
        assert 0 in dict(srun_faults(words)), words
    abbreviated = name[: max(3, len(name) - 1)]  # getopt takes it
    assert list(sbatch_faults({abbreviated: "1"})) and list(srun_faults([f"--{abbreviated}=1"]))


def test_what_the_sweep_does_not_write_passes_as_it_is() -> None:
    flags = {
        "nice": 100, "mail-type": "FAIL", "exclude": "node[1-3]", "nodelist": "n1", "exclusive": True, "begin": "now",
        "reservation": "r", "licenses": "a", "no-requeue": True, "requeue": False, "wckey": "w", "comment": "one two",
        "gres-flags": "enforce-binding", "mem-bind": "local", "switches": 1, "hold": True,
        "threads-per-core": 1, "hint": "nomultithread", "gpu-bind": "closest", "deadline": "now",
        "kill-on-invalid-dep": "yes",
    }  # fmt: skip
    assert list(sbatch_faults(flags)) == []
    words = ["--cpu-bind=none", "--mpi", "pmix", "-l", "-vv", "--container-image=a.sqsh", "--overlap", "-Xlv"]
    assert list(srun_faults(words)) == []
    assert Cluster(sbatch=flags, srun=words).sbatch == flags


@pytest.mark.parametrize(
    "flags",
    [
        {"comment": "a\n#SBATCH --array=0-0"},
        {"nice=1 --array": "0-0"},
        {"nice\n#SBATCH --array": "0-0"},
        {"": "x"},
        {"x": "1"},
        {"--nice": 100},
        {"mail-type": "FAIL", "mail_type": "ALL"},
    ],
)
def test_no_option_hides_in_another(flags: dict[str, str | int]) -> None:
    assert list(sbatch_faults(flags))


@pytest.mark.parametrize("words", [["-ln2"], ["-l", "env"], ["env"], ["--"], ["--mpi=x", "env"], ["--label\n-n2"]])
def test_no_program_nor_option_hides_among_the_words_for_srun(words: list[str]) -> None:
    assert list(srun_faults(words))


@pytest.mark.parametrize("name", sorted(OF_SRUN_ALONE))
def test_what_belongs_to_the_job_is_not_for_srun(name: str) -> None:
    assert dict(srun_faults([f"--{name}=1"]))[0].endswith(OF_SRUN_ALONE[name])


def test_no_requeue_is_heard_in_either_spelling(tmp_path: Path) -> None:
    for key in ("no-requeue", "no_requeue"):
        text = script(tmp_path, Cluster(sbatch={key: True}))
        assert re.findall(r"--(?:no-)?requeue", text) == ["--no-requeue"]


@pytest.mark.parametrize("key", ["partition", "account", "qos", "constraint", "gres", "mem"])
def test_no_line_of_the_script_comes_from_a_value(key: str) -> None:
    with pytest.raises(ValueError, match="line break"):
        Cluster.model_validate({key: "a\n#SBATCH --array=0-0"})


def test_each_is_complained_of_at_its_line_with_the_key_that_means_it(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(
        "gpus: 1\nsbatch:\n  nice: 1\n  signal: TERM@5\n  mem_per_cpu: 1G\nsrun:\n  - --cpu-bind=none\n  - -n4\n"
    )
    with pytest.raises(SpecError) as caught:
        load_cluster(path)
    said = [str(one) for one in caught.value.complaints]
    assert [one.partition(": ")[0].rpartition(":")[2] for one in said] == ["4", "5", "8"]
    for one, key in zip(said, ("signal_seconds", "mem", "processes_per_run"), strict=True):
        assert f"write {key} in the cluster file instead" in one


def test_the_environment_does_not_overrule_the_cluster_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """For sbatch, SBATCH_TIMELIMIT is worth more than the script; SBATCH_ACCOUNT may be how a site tells who pays."""
    gone = {"ARRAY_INX", "TIMELIMIT", "SIGNAL", "MEM_PER_NODE", "EXPORT", "NO_REQUEUE", "OUTPUT", "PARTITION", "WAIT"}
    stays = {"ACCOUNT", "RESERVATION", "EXCLUSIVE"}
    for name in gone | stays:
        monkeypatch.setenv(f"SBATCH_{name}", "1")
    with submit._undisturbed(Cluster(partition="gpu")):
        assert {name for name in gone | stays if f"SBATCH_{name}" in os.environ} == stays
    assert all(f"SBATCH_{name}" in os.environ for name in gone)


@pytest.mark.parametrize("key", ["no-req", "re", "no_req", "help", "h", "V", "version", "usage", "get_user_env"])
def test_what_the_sweep_looks_for_is_written_whole_and_what_starts_nothing_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=re.escape(key)):
        Cluster(sbatch={key: True})
    assert (
        "requeue"
        in sbatch.parameters(Cluster(sbatch={"no-requeue": False}), Chunk("n", [["a"]], 1, 30))["additional_parameters"]
    )
