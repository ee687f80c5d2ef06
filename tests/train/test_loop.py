"""The loop: what a run leaves behind, and that being killed, stopped or asked again changes nothing."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from harness import components
from harness.components import Evaluation
from harness.config.experiment import load_scale
from harness.config.grid import assign, normalised
from harness.runtime import Runtime
from harness.store import provenance
from harness.store.attempts import Cause, cause_of
from harness.store.results import RunFolder, State, Store, StoreError, read_json, write_json
from harness.train import checkpoint, loop, progress
from harness.train.stop import TakenOver

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).with_name("first_losses.json")
HERE = Runtime(device="cpu", threads=1, checkpoint_gap_s=0.0)

TINY = {
    "data": {"synthetic": {"train_images": 64, "test_images": 32, "image_size": 16}},
    "encoder": {"micro": {"stem": 8, "widths": [8, 16], "depth": 1}},
    "head.nonlinear.out_dim": 8,
    "schedule": {"batch_size": 16, "epochs": 3, "warmup_epochs": 1},
}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Bit-equality is promised for an equal number of threads: another splits sums in other places."""
    torch.set_num_threads(1)


def tree(**changes: Any) -> dict[str, Any]:
    """The smoke scale, made tiny."""
    settings = normalised(load_scale(ROOT / "experiments", "smoke").tree)
    for path, value in {**TINY, **changes}.items():
        assign(settings, path, value)
    return settings


def tiny(results: Path, seed: int = 0, **changes: Any) -> tuple[RunFolder, list[Evaluation]]:
    settings = tree(**changes)
    run = components.resolve(settings, seed)
    folder = Store(results).run(run.id)
    folder.create(run.spec())
    return folder, components.resolve_evaluations(settings, ["linear"])


def final(folder: RunFolder) -> tuple[dict[str, torch.Tensor], str, dict[str, Any]]:
    """What must not depend on how the run was executed: weights, metrics, evaluations."""
    weights = checkpoint.load(folder.weights, torch.device("cpu"))["method"]
    values = {path.name: read_json(path)["values"] for path in (folder.path / "evaluations").glob("*.json")}
    return weights, folder.metrics.read_text(encoding="utf-8"), values


def assert_same(one: RunFolder, other: RunFolder) -> None:
    (weights, metrics, values), (others, other_metrics, other_values) = final(one), final(other)
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    assert (metrics, values) == (other_metrics, other_values)


