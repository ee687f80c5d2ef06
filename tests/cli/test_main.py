"""The command ``harness``: what its sub-commands start, print and refuse, and what they do not import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import webbrowser
from collections.abc import Callable
from pathlib import Path

import pytest

import harness
from harness.cli import __main__ as cli
from harness.cli.__main__ import main, parser
from harness.config import builtin
from harness.config.experiment import load_experiment
from harness.report.__main__ import main as report
from harness.report.judge.judging import judge_all
from harness.report.read.collect import collect
from harness.store.results import RunFolder, State, Store, write_json
from harness.sweep import status
from harness.sweep.__main__ import main as sweep
from harness.sweep.local import run_local
from harness.sweep.local.pool import Outcome
from harness.sweep.plan.manifest import record
from harness.sweep.plan.plan import Plan, make_plan

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = ("run", "plan", "status", "logs", "cancel", "retry", "report", "data", "doctor")
Write = Callable[..., Path]


@pytest.fixture
def here(tmp_path: Path) -> list[str]:
    return ["--results", str(tmp_path / "results"), "--data", str(tmp_path / "data"), "--cluster", "local"]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Ids of the runs that would have run, command by command."""
    found: list[list[str]] = []

    def run_here(console: object, plan: Plan, runs: list[object], *_: object, **__: object) -> Outcome:
        found.append([one.folder.id for one in runs])  # type: ignore[attr-defined]
        return Outcome()

    monkeypatch.setattr(run_local, "run_here", run_here)
    return found


def planned(write: Write, tmp_path: Path) -> Plan:
    """A sweep that was begun: its manifest and specifications are there, and no run has started."""
    plan = make_plan(load_experiment(write()), Store(tmp_path / "results"))
    record(plan)
    return plan


# --- what it imports


