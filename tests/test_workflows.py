"""Files that run elsewhere: GitHub's workflows by GitHub's own schema, and every command in them by this checkout."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ACTIONS = sorted((ROOT / ".github" / "actions").glob("*/action.yml"))


def read(path: Path) -> Any:
    return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))


def valid(schema: str, *files: Path) -> bool:
    """Whether the files fit a schema that check-jsonschema brings along. Needs no network."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *map(str, files)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_workflows_and_actions_fit_githubs_schema(tmp_path: Path) -> None:
    assert valid("vendor.github-workflows", *WORKFLOWS) and valid("vendor.github-actions", *ACTIONS)
    broken = tmp_path / "broken.yml"
    broken.write_text(WORKFLOWS[0].read_text(encoding="utf-8").replace("runs-on:", "run-on:"), encoding="utf-8")
    assert not valid("vendor.github-workflows", broken)


@pytest.mark.parametrize("path", [*WORKFLOWS, *ACTIONS], ids=lambda path: path.stem)
def test_steps_name_what_is_there(path: Path) -> None:
    """Targets of the Makefile, actions of this checkout, and files that a target writes."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"run: make (\S+)", text):
        assert re.search(rf"^{target}:", makefile, flags=re.M), target
    for action in re.findall(r"uses: \./(\S+)", text):
        assert (ROOT / action / "action.yml").is_file(), action
    for names in re.findall(r"hashFiles\((.*?)\)", text):
        assert all((ROOT / name).is_file() for name in re.findall(r"'(.+?)'", names)), names


def test_the_page_of_the_smoke_run_is_kept() -> None:
    steps = read(ROOT / ".github" / "workflows" / "smoke.yml")["jobs"]["smoke"]["steps"]
    assert "make demo" in [step.get("run") for step in steps]
    (kept,) = (step["with"] for step in steps if step.get("uses", "").startswith("actions/upload-artifact"))
    folder = re.search(r"^DEMO +:= (\S+)", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M)
    assert folder and kept["path"] == f"{folder[1]}/index.html" and kept["if-no-files-found"] == "error"


def test_pre_commit_runs_the_linters_of_make_check() -> None:
    hooks = [hook for repo in read(ROOT / ".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    entries = [hook["entry"] for hook in hooks]
    (rule,) = re.findall(r"^check:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M)
    for line in rule.splitlines():
        command = line.strip().replace("$(BIN)", ".venv/bin").removesuffix(" .").removesuffix(" --check")
        assert any(entry.removesuffix(" --fix") == command for entry in entries), command
    assert all(hook["language"] == "system" for hook in hooks), "out of the environment of `make install`"
