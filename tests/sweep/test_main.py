"""The command line: what it says, how it ends, and that bad input leaves nothing behind."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.config.experiment import load_experiment
from harness.store.results import RunFolder, State, Store, read_json, write_json
from harness.sweep import torchrun
from harness.sweep.__main__ import EXAMPLES, main, parser
from harness.sweep.display.live import progress
from harness.sweep.local import run_local
from harness.sweep.local.pool import Outcome
from harness.sweep.plan.manifest import record
from harness.sweep.plan.plan import Plan, make_plan
from harness.sweep.plan.schema import schema, schema_text

ROOT = Path(__file__).resolve().parents[2]
Write = Callable[..., Path]


def words(text: str) -> str:
    """Without the line breaks of a narrow terminal."""
    return " ".join(text.split())


@pytest.fixture
def here(tmp_path: Path) -> list[str]:
    return ["--results", str(tmp_path / "results"), "--data", str(tmp_path / "data"), "--cluster", "local"]


def test_plan_counts_prices_and_writes_nothing(
    write: Write, here: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(write()), "--plan", *here]) == 0
    said = words(capsys.readouterr().out)
    assert "A small experiment" in said and "4 runs: 2 settings from one grid, 2 seeds each" in said
    assert "4 to do" in said and "a guess: no similar run was timed yet" in said
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("changes", "arguments", "said"),
    [
        ([("seeds: 2", "sedes: 2")], [], "small.yaml:10: unknown key 'sedes': did you mean 'seeds'?"),
        ([("runs: 4", "runs: four")], [], "small.yaml:11: runs: "),
        ([("runs: 4\n", "")], [], "small.yaml:1: 'runs' is missing: the grids make 4 different runs"),
        ([("[0.1, 0.5]", "[]")], [], "has no values"),
        ([("vary:\n  - objective.nt_xent.temperature: [0.1, 0.5]", "vary: []")], [], "`vary` must not be empty"),
        ([("runs: 4", "runs: 4\nruns: 4")], [], "small.yaml:12: found duplicate key"),
        ([("seeds: 2", "seeds: [2")], [], "not valid YAML"),
        ([("  - objective.nt", "    objective.nt")], [], "vary: input should be a valid list: write '- ' before its"),
        ([("[0.1, 0.5]", "0.1")], [], "input should be a valid list (got 0.1): write [0.1]"),
        ([], ["-o", "objective.nt_xent.normalize=no"], 'boolean (got "no"); in YAML 1.2 that is a word: write true'),
        ([], ["--scale", "smok"], "--scale: unknown scale 'smok': did you mean 'smoke'?"),
        ([], ["-o", "norm.groups"], "expected PATH=VALUE"),
        ([], ["-o", "norm.groups=2", "-o", "norm.groups=1"], "norm.groups was given a value before"),
        ([], ["-o", "views.both=crop"], "views.both must be a list of augmentations: [crop], not 'crop'"),
        ([], ["-o", "norm.grups=2"], "did you mean 'norm.groups'?"),
        ([], ["--only", "zzz"], "--only zzz: no run of small@smoke begins so"),
        ([], ["--cluster", "slrm"], "--cluster slrm: did you mean 'slurm'?"),
        ([], ["--cluster", "/tmp/no/such.yaml"], "--cluster /tmp/no/such.yaml: no such file"),
        ([], ["-o", "batch_size=64"], "-o: 'batch_size' does not exist: did you mean 'schedule.batch_size'?"),
        ([], ["-o", "epochs=2"], "did you mean 'schedule.epochs'?"),
        ([], ["-o", "seeds=2"], "'seeds' is not a setting of a run"),
        ([], ["-o", "schedule.batch_size=0"], "Input should be greater than or equal to 2 (got 0)"),
        ([], ["-o", "schedule.batch_size=65"], "batch size 65 exceeds the 64 training images"),
        (
            [("  schedule.epochs: 1", "  schedule.epochs: 1\n  objective.nt_xent.temperature: 1.0")],
            [],
            "small.yaml:8: 'objective.nt_xent.temperature' is varied by every grid",
        ),
        ([("evaluate: [linear]", "evaluate: []")], [], "small.yaml:12: evaluate: `evaluate` must not be empty"),
        ([("temperature: 0.5}", "temperature: 0.1}")], [], "greater compares a side with itself"),
        ([("greater:", "equivalent:")], [], "'equivalent' needs 'within' beside it: {equivalent: [{"),
        ([("id: lower-is-better", "id: Lower")], [], "invalid claim id 'Lower'"),
        ([("{synthetic: {train_images: 64, test_images: 32}}", "{cifar10: {}}")], [], "python -m harness.data cifar10"),
    ],
)
def test_bad_input_is_one_message_and_2(
    write: Write,
    here: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: list[tuple[str, str]],
    arguments: list[str],
    said: str,
) -> None:
    assert main([str(write(*changes)), *here, *arguments]) == 2
    out = capsys.readouterr()
    assert said in out.err and "Traceback" not in out.err + out.out
    assert len(out.err.strip().splitlines()) == 1
    assert not (tmp_path / "results").exists()


def test_a_missing_file_and_no_file(
    here: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["nowhere.yaml", *here]) == 2 and "nowhere.yaml: no such file" in capsys.readouterr().err
    assert main(["experiments/temprature.yaml", *here]) == 2
    assert "no such file; did you mean experiments/temperature.yaml?" in capsys.readouterr().err
    assert main(["temperature", *here]) == 2
    assert "temperature: no such file; did you mean experiments/temperature.yaml?" in capsys.readouterr().err
    assert main([*here]) == 2 and "name an experiment" in capsys.readouterr().err


def test_a_results_folder_that_is_a_file(write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "results").write_text("")
    assert main([str(write()), "--results", str(tmp_path / "results")]) == 2
    assert "is a file, not a folder" in capsys.readouterr().err


def test_a_read_only_results_folder(
    write: Write, here: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "results").mkdir(mode=0o555)
    real = os.access  # root may write anywhere, so the question is answered as for anyone else
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path / "results" and real(path, mode))
    assert main([str(write()), *here]) == 2
    assert "is not writable" in capsys.readouterr().err


@pytest.mark.parametrize("text", ['{"name": "other", "arms": [', "[]", "{}"])
def test_a_broken_manifest_is_named(
    write: Write, here: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    path = tmp_path / "results" / "experiments" / "other@smoke.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert main(["--status", *here]) == 2
    said = capsys.readouterr().err
    assert str(path) in said and "Traceback" not in said


def test_a_long_local_sweep_asks_and_without_a_terminal_refuses(
    write: Write, here: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_local, "LONG_S", 1.0)
    assert main([str(write()), *here]) == 2
    assert "Add --yes" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(("minutes", "said"), [(1, "training"), (34, "training, silent for 34 min")])
def test_a_run_that_says_nothing_for_long_is_said_to_be_silent(tmp_path: Path, minutes: int, said: str) -> None:
    folder = RunFolder(tmp_path)
    write_json(folder.progress, {"stage": "training", "time": time.time() - 60 * minutes})
    assert progress(folder)[0] == said


def test_status_logs_and_retry_read_files_alone(
    write: Write, here: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path / "results")
    assert main(["--status", *here]) == 0 and "nothing was swept here yet" in words(capsys.readouterr().out)
    plan = make_plan(load_experiment(write()), store)
    record(plan)
    first, second = list(plan.runs)[:2]
    for run in (first, second):
        failure = {
            "run": run,
            "attempt": 1,
            "cause": "code",
            "type": "ValueError",
            "message": "odd",
            "fingerprint": "f",
        }
        write_json(store.run(run).failure, failure)
    assert main(["--status", *here]) == 1
    said = words(capsys.readouterr().out)
    assert "small@smoke" in said and "2 code ValueError: odd" in said, "one row for one fault"
    store.run(first).log.write_text("a line of the log\n")
    began = {"attempt": 1, "host": "node7", "job": "7_0", "restarts": 2, "start": "2026-11-20T10:00:00Z"}
    write_json(store.run(first).attempts / "001.json", began)
    assert main(["--logs", first[:6], *here]) == 0
    said = capsys.readouterr().out
    assert "a line of the log" in said and "attempt 1 on node7, job 7_0, restart 2: since 2026" in said
    assert main(["--logs", "zzz", *here]) == 2 and "begins so" in capsys.readouterr().err
    assert main(["--status", str(tmp_path / "smal.yaml"), *here]) == 2
    assert "did you mean 'small@smoke'?" in capsys.readouterr().err
    assert main(["--cancel", *here]) == 0 and "Nothing is running" in capsys.readouterr().out


def test_status_needs_no_torch() -> None:
    code = (
        "import sys; from harness.sweep.__main__ import main; main(['--status', '--results', '/nonexistent/x/..']);"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- several files, and --retry -------------------------------------------------------------------------------------

MORE_SEEDS = (("seeds: 2", "seeds: 3"), ("runs: 4", "runs: 6"))
NO_DATA = (("{synthetic: {train_images: 64, test_images: 32}}", "{cifar10: {}}"),)


class Started:
    """In the place of :func:`harness.sweep.local.run_local.run_here`: what would have run, file by file."""

    def __init__(self, *, stopped: bool = False) -> None:
        self.runs: list[list[str]] = []
        self.stopped = stopped

    def __call__(self, console: object, plan: Plan, runs: list[object], *_: object, **__: object) -> Outcome:
        self.runs.append([one.folder.id for one in runs])  # type: ignore[attr-defined]
        return Outcome(stopped=self.stopped)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    made = Started()
    monkeypatch.setattr(run_local, "run_here", made)
    return made


def test_a_signal_stops_the_files_that_have_not_begun_too(write: Write, here: list[str], started: Started) -> None:
    started.stopped = True
    assert main([str(write()), str(write(*MORE_SEEDS, name="second")), *here]) == 130
    assert len(started.runs) == 1


def test_the_last_file_is_checked_before_the_first_starts(
    write: Write, here: list[str], tmp_path: Path, started: Started, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(write()), str(write(*NO_DATA, name="second")), *here]) == 2
    assert "python -m harness.data cifar10" in capsys.readouterr().err
    assert not started.runs and not (tmp_path / "results").exists()


def test_one_question_for_all_files_and_shared_runs_count_once(
    write: Write, here: list[str], tmp_path: Path, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    monkeypatch.setattr(run_local, "confirm_long", lambda _, cost, *, yes: bool(asked.append(cost.wall_seconds)))
    first, second = str(write()), str(write(*MORE_SEEDS, name="second"))
    here += ["--jobs", "1"]
    assert [main([*files, *here]) for files in ([first], [second], [first, second], [second, first])] == [2] * 4
    assert asked[1] == pytest.approx(1.5 * asked[0])
    assert asked[2] == pytest.approx(asked[1]) and asked[3] == pytest.approx(asked[1])
    assert not started.runs and not (tmp_path / "results").exists()


def failing(write: Write, tmp_path: Path, attempt: int = 1) -> Plan:
    """All four runs of the small experiment failed."""
    plan = make_plan(load_experiment(write()), Store(tmp_path / "results"))
    record(plan)
    for one in plan.runs.values():
        failure = {"run": one.folder.id, "attempt": attempt, "cause": "code", "type": "ValueError", "message": "odd"}
        write_json(one.folder.failure, failure)
    return plan


def test_retry_is_of_the_runs_that_were_chosen(write: Write, here: list[str], tmp_path: Path, started: Started) -> None:
    plan = failing(write, tmp_path)
    chosen = {one.folder.id for one in plan.runs.values() if one.run.seed == 0}
    main([str(write()), *here, "--retry", "--seeds", "0"])
    assert [set(runs) for runs in started.runs] == [chosen]
    for one in plan.runs.values():
        assert one.folder.failure.exists() is (one.folder.id not in chosen)
        assert (one.folder.attempts / "failed-001.json").exists() is (one.folder.id in chosen)


def test_plan_counts_what_retry_would_run_and_lays_nothing_aside(
    write: Write, here: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = failing(write, tmp_path)
    assert main([str(write()), *here, "--plan"]) == 0 and "0 to do" in words(capsys.readouterr().out)
    assert main([str(write()), *here, "--plan", "--retry"]) == 0 and "4 to do" in words(capsys.readouterr().out)
    assert all(one.folder.state() is State.FAILED for one in plan.runs.values())


@pytest.mark.parametrize("refused", ["data", "question"])
def test_a_retry_that_is_refused_lays_nothing_aside(
    write: Write, here: list[str], tmp_path: Path, started: Started, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    plan = failing(write, tmp_path)
    files = [str(write())]
    if refused == "data":
        files.append(str(write(*NO_DATA, name="second")))
    else:
        monkeypatch.setattr(run_local, "confirm_long", lambda *_, **__: False)
    assert main([*files, *here, "--retry"]) == 2
    assert not started.runs and all(one.folder.failure.exists() for one in plan.runs.values())


def test_failures_without_an_attempt_do_not_overwrite_each_other(
    write: Write, here: list[str], tmp_path: Path, started: Started
) -> None:
    for _ in range(2):
        plan = failing(write, tmp_path, attempt=0)
        main([str(write()), *here, "--retry"])
    for one in plan.runs.values():
        assert {path.name for path in one.folder.attempts.iterdir()} == {"failed-000.json", "failed-001.json"}


def test_retry_asks_again_for_what_could_not_be_had(
    write: Write, here: list[str], tmp_path: Path, started: Started
) -> None:
    plan = make_plan(load_experiment(write()), Store(tmp_path / "results"))
    record(plan)
    first = next(iter(plan.runs.values())).folder
    write_json(first.outcome, {"run": first.id, "status": "trained"})
    first.weights.parent.mkdir()
    first.weights.write_bytes(b"")
    held = first.evaluation(plan.evaluations[0].id)
    write_json(held, {"run": first.id, "values": {}, "unavailable": "no such data", "wall_seconds": 0.0})
    main([str(write()), *here, "--only", first.id])
    assert started.runs == [] and held.exists()
    main([str(write()), *here, "--only", first.id, "--retry"])
    assert started.runs == [[first.id]] and not held.exists()


# --- flags ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--status", "--only", "3f"], "--status does not take --only"),
        (["--status", "--seeds", "0"], "--status does not take --seeds"),
        (["--logs", "3f", "--only", "3f"], "--logs does not take --only"),
        (["--cancel", "--seeds", "0", "--retry"], "--cancel does not take --seeds, --retry"),
        (["--status", "-o", "norm.groups=2"], "--status does not take -o"),
        (["--status", "--jobs", "4"], "--status does not take --jobs"),
        (["--status", "--scale", "smoke"], "--status does not take --scale without a file"),
        (["--logs", "3f", "some.yaml"], "--logs does not take a file"),
        (["--schema", "--scale", "nope", "none.yaml"], "--schema does not take a file, --scale"),
    ],
)
def test_a_choice_that_would_be_ignored_is_refused(
    here: list[str], capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main([*here, *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--only", ""],
        ["--only", " , "],
        ["--scale", ""],
        ["--results", ""],
        ["--data", " "],
        ["--logs", ""],
    ],
)
def test_an_empty_value_is_refused_and_never_means_more(
    write: Write, started: Started, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    """Of an unset variable: ``--only "$ID"`` would be all runs, ``--results "$DIR"`` the working directory."""
    with pytest.raises(SystemExit) as left:
        main([str(write()), "--cluster", "local", *arguments])
    assert left.value.code == 2 and "the value is empty" in capsys.readouterr().err
    assert not started.runs


def test_what_is_asked_for_decides_the_exit_code(
    write: Write, here: list[str], tmp_path: Path, started: Started, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = failing(write, tmp_path)
    first, second, *_ = plan.runs.values()
    first.folder.failure.unlink()
    write_json(first.folder.outcome, {"run": first.folder.id, "status": "diverged"})
    assert main([str(write()), *here, "--only", first.folder.id]) == 0
    assert "Done; of 4 runs 1 were asked for" in words(capsys.readouterr().out)
    assert main([str(write()), *here, "--only", first.folder.id, "--retry"]) == 0
    assert main([str(write()), *here, "--only", second.folder.id]) == 1
    assert "1 run was left out: failed before" in words(capsys.readouterr().out)
    assert not started.runs


def test_the_plan_says_how_many_were_chosen(write: Write, here: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(write()), *here, "--plan", "--seeds", "0"]) == 0
    assert "4 to do 2 of these chosen" in words(capsys.readouterr().out)
    assert main([str(write()), *here, "--plan"]) == 0
    assert "chosen" not in capsys.readouterr().out


def test_the_plan_names_what_a_start_would_refuse(
    write: Write, here: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(write(*NO_DATA)), *here, "--plan", "--processes-per-run", "3"]) == 0
    said = words(capsys.readouterr().out)
    assert said.count("a start would be refused") == 2
    assert "python -m harness.data cifar10" in said and "batch size 32" in said


def test_a_finished_plan_looks_for_nothing_inert(
    write: Write, here: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.sweep.plan import no_effect

    looked: list[int] = []
    monkeypatch.setattr(no_effect, "inert", lambda runs: looked.append(len(runs)) or [])
    assert main([str(write()), *here, "--plan"]) == 0 and looked == [2]
    failing(write, tmp_path)
    assert main([str(write()), *here, "--plan"]) == 0 and looked == [2]


def test_the_remedy_of_an_unreadable_run_is_not_cut_off(
    write: Write, here: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = make_plan(load_experiment(write()), Store(tmp_path / "results"))
    record(plan)
    for one in plan.runs.values():
        one.folder.spec.write_text('{"id": "')
    assert main([str(write()), *here, "--plan"]) == 0
    said = words(capsys.readouterr().out)
    assert "Nothing else to do: see the 4 runs below" in said
    assert "move it away, and the next sweep" in said


@pytest.mark.parametrize("text", ["[]", "{}", "7"])
def test_an_attempt_that_is_none_hides_no_log(
    write: Write, here: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    plan = failing(write, tmp_path)
    folder = next(iter(plan.runs.values())).folder
    folder.attempts.mkdir()
    (folder.attempts / "001.json").write_text(text)
    folder.log.write_text("a line of the log\n")
    assert main(["--logs", folder.id, *here]) == 0 and "a line of the log" in capsys.readouterr().out


def test_cancel_counts_what_it_cancels(
    write: Write, here: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.store.results import RunFolder
    from harness.sweep import status

    plan = make_plan(load_experiment(write()), Store(tmp_path / "results"))
    record(plan)
    first = next(iter(plan.runs))
    real = RunFolder.lock_state
    monkeypatch.setattr(
        RunFolder, "lock_state", lambda self, job=None: State.RUNNING if self.id == first else real(self, job)
    )
    monkeypatch.setattr(status, "_terminate", lambda _: True)
    assert main(["--cancel", *here]) == 2
    assert "Stop 1 run and call off 3 more that are not done, of small@smoke?" in capsys.readouterr().err
    assert main(["--cancel", "--yes", *here]) == 0
    said = words(capsys.readouterr().out)
    assert "Asked 1 local process to save and stop, called off 3 runs that had not begun." in said and "job" not in said
    assert main(["--cancel", "--only", "zzz", *here]) == 2


@pytest.mark.parametrize("made", [parser(), torchrun.parser()], ids=["sweep", "torchrun"])
def test_every_option_says_what_it_does(made: argparse.ArgumentParser) -> None:
    assert not [action.dest for action in made._actions if not action.help]


def test_torchrun_refuses_what_the_sweep_refuses(
    write: Write, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [str(write()), "--results", str(tmp_path / "results"), "--data", str(tmp_path)]
    with pytest.raises(SystemExit) as left:
        torchrun.main([*arguments, "--images-per-pass", "-5"])
    assert left.value.code == 2 and "not a number from 1" in capfd.readouterr().err
    assert torchrun.main([*arguments, "--only", "zzz"]) == 2
    assert "--only zzz: no run of small@smoke begins so" in capfd.readouterr().out
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "experiments").write_text("in the way")
    monkeypatch.setattr(torchrun.distributed, "initialise", lambda _: None)
    monkeypatch.setattr(torchrun.distributed, "shutdown", lambda: None)
    assert torchrun.main(arguments) == 2
    said = capfd.readouterr()
    assert str(tmp_path / "results" / "experiments") in said.err and "Traceback" not in said.err + said.out


def test_torchrun_writes_down_which_code_its_results_are_of(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.store import provenance

    monkeypatch.setattr(torchrun.distributed, "initialise", lambda _: None)
    monkeypatch.setattr(torchrun.distributed, "shutdown", lambda: None)
    shared: list[str] = []
    monkeypatch.setattr(torchrun, "_share", lambda one: bool(shared.append(one.folder.id)))
    store = Store(tmp_path / "results")
    assert torchrun.main([str(write()), "--results", str(store.root), "--data", str(tmp_path)]) == 0
    assert len(shared) == 4
    assert read_json(store.sources / f"{provenance.code_fingerprint()}.json") == dict(provenance.numeric_files())


def test_help_begins_with_what_to_type(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    said = capsys.readouterr().out
    first = EXAMPLES.splitlines()[1] % {"prog": "python -m harness.sweep"}
    assert left.value.code == 0 and first in said and "exit codes" in said


def test_the_committed_schema_is_current() -> None:
    path = ROOT / "experiments" / "experiment.schema.json"
    said = "python -m harness.sweep --schema > experiments/experiment.schema.json"
    assert path.read_text(encoding="utf-8") == schema_text(), said


def test_the_schema_knows_every_component() -> None:
    from harness.config.registry import REGISTRIES

    definitions = schema()["$defs"]
    for kind, registry in REGISTRIES.items():
        assert definitions[kind]["anyOf"][0]["enum"] == sorted(registry.names())
        for one in definitions[kind]["anyOf"][1:]:
            ((name, shape),) = one["properties"].items()
            assert set(shape["anyOf"][0].get("properties", {})) == set(registry.fields(name))
    text = json.dumps(schema())
    for reference in {part.split('"')[0] for part in text.split('"#/$defs/')[1:]}:
        assert reference in definitions


@pytest.mark.slow
def test_a_sweep_from_end_to_end_and_again(write: Write, tmp_path: Path) -> None:
    """The real loop on synthetic images: trains four runs, then none; a failing one fails alone; --retry mends it."""

    def sweep(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "harness.sweep", *arguments, "--cluster", "local"]
        command += ["--results", str(tmp_path / "results"), "--data", str(tmp_path)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    path = str(write())
    first = sweep(path)
    assert first.returncode == 0, first.stdout + first.stderr
    assert first.stdout.count("  done  ") == 4
    again = sweep(path)
    assert again.returncode == 0 and "Nothing left to do" in words(again.stdout) and "start" not in again.stdout
    ids = [folder.id for folder in Store(tmp_path / "results").all_runs()]
    assert len(ids) == 4
    broken = Store(tmp_path / "results").run(ids[0])
    broken.outcome.unlink()
    broken.weights.unlink()
    write_json(broken.failure, {"run": ids[0], "attempt": 1, "type": "ValueError", "message": "odd", "cause": "code"})
    assert sweep(path).returncode == 1
    mended = sweep(path, "--retry", "--only", ids[0][:8])
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert (broken.attempts / "failed-001.json").exists() and not broken.failure.exists()
