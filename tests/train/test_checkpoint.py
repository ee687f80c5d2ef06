"""Checkpoints: whole or passed over, two kept, never unpickled."""

from __future__ import annotations

import hashlib
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
        content[content.index(torch.arange(5.0).add(2).numpy().tobytes()) + 2] ^= 1
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


def older_format(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def test_a_file_is_what_torch_saves_and_older_ones_still_load(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "a.pt", state(3))
    plain = torch.load(tmp_path / "a.pt", weights_only=True)
    (tmp_path / "b.pt").write_bytes(older_format((tmp_path / "a.pt").read_bytes()))
    for loaded in (plain, checkpoint.load(tmp_path / "b.pt", CPU)):
        assert loaded["step"] == 3 and torch.equal(loaded["weights"]["w"], torch.arange(5.0) + 3)


@pytest.mark.parametrize("older", [False, True])
def test_no_flipped_bit_changes_what_is_loaded(tmp_path: Path, older: bool) -> None:
    """torch.load by itself gives another weight for a flipped one, without an error."""
    path = tmp_path / "a.pt"
    checkpoint.save(path, state(3))
    content = older_format(path.read_bytes()) if older else path.read_bytes()
    first, last = content.index(torch.arange(5.0).add(3).numpy().tobytes()), len(content)
    for at in [*range(first, first + 20), *range(0, last, 37)]:
        path.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        try:
            loaded = checkpoint.load(path, CPU)
        except checkpoint.CorruptCheckpoint:
            continue
        assert not older and not first <= at < first + 20, "a flip in a weight went unseen"
        assert loaded["step"] == 3 and torch.equal(loaded["weights"]["w"], torch.arange(5.0) + 3)


class Payload:
    """Unpickling this would run code."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('unpickled')",)


@pytest.mark.parametrize("older", [False, True])
def test_a_whole_file_with_a_pickle_in_it_is_still_not_executed(tmp_path: Path, older: bool) -> None:
    buffer = io.BytesIO()
    torch.save({"step": Payload()}, buffer)
    content = buffer.getvalue()
    (tmp_path / "a.pt").write_bytes(older_format(content) if older else content)
    with pytest.raises(pickle.UnpicklingError):
        checkpoint.load(tmp_path / "a.pt", CPU)


def test_finished_runs_drop_their_resume_points(tmp_path: Path) -> None:
    checkpoint.save_step(tmp_path, 1, state(1))
    checkpoint.save(tmp_path / "final.pt", state(1))
    checkpoint.clear_steps(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["final.pt"]
