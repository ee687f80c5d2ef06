"""Documentation: every command parses, every YAML block plans, every Python block runs, every link leads somewhere."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from docs.generate import readme, reference
from harness import components
from harness.config import registry
from harness.config.claim import CLAIM_KINDS
from harness.config.experiment import ExperimentFile, load_experiment
from harness.config.grid import expand
from harness.config.published import load_published
from harness.config.yaml_file import read_yaml
from harness.report.judge.claims import claim_kind, kind_of
from harness.report.judge.judging import judge_all
from harness.report.judge.verdicts import DECIDED
from harness.report.read.collect import collect
from harness.store.causes import Cause
from harness.sweep.plan.references import check_references
from harness.sweep.slurm.config import load_cluster

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
GET_STARTED = DOCS / "get-started.md"
TOUR = "build/tour"
"""The folder of the commands of get-started that are run."""

AROUND = {
    "title": "A block of the documentation",
    "scale": "smoke",
    "vary": [{"objective.nt_xent.temperature": [0.1, 0.5], "objective.nt_xent.normalize": [True]}],
    "evaluate": ["linear", "contrastive"],
}
"""What a block that shows some keys of an experiment leaves out."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, its text, and the line where it begins."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> Iterator[Block]:
    inside: list[str] | None = None
    language, begin = "", 0
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        fence = re.fullmatch(r"```(\w*)", line)
        if fence and inside is None:
            inside, language, begin = [], fence[1], number
        elif fence and inside is not None:
            yield Block(page, begin, language, "\n".join([*inside, ""]))
            inside = None
        elif inside is not None:
            inside.append(line)
    assert inside is None, f"{page}: a block is not closed"


def lines_of(block: Block) -> list[str]:
    """The commands of a console block; a line that ends in a backslash goes on in the next."""
    return re.sub(r"\\\n\s+", "", block.text).splitlines()


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
COMMANDS = [
    pytest.param(line.removeprefix("$ "), id=f"{block} {line}")
    for block in BLOCKS
    if block.language == "console"
    for line in lines_of(block)
]


def test_every_block_says_what_it_is() -> None:
    """A block without a language, or of one that is not checked here, could say anything."""
    assert {block.language for block in BLOCKS} == {"console", "yaml", "python", "toml", "text"}


class Parsed(Exception):
    """A command line was taken."""


