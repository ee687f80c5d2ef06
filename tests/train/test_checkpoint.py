"""Checkpoints: whole or passed over, two kept, never unpickled."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import pytest
import torch

from harness.train import checkpoint

CPU = torch.device("cpu")


def state(step: int) -> dict[str, object]:
    return {"step": step, "weights": {"w": torch.arange(5.0) + step}, "history": [{"loss": 0.5}]}


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "a.pt", state(3))
    loaded = checkpoint.load(tmp_path / "a.pt", CPU)
    assert loaded["step"] == 3 and torch.equal(loaded["weights"]["w"], torch.arange(5.0) + 3)


def test_two_are_kept_and_the_newest_is_taken(tmp_path: Path) -> None:
    for step in (1, 2, 10):
        checkpoint.save_step(tmp_path, step, state(step))
    assert len(list(tmp_path.iterdir())) == checkpoint.KEPT == 2
    newest = checkpoint.load_newest(tmp_path, CPU)
    assert newest is not None and newest["step"] == 10


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "half a header"])
def test_a_damaged_file_is_passed_over(tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    for step in (1, 2):
        checkpoint.save_step(tmp_path, step, state(step))
    newest = max(tmp_path.iterdir())
    content = bytearray(newest.read_bytes())
    if damage == "truncated":
        content = content[: len(content) // 2]
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
    elif damage == "empty":
        content = bytearray()
    else:
        content = content[:20]
    newest.write_bytes(bytes(content))
    older = checkpoint.load_newest(tmp_path, CPU)
    assert older is not None and older["step"] == 1
    said = capsys.readouterr().out
    assert newest.name in said and "moved aside" in said
    assert newest.with_name(f"{newest.name}.damaged").read_bytes() == bytes(content), "nothing is thrown away"


def test_a_damaged_file_does_not_crowd_out_whole_ones(tmp_path: Path) -> None:
    for step in (90, 100):
        checkpoint.save_step(tmp_path, step, state(step))
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
    assert checkpoint.load_newest(tmp_path, CPU) is None, "the run starts anew"
    checkpoint.save_step(tmp_path, 10, state(10))
    newest = checkpoint.load_newest(tmp_path, CPU)
    assert newest is not None and newest["step"] == 10
    checkpoint.clear_steps(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_resume_from(tmp_path: Path) -> None:
    assert checkpoint.load_newest(tmp_path / "absent", CPU) is None


class Payload:
    """Unpickling this would run code."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('unpickled')",)


def test_a_pickle_with_a_right_checksum_is_still_not_executed(tmp_path: Path) -> None:
    import hashlib

    buffer = io.BytesIO()
    torch.save({"step": Payload()}, buffer)
    content = buffer.getvalue()
    (tmp_path / "a.pt").write_bytes(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
    with pytest.raises(pickle.UnpicklingError):
        checkpoint.load(tmp_path / "a.pt", CPU)


def test_finished_runs_drop_their_resume_points(tmp_path: Path) -> None:
    checkpoint.save_step(tmp_path, 1, state(1))
    checkpoint.save(tmp_path / "final.pt", state(1))
    checkpoint.clear_steps(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["final.pt"]