def modules_after(*commands: list[str]) -> set[str]:
    """Top-level modules of an interpreter that has run these commands."""
    code = (
        "import sys, contextlib, io; from harness.cli.__main__ import main\n"
        f"for one in {commands!r}:\n"
        "    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()): main(one)\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


HEAVY = {"torch", "torchvision", "pandas", "matplotlib", "scipy", "submitit", "timm"}


def test_help_imports_no_library_at_all() -> None:
    """A tenth of a second: argparse and this package alone. (``benchmarks`` has the times.)"""
    found = modules_after([], ["--help"], *([one, "--help"] for one in COMMANDS))
    assert not found & (HEAVY | {"numpy", "pydantic", "rich", "ruamel", "argcomplete", "PIL"})


def test_looking_imports_nothing_heavy(write: Write, tmp_path: Path) -> None:
    run = next(iter(planned(write, tmp_path).runs))
    results = ["--results", str(tmp_path / "results")]
    assert not modules_after(["status", *results], ["status", "--json", *results], ["logs", run, *results]) & HEAVY


def test_every_command_and_option_says_what_it_does() -> None:
    """And every command has examples, which call it by the name that was typed."""
    (commands,) = (action for action in parser()._actions if action.dest == "command")
    assert set(commands.choices or ()) == set(COMMANDS)
    for name, one in dict(commands.choices or {}).items():
        assert not [action.dest for action in one._actions if not action.help and action.dest != "name"], name
        assert name == "data" or f"  harness {name}" in one.format_help(), name


# --- running


def test_run_and_retry_start_what_the_module_starts(
    write: Write, here: list[str], tmp_path: Path, started: list[list[str]]
) -> None:
    plan = planned(write, tmp_path)
    first = next(iter(plan.runs.values()))
    write_json(first.folder.failure, {"cause": "code", "type": "ValueError", "message": "odd", "fingerprint": "f"})
    assert [main(["run", str(write()), *here]), sweep([str(write()), *here])] == [1, 1]
    assert started[0] == started[1] and len(started[0]) == 3
    assert main(["retry", str(write()), *here]) == 0
    assert first.folder.id in started[2] and len(started[2]) == 4


def test_names_are_those_of_built_in_experiments(
    here: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "temperature").mkdir()  # a folder of that name is no experiment
    for name in ("temperature", "temperature.yaml"):
        assert main(["plan", name, "--scale", "smoke", "--json", *here]) == 0
        (said,) = json.loads(capsys.readouterr().out)
        plan = make_plan(load_experiment(ROOT / "experiments" / "temperature.yaml", "smoke"), Store(tmp_path / "none"))
        assert [one["id"] for one in said["runs"]] == list(plan.runs)
    (tmp_path / "temperature.yaml").write_text("title: mine\n")
    assert builtin.experiment_path(Path("temperature.yaml")) == Path("temperature.yaml"), "a file of one's own wins"
    assert main(["plan", "temprature", *here]) == 2
    assert "did you mean 'temperature'?" in capsys.readouterr().err


def test_the_plan_lists_arm_seed_and_id(
    write: Write, here: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = make_plan(load_experiment(write()), Store(tmp_path / "results"))
    chosen = next(iter(plan.runs))
    assert main(["plan", str(write()), "--only", chosen, "--list", *here]) == 0
    lines = capsys.readouterr().out.splitlines()
    for run, one in plan.runs.items():
        (line,) = (line for line in lines if run in line)
        assert line.split() == [*(["*"] if run == chosen else []), run, str(one.run.seed), "to", "do", "temperature",
                                str(one.run.objective["nt_xent"]["temperature"])]  # fmt: skip


def test_the_plan_as_json_has_what_the_screen_has(
    write: Write, here: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(write()), "--seeds", "1", "-o", "schedule.epochs=2", *here]
    assert main(["plan", *arguments, "--json"]) == 0
    out = capsys.readouterr()
    (said,) = json.loads(out.out)
    assert not out.err and not (tmp_path / "results").exists()
    assert said["overrides"] == {"schedule.epochs": 2} and said["cost"]["runs"] == 2 and said["where"] == "local"
    assert [one["chosen"] for one in said["runs"]] == [one["seed"] == 1 for one in said["runs"]]
    temperatures = {one["settings"]["objective.nt_xent.temperature"] for one in said["runs"]}
    assert temperatures == {0.1, 0.5} and not said["refused"]
    missing = write(("{synthetic: {train_images: 64, test_images: 32}}", "{cifar10: {}}"))
    assert main(["plan", str(missing), "--json", *here]) == 0
    (said,) = json.loads(capsys.readouterr().out)
    assert len(said["refused"]) == 1


@pytest.mark.parametrize(
    ("minutes", "person", "yes", "code"),
    [(11, True, False, 2), (9, True, False, 0), (11, True, True, 0), (11, False, False, 0), (481, False, False, 2)],
)
def test_more_than_ten_minutes_are_asked_for(
    write: Write, here: list[str], started: list[list[str]], monkeypatch: pytest.MonkeyPatch,
    minutes: int, person: bool, yes: bool, code: int,
) -> None:  # fmt: skip
    """Where nobody can be asked, more than eight hours are refused."""
    from harness.sweep import command

    real = command.replace
    monkeypatch.setattr(command, "replace", lambda cost, **_: real(cost, wall_seconds=60.0 * minutes))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: person)
    monkeypatch.setattr("builtins.input", lambda *_: "n")
    assert main(["run", str(write()), *here, *(["--yes"] if yes else [])]) == code
    assert len(started) == (code == 0)


# --- looking


def test_status_as_json_counts_runs_and_names_overrides(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path / "results")
    plan = make_plan(load_experiment(write()), store, overrides={"views.both": ["crop"]})
    record(plan)
    first = next(iter(plan.runs))
    write_json(store.run(first).failure, {"cause": "code", "type": "ValueError", "message": "odd"})
    assert main(["status", "--json", "--results", str(store.root)]) == 0
    (said,) = json.loads(capsys.readouterr().out)
    assert said["overrides"] == {"views.both": ["crop"]} and said["states"] == {"failed": 1, "to do": 3}
    assert {one["id"]: one["state"] for one in said["runs"]}[first] == "failed"
    assert main(["status", "--results", str(store.root)]) == 1
    assert f'{said["sweep"]}: -o views.both=["crop"]' in capsys.readouterr().out.splitlines()


def test_status_is_shown_again_until_it_is_interrupted(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    planned(write, tmp_path)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(status.time, "sleep", sleep)
    assert main(["status", "--watch", "7", "--results", str(tmp_path / "results")]) == 130
    assert slept == [7, 7, 7] and capsys.readouterr().out.count("small@smoke") == 3


def test_a_log_is_followed_while_the_run_is_alive(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(write, tmp_path)
    folder = next(iter(plan.runs.values())).folder
    folder.log.write_text("first\n", encoding="utf-8")
    lines = ["second\n", "its last words\n"]

    def sleep(_: float) -> None:
        with folder.log.open("a", encoding="utf-8") as log:
            log.write(lines.pop(0))

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(RunFolder, "lock_state", lambda _: State.RUNNING if lines else State.TODO)
    arguments = ["logs", folder.id[:6], "--results", str(tmp_path / "results")]
    assert main(arguments) == 0 and "second" not in capsys.readouterr().out
    assert main([*arguments, "-f"]) == 0
    assert capsys.readouterr().out.endswith("first\nsecond\nits last words\n")


# --- the report


@pytest.fixture
def results() -> Path:
    return ROOT / "results"


def test_a_page_goes_to_a_file_and_not_to_a_terminal(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "results" / "experiments").mkdir(parents=True)
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    page = tmp_path / "pages" / "report.html"
    assert main(["report", str(tmp_path / "results"), "-o", str(page), "--open"]) == 0
    assert not capsysbinary.readouterr().out and opened == [page.as_uri()]
    assert report([str(tmp_path / "results")]) == 0 and capsysbinary.readouterr().out == page.read_bytes()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    for command in (lambda: main(["report", str(tmp_path / "results")]), lambda: report([str(tmp_path / "results")])):
        with pytest.raises(SystemExit) as left:
            command()
        out, err = capsysbinary.readouterr()
        assert left.value.code == 2 and not out and b"-o report.html" in err
    assert main(["report", str(tmp_path / "results"), "--format", "csv"]) == 0, "a table may be read there"


def test_claims_as_json_are_the_verdicts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(ROOT / "results"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert {one["key"]: one["verdict"] for one in said} == {
        one.key: str(one.ours.verdict) for one in judge_all(collect(ROOT / "results"))
    }
    for one in said:
        low, high = one["interval"] or (None, None)
        assert low is None or low <= one["estimate"] <= high


# --- what is refused, and completion


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["stauts"], "harness: no command 'stauts': did you mean 'status'?"),
        (["status", "--jsno"], "harness status: unknown argument --jsno: did you mean --json?"),
        (["run", "x", "--jobs", "0"], "argument --jobs: '0' is not a number from 1"),
        (["run", "x", "--budget", "40"], "which unit? write 40h for hours"),
        (["plan", "x", "--yes"], "harness plan: unknown argument --yes"),
        (["report", "--open"], "name it, e.g. -o report.html"),
        (["report", "--check", "-o", "x"], "--check and --accept write none"),
        (["data", "cifar11"], "harness data: no data set 'cifar11': did you mean 'cifar10'?"),
        (["doctor", "--scale", "micro"], "name one"),
        (["logs", ""], "the value is empty"),
    ],
)
def test_bad_usage_is_one_line_and_2(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    err = capsys.readouterr().err
    assert left.value.code == 2 and said in err and err.count("\n") == 1


@pytest.mark.parametrize("where", ["/proc/results", "/dev/null"])
def test_a_folder_that_cannot_be_written_is_named_with_the_reason(
    write: Write, started: list[list[str]], capsys: pytest.CaptureFixture[str], where: str
) -> None:
    assert main(["run", str(write()), "--results", where]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"--results {where}: ") and err.count("\n") == 1 and not started


def test_no_command_is_help_and_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2 and "examples:" in capsys.readouterr().out
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0 and capsys.readouterr().out == f"harness {harness.__version__}\n"


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("harness sta", {"status"}),
        ("harness run temperat", {"temperature"}),
        ("harness report --form", {"--format"}),
        ("harness logs ab --results RESULTS ", set()),
        ("harness logs --results RESULTS a", {"a1b2c3"}),
    ],
)
def test_the_shell_completes(tmp_path: Path, line: str, completed: set[str]) -> None:
    (tmp_path / "results" / "runs" / "a1b2c3").mkdir(parents=True)
    line = line.replace("RESULTS", str(tmp_path / "results"))
    words = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9"}
    files = {"_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "out"), "_ARGCOMPLETE_IFS": "\n"}
    command = [sys.executable, "-m", "harness.cli"]
    subprocess.run(command, cwd=tmp_path, env={**os.environ, **words, **files}, check=True)
    found = (tmp_path / "out").read_text().split("\n")
    assert {one.strip() for one in found if not one.startswith("-") or "--form" in line} - {""} == completed


@pytest.mark.parametrize("shell", cli.SHELLS)
def test_code_for_shells(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--completion", shell]) == 0
    assert "harness" in capsys.readouterr().out