@pytest.mark.parametrize("command", COMMANDS)
def test_the_real_parser_takes_every_command(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("experiments", "results", "reports"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "data").mkdir()  # which a fresh clone does not have yet
    monkeypatch.chdir(tmp_path)
    for words in filter(None, (shlex.split(one, comments=True) for one in command.split("&&"))):
        if words[0] == "make":
            made = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
            assert set(words[1:]) <= set(made)
        elif words[0] not in ("cd", "cp", "git", "source"):
            module, arguments = module_of(words)
            with pytest.raises(Parsed):
                parse(module, arguments, monkeypatch)
            for word in arguments:
                assert not word.startswith("experiments/") or word == SMALL_CROPS or (ROOT / word).exists(), word


SMALL_CROPS = "experiments/small_crops.yaml"


def module_of(words: list[str]) -> tuple[str, list[str]]:
    """The module of ``python -m MODULE ...``, ``torchrun ... -m MODULE ...`` or ``harness ...``, and its arguments.

    What follows ``>`` is the shell's.
    """
    assert words[0] in ("python", "torchrun", "harness"), words
    if ">" in words:
        words = words[: words.index(">")]
    if words[0] == "harness":
        return "harness.cli", words[1:]
    at = words.index("-m")
    return words[at + 1], words[at + 2 :]


def parse(module: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the command parse its arguments, and stop it there: raises :class:`Parsed`, or ``SystemExit`` if refused."""
    original = argparse.ArgumentParser.parse_args

    def taken(self: argparse.ArgumentParser, *given: Any) -> None:
        original(self, *given)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", taken)
    package = importlib.import_module(module)
    entry = importlib.import_module(f"{module}.__main__") if hasattr(package, "__path__") else package
    entry.main(arguments)


@pytest.mark.parametrize("block", [one for one in BLOCKS if one.language == "yaml"], ids=str)
def test_every_yaml_block_is_valid(block: Block, tmp_path: Path) -> None:
    """A study (its missing keys added) expands at smoke, and its claims and tables point at what it makes."""
    path = tmp_path / "experiments" / "block.yaml"
    for folder in ("scales", "paper"):
        path.parent.mkdir(exist_ok=True)
        (path.parent / folder).symlink_to(ROOT / "experiments" / folder)
    path.write_text(block.text, encoding="utf-8")
    keys = set(read_yaml(path).data)
    if "paper" in keys:
        (path.parent / "paper").unlink()
        (published := path.parent / "paper" / "here" / "block.yaml").parent.mkdir(parents=True)
        path.rename(published)
        assert load_published(path.parent, "here/block")["cells"]
    elif keys <= set(ExperimentFile.model_fields):
        plan(path, keys)
    else:
        load_cluster(path)


def plan(path: Path, keys: set[str]) -> None:
    """Expand, resolve and check a study at smoke, as ``--plan`` does before it looks at results."""
    if missing := {key: value for key, value in AROUND.items() if key not in keys}:
        lines = "".join(f"{key}: {yaml(value)}\n" for key, value in missing.items())
        path.write_text(path.read_text(encoding="utf-8") + lines, encoding="utf-8")
    if "runs" not in keys:
        path.write_text(path.read_text(encoding="utf-8") + "runs: 1\n", encoding="utf-8")
    experiment = load_experiment(path, "smoke")
    arms = expand(experiment)
    assert "runs" not in keys or len(arms) * experiment.seeds == experiment.runs
    for arm in arms:
        components.check(components.resolve(arm.tree, seed=0))
    evaluations = components.resolve_evaluations(arms[0].tree, experiment.evaluate)
    _, complaints = check_references(experiment, arms, evaluations)
    assert not complaints, "; ".join(map(str, complaints))
    for claim in experiment.claims:
        kind_of(claim)


def yaml(value: Any) -> str:
    """Plain data in one line of YAML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {yaml(one)}" for key, one in value.items()) + "}"
    return f"[{', '.join(map(yaml, value))}]" if isinstance(value, list) else str(value)


RUN_PAGES = """
import sys
from harness import components
from harness.config.registry import REGISTRIES
from harness.digests.record import record

def registered():
    return {f"{kind} {name}" for kind, known in REGISTRIES.items() for name in known.names()}

before = registered()
for page in sys.argv[1:]:
    exec(compile(open(page).read(), page, "exec"), {"__name__": page})
new, left_out = registered() - before, []
assert len(new) == 6 and set(record(new, left_out.append).components) == new, left_out
"""
"""Run the Python of every page, then every component that they register on its own examples."""


def test_the_python_of_every_page_runs(tmp_path: Path) -> None:
    """In one process, in a folder where the commands of get-started have run and the committed results are."""
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    (tmp_path / "results").symlink_to(ROOT / "results")
    take_the_tour(tmp_path)
    scripts = []
    for page in PAGES:
        blocks = [block for block in blocks_of(page) if block.language == "python"]
        if blocks:
            scripts.append(tmp_path / f"{page.parent.name}-{page.stem}.py")
            scripts[-1].write_text("\n".join(block.text for block in blocks), encoding="utf-8")
    run([sys.executable, "-c", RUN_PAGES, *map(str, scripts)], tmp_path)


def take_the_tour(folder: Path) -> None:
    """Run the commands of get-started that name :data:`TOUR`, on synthetic images instead of a download."""
    lines = [line for block in blocks_of(GET_STARTED) if block.language == "console" for line in lines_of(block)]
    commands = [shlex.split(line.removeprefix("$ ")) for line in lines if TOUR in line]
    assert len(commands) == 4
    for words in commands:
        module, arguments = module_of(words)
        if "experiments/temperature.yaml" in arguments:
            arguments += ["-o", "data={synthetic: {train_images: 512, validation_images: 512}}"]
        printed = run([sys.executable, "-m", module, *arguments], folder)
        if ">" in words:
            (folder / words[-1]).write_text(printed, encoding="utf-8")
    tour = collect(folder / TOUR)
    assert len(tour.runs) == 6 and not any(judged.ours.verdict in DECIDED for judged in judge_all(tour))
    assert (folder / "build" / "tour.html").stat().st_size


def run(command: list[str], folder: Path) -> str:
    """Run a command in ``folder`` with this checkout's code; what it printed."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
GENERATED = set(reference.pages())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere_and_pages_open_with_what_they_give(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for link in LINK.findall(re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)):
        target = (page.parent / link).resolve()
        assert target.exists() or os.path.relpath(target, DOCS) in GENERATED, link
    if DOCS in page.parents and page.name != "findings-about-ourselves.md":
        assert re.match(r"# .+\n\n\w.{30,}", text)


def test_the_readme_is_short_and_opens_with_the_commands() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120
    opening = "\n".join(lines[:15])
    for command in ("git clone", "make demo", "make test", "python -m harness.sweep", "python -m harness.report"):
        assert f"$ {command}" in opening


def test_the_result_table_of_the_readme_is_that_of_the_committed_results() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.updated(text) == text, "run `make readme`"
    assert len(readme.HEADLINES) == 6


def test_a_headline_that_was_not_swept_is_not_run(tmp_path: Path) -> None:
    for folder in ("runs", "experiments"):
        (tmp_path / folder).mkdir()
    lines = [line for line in readme.table(tmp_path).splitlines() if line.startswith("| ")][2:]
    assert len(lines) == 6 and all(line.endswith("| NOT RUN |") for line in lines)


def test_the_guide_to_claims_names_every_kind() -> None:
    text = (DOCS / "guides" / "claims-and-verdicts.md").read_text(encoding="utf-8")
    (listed,) = re.findall(r"`expect` is one of (\w+) kinds: (.*?)\.\n\n", text, re.DOTALL)
    assert re.findall(r"`(\w+)`", listed[1]) == list(CLAIM_KINDS)
    assert set(re.findall(r"^\| `(\w+)` \| ", text, re.MULTILINE)) >= set(CLAIM_KINDS)
    assert listed[0] == {9: "nine"}[len(CLAIM_KINDS)] and set(claim_kind.names()) == set(CLAIM_KINDS)


@pytest.mark.parametrize("cause", Cause)
def test_the_guide_to_failures_has_every_cause_and_its_policy(cause: Cause) -> None:
    text = (DOCS / "guides" / "failures-and-resuming.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| {cause} \| [^|]+ \| (.*) \|$", text, re.MULTILINE)
    assert row == cause.policy


@pytest.mark.parametrize("path", sorted(GENERATED))
def test_generated_pages_are_whole_and_have_no_markup_of_docstrings(path: str) -> None:
    text = reference.pages()[path]()
    assert re.match(r"# .+\n\n\w", text)
    outside = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    assert "``" not in outside and not re.search(r":\w+:`", outside)
    for kind, known in registry.REGISTRIES.items():
        if path == f"reference/components/{kind}.md":
            assert re.findall(r"^## (\w+)$", text, re.MULTILINE) == list(known.names())