def test_a_run_leaves_what_the_design_says(tmp_path: Path) -> None:
    folder, asked = tiny(tmp_path)
    loop.execute(folder, asked, HERE)
    assert folder.state([one.id for one in asked]) is State.DONE
    lines = [json.loads(line) for line in folder.metrics.read_text(encoding="utf-8").splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert all(line["loss"] > 0 for line in lines)
    outcome, about = read_json(folder.outcome), read_json(folder.provenance)
    assert outcome == {"run": folder.id, "status": "trained", "epochs": 3, "steps": 12, "loss": lines[-1]["loss"]}
    assert {"commit", "dirty", "code", "versions", "hardware", "wall_seconds", "images_per_second"} <= set(about)
    assert 0 <= read_json(folder.evaluation(asked[0].id))["values"]["top1"] <= 100
    assert not list(folder.checkpoints.glob("step-*"))


def test_a_run_of_no_epochs_is_the_network_as_its_seed_makes_it(tmp_path: Path) -> None:
    none = {"schedule": {"batch_size": 16, "epochs": 0, "warmup_epochs": 0}}
    folder, asked = tiny(tmp_path, **none)
    loop.execute(folder, asked, HERE)
    assert folder.state([one.id for one in asked]) is State.DONE
    outcome = read_json(folder.outcome)
    assert outcome == {"run": folder.id, "status": "trained", "epochs": 0, "steps": 0, "loss": None}
    parts = components.build(components.resolve(tree(**none), 0))
    fresh = loop.seeded_method(parts, parts.dataset.load(tmp_path), torch.device("cpu")).state_dict()
    saved = checkpoint.load(folder.weights, torch.device("cpu"))["method"]
    assert fresh.keys() == saved.keys() and all(torch.equal(fresh[name], saved[name]) for name in fresh)
    assert 0 <= read_json(folder.evaluation(asked[0].id))["values"]["top1"] <= 100
    assert not folder.metrics.exists() and "images_per_second" not in read_json(folder.provenance)


def test_a_run_learns(tmp_path: Path) -> None:
    longer = {"schedule": {"batch_size": 32, "epochs": 20, "warmup_epochs": 1}}
    folder, _ = tiny(tmp_path, optimizer={"adam": {"lr": 3e-3}}, **longer)
    loop.execute(folder, [], HERE)
    losses = [json.loads(line)["loss"] for line in folder.metrics.read_text(encoding="utf-8").splitlines()]
    assert losses[-1] < losses[0] - 0.5


def test_asking_again_computes_nothing(tmp_path: Path) -> None:
    folder, asked = tiny(tmp_path)
    loop.execute(folder, asked, HERE)
    before = {path: path.stat().st_mtime_ns for path in folder.path.rglob("*") if path.is_file()}
    loop.execute(folder, asked, HERE)
    assert {path: path.stat().st_mtime_ns for path in folder.path.rglob("*") if path.is_file()} == before


def test_another_evaluation_never_retrains(tmp_path: Path) -> None:
    folder, asked = tiny(tmp_path)
    loop.execute(folder, asked, HERE)
    trained = {path: path.stat().st_mtime_ns for path in (folder.weights, folder.outcome, folder.metrics)}
    more = components.resolve_evaluations(tree(), [{"linear": {"features": "z"}}, {"knn": {"k": 5}}])
    loop.execute(folder, more, HERE)
    assert not folder.missing([one.id for one in (*asked, *more)])
    assert {path: path.stat().st_mtime_ns for path in trained} == trained


def test_evaluating_without_weights_says_what_to_do(tmp_path: Path) -> None:
    folder, asked = tiny(tmp_path)
    loop.execute(folder, [], HERE)
    folder.weights.unlink()
    with pytest.raises(StoreError, match=r"move .* away to train it again"):
        loop.execute(folder, asked, HERE)


RUNNER = """
import sys
import time
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.train.test_loop import HERE, tiny
from harness.train import loop
tick = loop.Clock.tick
loop.Clock.tick = lambda *arguments: (time.sleep(0.1), tick(*arguments))  # longer than whoever stops it may take
folder, asked = tiny(Path(sys.argv[1]), **{changes!r})
loop.execute(folder, asked, HERE)
"""

LONGER = {"schedule": {"batch_size": 8, "epochs": 12, "warmup_epochs": 1}}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGUSR2], ids=lambda one: one.name)
def test_stopped_at_any_moment_and_resumed_is_uninterrupted_bit_for_bit(tmp_path: Path, number: signal.Signals) -> None:
    folder, asked = tiny(tmp_path / "stopped", **LONGER)
    command = [sys.executable, "-c", RUNNER.format(root=str(ROOT), changes=LONGER), str(tmp_path / "stopped")]
    stops = 0
    for delay in (0.01, 0.05, 0.11, 0.02):  # a different moment each time, some inside a checkpoint write
        process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
        seen = len(list(folder.checkpoints.glob("step-*"))) and max(folder.checkpoints.glob("step-*")).name
        while process.poll() is None and _newest(folder) in (None, seen):
            time.sleep(0.005)
        time.sleep(delay)
        process.send_signal(number)
        process.wait(timeout=60)
        stops += process.returncode != 0
        if folder.outcome.exists():
            break
    assert stops >= 2
    loop.execute(folder, asked, HERE)
    whole, _ = tiny(tmp_path / "whole", **LONGER)
    loop.execute(whole, asked, HERE)
    assert_same(folder, whole)


def _newest(folder: RunFolder) -> str | None:
    return max((path.name for path in folder.checkpoints.glob("step-*")), default=None)


