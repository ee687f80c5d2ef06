"""The tasks of one job find one another, whatever else listens on their node and whatever an earlier life wrote."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path

import pytest
import submitit

from harness.store.results import read_json, write_json
from harness.sweep.slurm.rendezvous import Tasked, find, keep

SOON = timedelta(seconds=1)


@pytest.fixture
def told(tmp_path: Path) -> Path:
    return tmp_path / "met" / "12_0.0.json"


@pytest.fixture
def crowded() -> Iterator[ExitStack]:
    """What is entered here is left when the test ends."""
    with ExitStack() as stack:
        yield stack


def as_task(monkeypatch: pytest.MonkeyPatch, rank: int, world: int) -> None:
    for key, value in {
        "SLURM_JOB_ID": "17371545",
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank),
        "SLURM_NTASKS": str(world),
        "SLURM_NNODES": "1",
        "SLURM_NODEID": "0",
        "SLURM_JOB_NODELIST": "localhost",
        "SUBMITIT_EXECUTOR": "slurm",
    }.items():
        monkeypatch.setenv(key, value)


def test_the_port_of_submitits_environment_may_be_taken(
    told: Path, crowded: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_task(monkeypatch, 0, 2)
    port = submitit.helpers.TorchDistributedEnvironment().master_port
    with suppress(OSError):  # then it is taken by somebody else, and that will do
        crowded.enter_context(socket.create_server(("", port)))
    first = Tasked(2, told)
    as_task(monkeypatch, 1, 2)
    other = Tasked(2, told)
    assert first.address == other.address != f"localhost:{port}"
    first.store.set("word", "heard")
    assert other.store.get("word") == b"heard"


def test_a_task_may_come_before_the_first(told: Path) -> None:
    found: list[str] = []
    early = threading.Thread(target=lambda: found.append(find(told)[1]))
    early.start()
    store, address = keep("localhost", told)
    early.join(60)
    assert found == [address]
    del store


def test_a_store_that_is_no_more_is_not_waited_for(told: Path, crowded: ExitStack) -> None:
    gone = crowded.enter_context(socket.socket())
    gone.bind(("localhost", 0))  # nobody listens there, and nobody else is given this port meanwhile
    port = gone.getsockname()[1]
    write_json(told, {"address": f"localhost:{port}"})
    found: list[str] = []
    other = threading.Thread(target=lambda: found.append(find(told, answer_within=SOON)[1]))
    other.start()
    store, address = keep("localhost", told)
    other.join(60)
    assert found == [address] == [read_json(told)["address"]] and address != f"localhost:{port}"
    del store


@pytest.mark.parametrize("content", [None, "", '{"address": "localhost:1"}'])
def test_one_that_is_never_told_says_what_it_waited_for(told: Path, content: str | None) -> None:
    if content is not None:
        told.parent.mkdir()
        told.write_text(content)
    with pytest.raises(RuntimeError, match=rf"through .*{told.name}: "):
        find(told, patience_s=0.5, answer_within=SOON)


def test_another_number_of_tasks_than_processes_is_refused(told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_task(monkeypatch, 0, 3)
    with pytest.raises(RuntimeError, match="2 processes, but this job was started as 3 tasks"):
        Tasked(2, told)
