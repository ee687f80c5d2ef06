"""What --status says of how attempts ended."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from harness.store.attempts import Attempt, fail
from harness.store.causes import Cause
from harness.store.results import RunFolder, State, write_json
from harness.sweep.display.failures import endings, show_endings


def ended(root: Path, cause: Cause | None) -> tuple[RunFolder, State]:
    folder = RunFolder(root / f"{cause}")
    if cause is not None:
        Attempt.begin(folder).end(cause, "so it was")
        if cause.failed:
            fail(folder, cause, {"type": "T", "message": "m", "fingerprint": "f"}, 1)
        if cause is Cause.DIVERGED:
            write_json(folder.outcome, {"run": folder.id, "status": "diverged"})
    return folder, folder.state()


def test_every_class_has_its_line_and_what_was_never_tried_has_none(tmp_path: Path) -> None:
    found = endings([ended(tmp_path, cause) for cause in (None, *Cause)])
    assert found == {cause: 1 for cause in Cause if cause is not Cause.DONE}
    stream = io.StringIO()
    show_endings(Console(file=stream, width=300), found)
    assert stream.getvalue().splitlines() == [
        f"1 {cause}: {cause.policy}" for cause in Cause if cause is not Cause.DONE
    ]


def test_silence_is_a_node_failure_and_damage_hides_nothing(tmp_path: Path) -> None:
    folder, _ = ended(tmp_path, Cause.CODE)
    folder.failure.write_text('{"run')
    (folder.attempts / "001.json").write_text('{"att')
    assert endings([(folder, State.FAILED), (folder, State.TODO)]) == {}
    assert endings([(folder, State.UNKNOWN)]) == {Cause.NODE: 1}