class _StopAfter:
    """An event that is set from the n-th look on: a signal that arrives at an exact step."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    def is_set(self) -> bool:
        self.looks -= 1
        return self.looks < 0


@pytest.mark.parametrize("step", [1, 4, 7])
def test_a_stop_within_an_epoch_or_at_its_end_resumes_exactly(tmp_path: Path, step: int) -> None:
    folder, asked = tiny(tmp_path / "stopped")
    parts = components.build(components.Run.model_validate(read_json(folder.spec)["spec"]))
    data = parts.dataset.load(Path())
    cpu = torch.device("cpu")
    method = loop.seeded_method(parts, data, cpu)
    stop: Any = _StopAfter(step - 1)
    with pytest.raises(loop.Interrupted, match=f"after step {step} of 12"):
        loop.Pretraining(folder, parts, data, method, HERE, cpu, stop).run()
    loop.execute(folder, asked, HERE)
    whole, _ = tiny(tmp_path / "whole")
    loop.execute(whole, asked, HERE)
    assert_same(folder, whole)


@pytest.mark.parametrize("older", [False, True], ids=["", "a checkpoint that does not say by what code"])
def test_what_another_code_went_on_from_says_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, older: bool) -> None:
    folder, asked = tiny(tmp_path / "stopped")
    with monkeypatch.context() as before:
        before.setattr(provenance, "code_fingerprint", lambda: "before")
        before.setattr(loop, "stop_on_signal", lambda: nullcontext(_StopAfter(4)))
        with pytest.raises(loop.Interrupted, match="after step 5 of 12"):
            loop.execute(folder, asked, HERE)
    if older:
        (path,) = folder.checkpoints.glob("step-*5.pt")
        state = checkpoint.load(path, torch.device("cpu"))
        del state["codes"]
        checkpoint.save(path, state)
    loop.execute(folder, asked, HERE)
    about = read_json(folder.provenance)
    assert about["codes"] == ["before", provenance.code_fingerprint()] and about["code"] == about["codes"][1]
    whole, _ = tiny(tmp_path / "whole")
    loop.execute(whole, asked, HERE)
    assert "codes" not in read_json(whole.provenance)


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_is_full_for_a_while_costs_resume_points_and_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, asked = tiny(tmp_path / "whole")
    loop.execute(whole, asked, HERE)
    folder, _ = tiny(tmp_path / "full")
    with monkeypatch.context() as patch:  # room again for what a run must leave, when it ends
        patch.setattr(checkpoint, "save_step", full)
        patch.setattr(progress, "write_json", full)
        patch.setattr(loop, "write_atomic", full)
        patch.setattr(loop.Pretraining, "_finish", lambda self, *_: [patch.undo(), self._finish(*_)])
        loop.execute(folder, asked, replace(HERE, progress_s=0.0))
    assert_same(whole, folder)
    said = capsys.readouterr().out
    for what in ("checkpoint of step 4", "checkpoint of step 8", "metrics.jsonl", "progress.json"):
        assert f"{what} could not be written, continuing without it: [Errno 28] No space left on device" in said


@pytest.mark.parametrize("broken", ["the last resume point", "the weights", "the metrics"])
def test_what_a_run_must_leave_ends_it_and_the_last_resume_point_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    whole, asked = tiny(tmp_path / "whole")
    loop.execute(whole, asked, HERE)
    folder, _ = tiny(tmp_path / "full")
    with monkeypatch.context() as patch:
        if broken == "the last resume point":
            patch.setattr(loop.Pretraining, "_save", _stop_at(8, loop.Pretraining._save, patch))
        elif broken == "the weights":
            save = checkpoint.save
            patch.setattr(
                checkpoint, "save", lambda path, state: (full if path.name == "final.pt" else save)(path, state)
            )
        else:
            patch.setattr(loop, "write_atomic", full)
        with pytest.raises(OSError, match="No space") as raised:
            loop.execute(folder, asked, HERE)
    assert cause_of(raised.value) is Cause.DISK and Cause.DISK.resumes and not Cause.DISK.failed
    assert not folder.outcome.exists() and not list(folder.path.rglob("*.tmp"))
    newest = checkpoint.load_newest(folder.checkpoints, torch.device("cpu"))
    assert newest is not None and newest["step"] == (4 if broken == "the last resume point" else 8)
    loop.execute(folder, asked, HERE)
    assert_same(whole, folder)


def _stop_at(step: int, save: Any, patch: pytest.MonkeyPatch) -> Any:
    """As if a signal had come at that step, on a full disk."""

    def saved(self: loop.Pretraining, at: int, *arguments: Any, last: bool) -> None:
        if at == step:
            patch.setattr(checkpoint, "save_step", full)
        save(self, at, *arguments, last=last or at == step)

    return saved


WILD: dict[str, Any] = {"optimizer": {"sgd": {"lr": 1e30, "lr_scaling": "none"}}}


def test_divergence_is_an_outcome(tmp_path: Path) -> None:
    folder, asked = tiny(tmp_path, **WILD)
    loop.execute(folder, asked, HERE)
    assert folder.state([one.id for one in asked]) is State.DIVERGED
    assert read_json(folder.outcome)["at_step"] > 0
    loop.execute(folder, asked, HERE)  # and it is not tried again
    assert folder.state() is State.DIVERGED


@pytest.mark.parametrize(
    ("changes", "over"),
    [({}, False), ({}, True), (WILD, False)],
    ids=["another works on it", "another is done with it", "diverged"],
)
def test_a_process_that_lost_its_run_while_frozen_replaces_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], over: bool
) -> None:
    folder, _ = tiny(tmp_path, **changes)
    optimise, steps = loop.optimise, iter(range(100))

    def frozen(*arguments: Any, **settings: Any) -> Any:
        if next(steps) == 2:  # of twelve: it thaws, and finds this
            if over:
                folder.weights.write_bytes(b"theirs")
                folder.outcome.write_text("theirs")
            else:
                write_json(folder.lock.path, {"pid": 1, "host": "elsewhere"})
        return optimise(*arguments, **settings)

    folder.checkpoints.mkdir()
    monkeypatch.setattr(loop, "optimise", frozen)
    with pytest.raises(TakenOver):
        loop.execute(folder, [], HERE)
    assert [path.read_text() for path in (folder.outcome, folder.weights) if path.exists()] == ["theirs"] * 2 * over


def test_features_that_overflow_after_training_are_divergence_too(tmp_path: Path) -> None:
    """Of every evaluation that looks at them; the run itself was trained to its end."""
    folder, asked = tiny(tmp_path)
    loop.execute(folder, [], HERE)
    state = checkpoint.load(folder.weights, torch.device("cpu"))
    for tensor in state["method"].values():
        tensor.fill_(float("inf"))
    checkpoint.save(folder.weights, state)
    loop.execute(folder, asked, HERE)
    found = [read_json(folder.evaluation(one.id)) for one in asked]
    assert found and all(one["diverged"] and one["values"] == {} for one in found)
    assert folder.state([one.id for one in asked]) is State.DONE, "nothing to be tried again"


def test_wall_time_counts_the_attempts_before(tmp_path: Path) -> None:
    earlier = 1000.0
    clock = loop.Clock(RunFolder(tmp_path), HERE, 10, 5, 2, earlier)
    assert earlier <= clock.total_seconds() < earlier + 60
    assert clock.seconds() < 60


def test_a_batch_larger_than_the_data_is_refused(tmp_path: Path) -> None:
    folder, asked = tiny(tmp_path, **{"schedule.batch_size": 128})
    with pytest.raises(ValueError, match="batch size 128 exceeds the 64 training images"):
        loop.execute(folder, asked, HERE)


def test_a_folder_with_another_runs_specification_is_refused(tmp_path: Path) -> None:
    folder, asked = tiny(tmp_path)
    other, _ = tiny(tmp_path, seed=1)
    folder.spec.write_bytes(other.spec.read_bytes())
    with pytest.raises(StoreError, match="move the folder away"):
        loop.execute(folder, asked, HERE)


def test_low_precision_is_for_gpus_only(tmp_path: Path) -> None:
    """bfloat16 is fifteen times slower on a CPU without the instructions; there the run computes in float32."""
    full, asked = tiny(tmp_path)
    half, _ = tiny(tmp_path, precision="bfloat16")
    loop.execute(full, asked, HERE)
    loop.execute(half, asked, HERE)
    assert full.id != half.id
    assert full.metrics.read_text(encoding="utf-8") == half.metrics.read_text(encoding="utf-8")


def test_seeds_differ_and_equal_seeds_agree(tmp_path: Path) -> None:
    one, asked = tiny(tmp_path / "one")
    again, _ = tiny(tmp_path / "again")
    other, _ = tiny(tmp_path / "one", seed=1)
    for folder in (one, again, other):
        loop.execute(folder, asked, HERE)
    assert_same(one, again)
    assert final(one)[1] != final(other)[1]


def test_the_first_twenty_losses_stay_what_they_were(tmp_path: Path) -> None:
    """A change that is not meant to change numbers must reproduce this file; one that is regenerates it and says why.

    To regenerate: ``python -m tests.train.test_loop``. Rounding differs between processors, hence the tolerance.
    """
    assert first_losses(tmp_path) == pytest.approx(json.loads(GOLDEN.read_text(encoding="utf-8")), rel=2e-5)


def first_losses(results: Path) -> list[float]:
    """Full-batch epochs, so that every line of the metrics is one step."""
    folder, _ = tiny(results, schedule={"batch_size": 64, "epochs": 20, "warmup_epochs": 2})
    loop.execute(folder, [], HERE)
    return [json.loads(line)["loss"] for line in folder.metrics.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        GOLDEN.write_text(json.dumps(first_losses(Path(scratch)), indent=1) + "\n", encoding="utf-8")


def test_provenance_says_which_precision_was_used(tmp_path: Path) -> None:
    folder, _ = tiny(tmp_path, precision="bfloat16")
    loop.execute(folder, [], HERE)
    assert read_json(folder.spec)["spec"]["precision"] == "bfloat16"
    assert read_json(folder.provenance)["precision"] == "float32", "a CPU's bfloat16 is slower, not faster"


def test_saving_takes_no_large_part_of_short_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    clock = progress.Clock(Store(tmp_path).run("0" * 12), replace(HERE, checkpoint_gap_s=5.0), 100, 10, 0, 0.0)
    now[0] += 4.0
    assert not clock.epoch_checkpoint_due()
    now[0] += 1.0
    assert clock.epoch_checkpoint_due()
    now[0] += 2.0
    clock.saved(now[0] - 2.0)  # which took two seconds
    for seconds, due in ((30.0, False), (11.0, True)):
        now[0] += seconds
        assert clock.epoch_checkpoint_due() is due
