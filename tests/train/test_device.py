"""Threads: the run's share, and a word where the user's variable says otherwise."""

from __future__ import annotations

import pytest
import torch

from harness.runtime import Runtime
from harness.train.device import prepared_device


@pytest.mark.parametrize(("said", "heard"), [("1", False), ("", False), ("3", True), ("many", True)])
def test_a_run_says_why_it_does_not_heed_what_was_exported(
    said: str, heard: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    prepared_device(Runtime(device="cpu", threads=1))
    assert torch.get_num_threads() == 1
    assert (f"OMP_NUM_THREADS={said} is not heeded" in capsys.readouterr().out) is heard
