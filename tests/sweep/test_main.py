"""The command line: what it says, how it ends, and that bad input leaves nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.spec.experiment import load_experiment
from harness.store import Store, write_json
from harness.sweep import local
from harness.sweep.__main__ import EXAMPLES, main
from harness.sweep.plan import make_plan
from harness.sweep.schema import schema, schema_text

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
    assert "4 to do" in said and "a cautious guess" in said
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("changes", "arguments", "said"),
    [
        ([("seeds: 2", "sedes: 2")], [], "small.yaml:10: unknown key 'sedes': did you mean 'seeds'?"),
        ([("runs: 4", "runs: four")], [], "small.yaml:11: runs: "),
        ([("[0.1, 0.5]", "[]")], [], "has no values"),
        ([("vary:\n  - objective.nt_xent.temperature: [0.1, 0.5]", "vary: []")], [], "vary is empty"),
        ([("runs: 4", "runs: 4\nruns: 4")], [], "small.yaml:12: found duplicate key"),
        ([("seeds: 2", "seeds: [2")], [], "not valid YAML"),
        ([], ["--scale", "smok"], "--scale: unknown scale 'smok': did you mean 'smoke'?"),
        ([], ["-o", "norm.groups"], "expected PATH=VALUE"),
        ([], ["-o", "norm.grups=2"], "did you mean 'norm.groups'?"),
        ([], ["--only", "zzz"], "--only zzz: no run of small@smoke begins so"),
        ([], ["--cluster", "slrm"], "--cluster slrm: did you mean 'slurm'?"),
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


def test_a_missing_file_and_no_file(here: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nowhere.yaml", *here]) == 2 and "nowhere.yaml: no such file" in capsys.readouterr().err
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
    monkeypatch.setattr(local, "LONG_S", 1.0)
    assert main([str(write()), *here]) == 2
    assert "Add --yes" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_status_logs_and_retry_read_files_alone(
    write: Write, here: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from harness.sweep.record import record

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
    assert main(["--logs", first[:6], *here]) == 0 and "a line of the log" in capsys.readouterr().out
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


def test_help_begins_with_what_to_type(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    said = capsys.readouterr().out
    assert left.value.code == 0 and EXAMPLES.splitlines()[1] in said and "exit codes" in said


def test_the_committed_schema_is_current() -> None:
    path = ROOT / "experiments" / "experiment.schema.json"
    said = "python -m harness.sweep --schema > experiments/experiment.schema.json"
    assert path.read_text(encoding="utf-8") == schema_text(), said


def test_the_schema_knows_every_component() -> None:
    from harness.spec.registry import REGISTRIES

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
    assert again.returncode == 0 and "Nothing is left to do" in words(again.stdout) and "start" not in again.stdout
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
