"""The checks of this machine, with the machine's answers replaced where they cannot be brought about."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.data import fetch
from harness.doctor import here
from harness.doctor.finding import Finding, Severity


def test_python_is_as_new_as_the_package_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert f'requires-python = ">={here.PYTHON[0]}.{here.PYTHON[1]}"' in text
    assert f'"torch>={here.TORCH[0]}.{here.TORCH[1]}"' in text
    assert f'"torchvision>={here.TORCHVISION[0]}.{here.TORCHVISION[1]}"' in text
    assert here.python().level is Severity.OK
    monkeypatch.setattr(here, "PYTHON", (9, 0))
    assert here.python().level is Severity.FAIL


def test_a_torch_that_cannot_be_imported_is_a_fault_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    (found,) = here.torch_and_gpus()
    assert found.level is Severity.FAIL and "make install" in found.remedy


def fake_torch(version: str, devices: int) -> Any:
    cuda = SimpleNamespace(
        is_available=lambda: devices > 0,
        device_count=lambda: devices,
        get_device_properties=lambda index: SimpleNamespace(name=f"GPU {index}", total_memory=80 * 2**30),
    )
    return SimpleNamespace(__version__=version, cuda=cuda, version=SimpleNamespace(cuda="12.8"))


@pytest.mark.parametrize(
    ("version", "devices", "driver", "levels"),
    [
        ("2.13.0+cpu", 0, 0, [Severity.OK, Severity.NOTE]),
        ("2.13.0+cu128", 2, 2, [Severity.OK, Severity.OK]),
        ("2.13.0+cpu", 0, 1, [Severity.OK, Severity.WARN]),
        ("2.7.1", 0, 0, [Severity.FAIL, Severity.NOTE]),
    ],
)
def test_torch_and_what_it_can_use(
    monkeypatch: pytest.MonkeyPatch, version: str, devices: int, driver: int, levels: list[Severity]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", fake_torch(version, devices))
    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace(__version__="0.25.0"))
    monkeypatch.setattr(here, "gpus", lambda: tuple((str(index), "GPU") for index in range(driver)))
    found = list(here.torch_and_gpus())
    assert [one.level for one in found] == levels
    assert devices != 2 or "GPU 0 (80 GiB), GPU 1 (80 GiB); CUDA 12.8" in found[1].seen


def test_data_that_is_missing_damaged_or_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = here.cifar10(tmp_path)
    assert missing.level is Severity.NOTE, "whoever names no experiment may need none of it"
    assert f"python -m harness.data cifar10 --root {tmp_path}" in missing.remedy
    folder = tmp_path / fetch.FOLDER
    folder.mkdir()
    monkeypatch.setattr(fetch, "MD5", {"a.bin": fetch.digest(b"a"), "b.bin": fetch.digest(b"b")})
    (folder / "a.bin").write_bytes(b"a")
    (folder / "b.bin").write_bytes(b"damaged")
    damaged = here.cifar10(tmp_path)
    assert damaged.level is Severity.FAIL and "b.bin" in damaged.seen and "a.bin" not in damaged.seen
    (folder / "b.bin").write_bytes(b"b")
    assert here.cifar10(tmp_path).level is Severity.OK


def test_a_results_folder_is_tried_out_and_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(here, "filesystem", lambda path: "ext4")
    _room(monkeypatch, 100 * here.GB)
    (found,) = here.folder(tmp_path / "not" / "there" / "yet")
    assert found.level is Severity.OK and "on ext4, writable, 100 GB free" in found.seen
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    (found,) = here.folder(tmp_path / "file")
    assert found.level is Severity.FAIL and "is a file" in found.seen


def _room(monkeypatch: pytest.MonkeyPatch, free: float) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))


@pytest.mark.parametrize(("free", "level"), [(0.5e9, Severity.FAIL), (5e9, Severity.WARN), (100e9, Severity.OK)])
def test_room_for_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, level: Severity) -> None:
    monkeypatch.setattr(here, "filesystem", lambda path: "ext4")
    _room(monkeypatch, free)
    assert worst(here.folder(tmp_path)) is level


def test_results_in_memory_and_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _room(monkeypatch, 100 * here.GB)
    monkeypatch.setattr(here, "filesystem", lambda path: "tmpfs")
    assert worst(here.folder(tmp_path)) is Severity.WARN

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    (found,) = here.folder(tmp_path)
    assert found.level is Severity.FAIL and "Operation not permitted" in found.seen and list(tmp_path.iterdir()) == []


def worst(found: Any) -> Severity:
    order = list(Severity)
    findings: list[Finding] = list(found)
    return max((one.level for one in findings), key=order.index)


def test_the_file_system_of_a_path_is_that_of_the_deepest_mount() -> None:
    assert here.filesystem(Path("/proc/self")) == "proc"
    assert here.filesystem(Path("/")) != "proc"


def test_fewer_cores_than_the_machine_has_are_mentioned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(here, "cores", lambda: 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    found = here.processors()
    assert found.level is Severity.NOTE and found.seen.startswith("1 of 64")
