"""Digests are written down once beside what trains, never fail a sweep, and today's are computed once for a plan."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.digests.compare import Example, Record, Use, file_stem
from harness.digests.platform import platform_of
from harness.store import provenance
from harness.store.results import Store, write_atomic
from harness.sweep.plan import code_changes
from harness.sweep.plan.code_changes import Digests, Recording, Staleness, read

CODE = provenance.code_fingerprint()


def record(code: str = CODE, bits: str = "bits") -> Record:
    example = Example("0", {}, bits, "form", (1.0, 1.0 if bits == "bits" else 2.0))
    return Record(code, platform_of(), {"head none": (example,)})


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Switched on, with a cache of the test's own."""
    monkeypatch.setenv("HARNESS_DIGESTS", "on")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "harness" / "digests"


def computing(monkeypatch: pytest.MonkeyPatch, code: str) -> list[Path]:
    """In place of the real computation, ``python -c code`` with the file's path; returns the files asked for."""
    asked: list[Path] = []

    def start(path: Path, errors: int) -> subprocess.Popen[bytes]:
        asked.append(path)
        return subprocess.Popen([sys.executable, "-c", code, str(path)], stderr=errors)

    monkeypatch.setattr(code_changes, "_start", start)
    return asked


def writing() -> str:
    return f"import sys, pathlib; p = pathlib.Path(sys.argv[1]); p.parent.mkdir(exist_ok=True, parents=True); " \
           f"p.write_text({record().as_text()!r})"  # fmt: skip


def test_they_are_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, said = Store(tmp_path / "results"), list[str]()
    asked = computing(monkeypatch, writing())
    for _ in range(2):
        with Recording(store, said.append):
            pass
    assert asked == [store.digests / f"{file_stem(CODE, platform_of())}.json"]
    assert read(asked[0]) == record()


def test_what_a_plan_has_computed_is_not_computed_again(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = computing(monkeypatch, "raise SystemExit(1)")
    write_atomic(cache / f"{record().name}.json", record().as_text())
    with Recording(Store(tmp_path), pytest.fail):
        pass
    assert not asked and read(Store(tmp_path).digests / f"{record().name}.json") == record()


@pytest.mark.parametrize("fault", ["raise ValueError('no memory')", "import os; os.kill(os.getpid(), 9)"])
def test_a_failure_is_said_and_harms_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    said: list[str] = []
    computing(monkeypatch, fault)
    with Recording(Store(tmp_path), said.append):
        pass
    assert "No digests of this code were written down: " in said[-1] and not Store(tmp_path).digests.exists()
    assert said[-1].endswith("ValueError: no memory" if "Value" in fault else "it ended without a word")


def test_a_sweep_that_is_stopped_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    computing(monkeypatch, "import time; time.sleep(1000)")
    with Recording(Store(tmp_path), pytest.fail) as recording:
        recording.drop()
    with pytest.raises(KeyError), Recording(Store(tmp_path), pytest.fail):
        raise KeyError
    monkeypatch.setenv("HARNESS_DIGESTS", "off")
    computing(monkeypatch, "raise SystemExit(1)")
    with Recording(Store(tmp_path), pytest.fail):
        pass


def test_a_results_folder_that_cannot_be_written_is_left_to_others_to_say(tmp_path: Path, cache: Path) -> None:
    write_atomic(cache / f"{record().name}.json", record().as_text())
    (tmp_path / "results").write_text("a file")
    with Recording(Store(tmp_path / "results"), pytest.fail):
        pass


def test_todays_are_computed_once_and_only_where_there_is_something_to_compare(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "results")
    asked = computing(monkeypatch, writing())
    used = [Use("head none")]
    assert Digests(store, CODE).verdict("before", lambda: used) == Staleness(
        "unknown", "whose digests were not recorded"
    )
    assert not asked
    for code, bits in (("before", "bits"), ("older", "other")):
        write_atomic(store.digests / f"{record(code).name}.json", record(code, bits).as_text())
    for _ in range(2):
        today = Digests(store, CODE)
        assert today.verdict("before", lambda: used) == Staleness("equal")
        assert today.verdict("older", lambda: used).kind == "stale"
        assert today.verdict("older", lambda: [Use("head linear")]).kind == "unknown"
    assert len(asked) == 1 and [path.name for path in cache.iterdir()] == [f"{record().name}.json"]


def test_todays_that_cannot_be_computed_make_nothing_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "results")
    write_atomic(store.digests / f"{record('before').name}.json", record("before").as_text())
    computing(monkeypatch, "raise ValueError('no memory')")
    found = Digests(store, CODE).verdict("before", list)
    assert found.kind == "unknown" and "ValueError: no memory" in found.said
