"""Copy the package to ``results/code`` at submission, so that a run executes the code it was submitted with.

    results/code/<hash>/harness/...         the package; <hash> is of its bytes, so all runs of one code share it
    results/code/origins/<hash>.json        what it came from: commit, diff, untracked files, numeric fingerprint
    results/code/diffs/<hash>.diff          ``git diff HEAD``, at most :data:`DIFF_CAP` bytes of it
    results/code/experiments/<name>-<hash>.yaml
    results/sources/<fingerprint>.json      a sum of every numeric file: what names the files that differ

All but the last stay out of git: it is small, and committed with the results that it explains.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness
from harness.store import provenance
from harness.store.results import Store, StoreError, read_json, write_json

DIFF_CAP = 1_000_000
LISTED = 200
"""So many untracked files are named in a run's provenance."""


@dataclass(frozen=True)
class Snapshot:
    """Where the code of a submission lies: ``folder`` is what Python's path needs, ``origin`` says where it is from."""

    folder: Path
    origin: Path

    @property
    def environment(self) -> dict[str, str]:
        """For a process that is to import it. The working directory, often the checkout, must not come first."""
        return {"PYTHONPATH": str(self.folder), "PYTHONSAFEPATH": "1", provenance.ORIGIN: str(self.origin)}

    @property
    def imported(self) -> bool:
        """Whether this process runs its code."""
        return Path(harness.__file__).resolve().parents[1].name == self.folder.name

    @contextmanager
    def exported(self) -> Iterator[None]:
        """The environment, set while something is started that is to import this code."""
        wanted = self.environment
        if before := os.environ.get("PYTHONPATH"):
            wanted["PYTHONPATH"] += os.pathsep + before
        held = {key: os.environ.get(key) for key in wanted}
        os.environ.update(wanted)
        try:
            yield
        finally:
            for key, value in held.items():
                if value is None:
                    del os.environ[key]
                else:
                    os.environ[key] = value


def take(store: Store, experiment: Path | None = None) -> Snapshot:
    """Write what is not there yet, and mend what is not whole. Raises ``OSError``."""
    files = provenance.package_files()
    name = _hash(b"".join(path.encode() + b"\0" + _hash(content).encode() for path, content in files.items()))
    folder = (store.code / name).resolve()
    for path, content in files.items():
        _keep(folder / "harness" / path, content)
    keep_sources(store)
    if experiment is not None:
        text = experiment.read_bytes()
        _keep(store.code / "experiments" / f"{experiment.stem}-{_hash(text)}.yaml", text)
    return Snapshot(folder, _origin(store, name))


def keep_sources(store: Store) -> None:
    """Write down the digest of every numeric file under ``results/sources``, once for each code. Raises ``OSError``."""
    recorded = store.sources / f"{provenance.code_fingerprint()}.json"
    if not recorded.exists():
        write_json(recorded, dict(provenance.numeric_files()))


def _origin(store: Store, name: str) -> Path:
    """Write down where the snapshot ``name`` is from."""
    diff, untracked = provenance.local_changes()
    about: dict[str, Any] = {
        "snapshot": name,
        "code": provenance.code_fingerprint(),
        "outside": dict(provenance.outside_files()),
        **provenance.git_state(),
        "diff": None,
        "untracked": untracked[:LISTED] + [f"and {len(untracked) - LISTED} more"] * (len(untracked) > LISTED),
    }
    if diff:
        whole = diff.encode()
        about["diff"] = _hash(whole)
        told = whole if len(whole) <= DIFF_CAP else whole[:DIFF_CAP] + f"\n[cut: {len(whole):,} bytes]\n".encode()
        _keep(store.code / "diffs" / f"{about['diff']}.diff", told)
    path = (store.code / "origins" / f"{_hash(repr(sorted(about.items())).encode())}.json").resolve()
    if not path.exists():
        write_json(path, about)
    return path


def _keep(path: Path, content: bytes) -> None:
    """Content-addressed: what is there already is what we would write, unless a copy stopped half-way.

    Without the fsync of other files under results/: what a crash takes is written again by the next submission.
    """
    try:
        if path.read_bytes() == content:
            return
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


# --- results of other code -----------------------------------------------------------------------------------------


def what_changed(store: Store, about: Mapping[str, Any]) -> str:
    """In which files today's numeric code is not what ``about``, the provenance of a result, says."""
    made_by, commit = about.get("code"), about.get("commit")
    if made_by is None:
        return "made by code that was not recorded"
    before = None
    try:
        before = read_json(store.sources / f"{made_by}.json")
    except StoreError as error:
        return str(error)
    if before is None and commit and not about.get("dirty"):
        before = provenance.numeric_files_at(str(commit))
    if not isinstance(before, dict):
        of = f" of commit {str(commit)[:10]}" if commit else ""
        return f"by code {made_by}{of}; the changed files are not known here"
    return f"changed since: {', '.join(provenance.differing(before))}"
