"""A person at the keyboard, a reader that goes away, a disk that is full behind ``>``."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from harness.store.causes import Cause
from harness.store.results import Store
from harness.sweep.display.console import agreed
from harness.sweep.display.live import Watch
from harness.sweep.local.pool import Pool

ROOT = Path(__file__).resolve().parents[3]


def on_a_terminal(width: int) -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, width=width, force_terminal=True, color_system=None), text


# --- questions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "yes"), [("y\n", True), ("perhaps\ny\n", True), ("n\n", False), ("\n", False), ("", False)]
)
def test_a_question_shows_what_can_be_answered_and_no_answer_is_no(
    typed: str, yes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    console, text = on_a_terminal(80)
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    assert agreed(console, "Go on?", "Nothing was started.") is yes
    assert "Go on? [y/n] (n): " in text.getvalue()
    assert ("Nothing was started." in text.getvalue()) is not yes


# --- the live table -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [120, 80, 60])
def test_the_live_table_stands_under_its_header_and_cuts_nothing_but_the_label(width: int, results: Store) -> None:
    console, text = on_a_terminal(width)
    label = "targeted [crop, color], temperature 0.1, and further words that no terminal has room for, seed 0"
    watch = Watch(console, 4, 2, 3.0, {"a" * 12: label, "b" * 12: "short"})
    console.print(watch._picture([results.run("a" * 12), results.run("b" * 12)]))
    _, _, header, first, second = text.getvalue().splitlines()
    assert header.split() == ["run", "what", "stage", "epoch", "images/s", "left"]
    assert first.startswith("a" * 12) and second.startswith("b" * 12)
    assert first.index("targeted") == second.index("short") == header.index("what")
    assert first.index("starting") == header.index("stage") and "…" in first


def test_what_was_cut_off_is_not_done(results: Store) -> None:
    console, text = on_a_terminal(80)
    watch = Watch(console, 5, 1, 3.0, {})
    for index, cause in enumerate([Cause.DONE, Cause.DIVERGED, Cause.INTERRUPTED, Cause.CODE]):
        watch.started(results.run(f"run{index}"))
        watch.ended(results.run(f"run{index}"), cause, "")
    assert "2 of 5 done, 0 running, 1 failed, 1 cut off or elsewhere" in watch._summary([])
    text.truncate(0)
    watch.ended(results.run("run9"), Cause.INTERRUPTED, "cancelled")
    assert text.getvalue().rstrip().endswith("interrupted run9    cancelled"), "it never began: no time is said"


def test_ctrl_c_is_acknowledged_once_and_not_by_the_handler(results: Store) -> None:
    heard: list[str] = []

    class View:
        def note(self, text: str) -> None:
            heard.append(text)

    pool = Pool([], (), None, View(), jobs=1)  # type: ignore[arg-type]
    pool.children = [object()]  # type: ignore[list-item]
    pool.told = True
    pool._acknowledge()
    pool._acknowledge()
    assert len(heard) == 1 and "Ctrl-C again" in heard[0]


# --- readers that go away -------------------------------------------------------------------------------------------


def piped(code: str, command: str) -> subprocess.CompletedProcess[str]:
    """``code`` in an interpreter whose output goes through ``command``; its exit code is the last line."""
    shell = f'{{ "{sys.executable}" -c "$CODE"; echo "exit code $?" >&2; }} {command}'
    return subprocess.run(
        ["bash", "-c", shell], cwd=ROOT, env={**os.environ, "CODE": code}, capture_output=True, text=True, check=False
    )


MANY_LINES = """
import sys
from harness.sweep.display.console import Screen
screen = Screen(goes_on={goes_on}, width=80)
for _ in range(20_000):
    screen.print("a line of a long table")
print("to the end", file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("goes_on", "command", "code", "said"),
    [
        (True, "| head -1", 0, "to the end"),
        (False, "| head -1", 0, ""),
        (True, "> /dev/full", 0, "No space left on device; the sweep continues without output\nto the end"),
        (False, "> /dev/full", 2, "standard output: No space left on device\n"),
    ],
)
def test_a_sweep_outlives_its_reader_and_a_table_ends_with_it(
    goes_on: bool, command: str, code: int, said: str
) -> None:
    done = piped(MANY_LINES.format(goes_on=goes_on), command)
    assert done.stderr.endswith(f"exit code {code}\n") and said in done.stderr, done.stderr
    assert ("to the end" in done.stderr) is goes_on and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("module", "arguments"),
    [("harness.sweep", ["--status"]), ("harness.sweep", ["--schema"]), ("harness.report", ["--format", "csv"])],
)
def test_no_room_for_the_answer_is_2_and_one_line(module: str, arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "results" / "runs").mkdir(parents=True)
    (tmp_path / "results" / "experiments").mkdir(parents=True)
    where = [str(tmp_path / "results")] if module == "harness.report" else ["--results", str(tmp_path / "results")]
    code = (
        f"import sys, runpy; sys.argv[1:] = {[*arguments, *where]}; runpy.run_module('{module}', run_name='__main__')"
    )
    done = piped(code, "> /dev/full")
    assert done.stderr.splitlines()[-1] == "exit code 2", done.stderr
    assert "standard output: No space left on device" in done.stderr and len(done.stderr.splitlines()) == 2
