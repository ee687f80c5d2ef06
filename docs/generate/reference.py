"""Write the reference pages from what they describe: parsers, file schemas, registries, experiment files, results."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import os
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from harness import components
from harness.config.claim import CLAIM_KINDS, FORMS, Claim
from harness.config.experiment import AtScale, ExperimentFile, ScaleFile, load_experiment, load_scale, scale_names
from harness.config.registry import COMPONENT_KIND, REGISTRIES, Registry
from harness.report.judge.claims import claim_kind
from harness.report.judge.judging import judge_all
from harness.report.judge.score import Score
from harness.report.judge.verdicts import Verdict
from harness.report.read.collect import collect
from harness.sweep.plan.references import ANY_BLOCK, BLOCKS
from harness.sweep.slurm.config import Cluster

assert components  # its import registers every component

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = ROOT / "experiments"

COMMANDS: dict[str, tuple[str, ...]] = {
    "harness": ("harness.cli", "--help"),
    **{
        f"harness {name}": ("harness.cli", name, "--help")
        for name in ("run", "plan", "status", "logs", "cancel", "retry", "report", "data", "doctor")
    },
    "python -m harness.sweep": ("harness.sweep", "--help"),
    "torchrun -m harness.sweep.torchrun": ("harness.sweep.torchrun", "--help"),
    "python -m harness.report": ("harness.report", "--help"),
    "python -m harness.data": ("harness.data", "cifar10", "--help"),
    "python -m harness.data check": ("harness.data", "check", "--help"),
    "python -m harness.doctor": ("harness.doctor", "--help"),
    "python -m harness.weights": ("harness.weights", "--help"),
    "python -m harness.digests": ("harness.digests", "--help"),
}
"""Command as it is typed -> its module, and the arguments with which that prints its help. A new one is a line here."""

COPIED = {
    "results/report.html": "reports/index.html",
    "results/figure-5.png": "reports/figures/augmentation_pairs@micro.png",
}
"""Path in the site -> file of the repository that is shown there."""

KINDS = {
    "augmentation": "what `views:` are made of",
    "dataset": "`data:` of a run",
    "encoder": "`encoder:` of a run",
    "head": "`head:` of a run, and predictors",
    "method": "`method:` of a run",
    "objective": "`objective:` of a run",
    "optimizer": "`optimizer:` of a run",
    "schedule": "values that change during training",
    "evaluation": "`evaluate:` of an experiment",
}
"""Registry -> where YAML names its components, in the words of the page."""

WORDS = {
    "number": "number",
    "integer": "integer",
    "string": "text",
    "boolean": "`true` or `false`",
    "null": "`null`",
    "object": "mapping",
}
"""Type of a JSON schema -> the word of the pages."""


def pages() -> dict[str, Callable[[], str]]:
    """Return path in the site -> function that writes the page in Markdown."""
    return {
        "reference/command-line.md": command_line,
        "reference/experiment-files.md": experiment_files,
        "reference/cluster-files.md": cluster_files,
        "reference/experiments.md": experiments,
        "reference/scales.md": scales,
        **{f"reference/components/{kind}.md": partial(component_page, kind) for kind in REGISTRIES},
        "results/verdicts.md": verdicts,
    }


def command_line() -> str:
    """Return the help of every command, as the command prints it."""
    parts = [
        "# Command line\n\nEvery command with every option, as `--help` prints it. `harness` does what the modules "
        "below it do: `harness run FILE` is `python -m harness.sweep FILE`, and `harness plan FILE` adds `--plan`.\n"
    ]
    for command, (module, *arguments) in COMMANDS.items():
        parts.append(f"## {command}\n\n```text\n{help_of(module, arguments)}\n```\n")
    return "\n".join(parts)


def help_of(module: str, arguments: Iterable[str]) -> str:
    """Return what a command prints for ``--help``, 96 columns wide. ``module`` is run as ``python -m`` runs it."""
    package = importlib.import_module(module)
    entry = importlib.import_module(f"{module}.__main__") if hasattr(package, "__path__") else package
    printed, width = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "96"
    try:
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            entry.main(list(arguments))
    finally:
        os.environ.pop("COLUMNS")
        if width is not None:
            os.environ["COLUMNS"] = width
    return printed.getvalue().rstrip()


def experiment_files() -> str:
    """Return the keys of experiment files, kinds of claim and kinds of report block."""
    kinds = []
    for name, beside in CLAIM_KINDS.items():
        about = one_line(claim_kind.get(name))
        kinds.append((f"`{name}`", f"`{FORMS[name]}`", ", ".join(f"`{key}`" for key in sorted(beside)), about))
    blocks = [
        (f"`{name}`", _codes(needs), _codes(may | ANY_BLOCK)) for name, (needs, may) in BLOCKS.items()
    ]  # what each block draws is told in the guide
    return "\n".join(
        [
            "# Experiment files\n\nEvery key of `experiments/*.yaml`, with its type and default. The guide "
            "[Write an experiment](../guides/write-an-experiment.md) says how to use them. "
            "`python -m harness.sweep --schema` prints the same as a JSON schema for editors.\n",
            _keys_of(ExperimentFile),
            "## `at:` {#at}\n\nA key under `at: {SCALE: ...}` replaces the key of the file whole at that scale.\n",
            _keys_of(AtScale),
            "## Claims {#claims}\n",
            _keys_of(Claim),
            "`expect` is one of these kinds:\n",
            _table(("Kind", "Form", "May stand beside it", "Holds if"), kinds),
            "## Report blocks {#blocks}\n",
            _table(("Block", "Needs", "May have"), blocks),
        ]
    )


def cluster_files() -> str:
    """Return the keys of cluster files, and the commented example."""
    example = (EXPERIMENTS / "clusters" / "example.yaml").read_text(encoding="utf-8")
    return "\n".join(
        [
            "# Cluster files\n\nEvery key of `experiments/clusters/*.yaml`. A cluster file is never part of a run's "
            "identity: change it, and finished runs stay finished. See [Run on SLURM](../guides/slurm.md).\n",
            _keys_of(Cluster),
            "## The commented example\n\n`experiments/clusters/example.yaml`:\n",
            f"```yaml\n{example.strip()}\n```\n",
        ]
    )


def experiments() -> str:
    """Return one line for every experiment file: its artefact and its question."""
    rows = []
    for path in sorted(EXPERIMENTS.glob("*.yaml")):
        experiment = load_experiment(path)
        question = " ".join(experiment.question.split("?")[0].split()) + "?"
        counts = f"{experiment.runs} at `{experiment.scale.name}`"
        rows.append((f"`{path.stem}`", experiment.file.title, question, counts, str(len(experiment.claims))))
    return "\n".join(
        [
            "# Experiments\n\nThe ablations that come with the harness: each is one file of `experiments/`, run by "
            "`python -m harness.sweep experiments/NAME.yaml`.\n",
            _table(("Name", "Title", "Question", "Runs", "Claims"), rows),
        ]
    )


def scales() -> str:
    """Return every scale file, with its title and note."""
    parts = [
        "# Scales\n\nWhat a run is at each scale: a scale file is a complete run with every hyperparameter written "
        "out, and dotted paths of experiments point into it. "
        "See [Scales and overrides](../guides/scales-and-overrides.md).\n"
    ]
    order = sorted(scale_names(EXPERIMENTS), key=["smoke", "micro", "cifar10", "imagenet"].index)
    for name in order:
        scale = load_scale(EXPERIMENTS, name)
        text = (EXPERIMENTS / "scales" / f"{name}.yaml").read_text(encoding="utf-8")
        parts.append(f"## {name}\n\n{scale.file.title}. {scale.file.note}\n\n```yaml\n{text.strip()}\n```\n")
    return "\n".join([*parts, "## Keys of a scale file {#keys}\n", _keys_of(ScaleFile)])


def component_page(kind: str) -> str:
    """Return all components of one kind: docstring, and every field with its type and default."""
    registry = REGISTRIES[kind]
    title = {"dataset": "Data sets"}.get(kind, f"{kind.capitalize()}s")
    parts = [
        f"# {title}\n\nEvery {kind.replace('dataset', 'data set')} that YAML can name: {KINDS[kind]}. Write the name "
        "alone, or `{name: {field: value}}` with the fields to change.\n"
    ]
    for name in registry.names():
        parts += [f"## {name}\n", markdown(inspect.getdoc(registry.get(name)) or "")]
        parts += [_fields_of(registry, name), f"Defined in `{registry.get(name).__module__}`.\n"]
    return "\n".join(parts)


def verdicts() -> str:
    """Return every claim of the committed results with its verdict, by experiment."""
    scores = [Score(judged) for judged in judge_all(collect(ROOT / "results"))]
    parts = [
        "# Verdicts\n\nWhat the committed runs say about every claim, at the scale of each table. "
        f"{counted(scores)} The [full report](report.html) has every number and picture; "
        "[Statistics](../explanations/verdicts.md) says how a verdict is reached.\n",
        "![Figure 5 of the SimCLR paper beside ours at micro scale](figure-5.png)\n",
    ]
    for key in dict.fromkeys(score.judged.experiment.key for score in scores):
        mine = [score for score in scores if score.judged.experiment.key == key]
        parts += [f"## {mine[0].judged.experiment.title} ({mine[0].judged.experiment.scale})\n", claims_table(mine)]
    return "\n".join(parts)


def counted(scores: Iterable[Score]) -> str:
    """Return how many claims have each verdict, as one sentence."""
    found = [score.judged.ours.verdict for score in scores]
    told = [f"{found.count(verdict)} {verdict}" for verdict in Verdict if verdict in found]
    return f"Verdicts on all {len(found)} claims: {'; '.join(told)}."


def claims_table(scores: Iterable[Score]) -> str:
    """Return a table of claims: the paper's and our difference, the interval of ours, and the verdict.

    Both differences are of the claim's tightest comparison, the one that is nearest to the bound which the claim sets.
    """
    rows = []
    for score in scores:
        claim, ours, paper = score.judged.claim, score.ours, score.paper_reading
        level = f" ({ours.level})" if ours and ours.level else ""
        unit = f" {ours.unit}" if ours and ours.unit else ""
        rows.append(
            (
                f"{claim.says} ({claim.where})",
                score.required,
                paper.mean if paper else score.paper,
                f"{ours.mean}{unit}" if ours else "–",
                f"{ours.bounds}{level}".replace(" ", "\N{NO-BREAK SPACE}") if ours and ours.bounds else "–",
                str(score.judged.ours.verdict),
            )
        )
    return _table(("Claim", "Claimed", "Paper", "Ours", "Interval", "Verdict"), rows)


def one_line(cls: type) -> str:
    """Return the first paragraph of a docstring as one line of Markdown."""
    return " ".join(markdown(inspect.getdoc(cls) or "").split("\n\n")[0].split())


def markdown(docstring: str) -> str:
    """Return a docstring in reStructuredText as Markdown: literals, roles and literal blocks are what occurs."""
    text = re.sub(r":\w+:`~?([^`]+)`", lambda found: f"`{found[1].rpartition('.')[2]}`", docstring)
    text = text.replace("``", "`")
    lines, inside = [], False
    for line in text.splitlines():
        if inside and line and not line.startswith(" "):
            lines += ["```", ""]
            inside = False
        if line.endswith("::"):
            lines += [line[:-1], "", "```yaml"]
            inside = True
        elif line or not (inside and lines[-1] == "```yaml"):
            lines.append(line.removeprefix("    ") if inside else line)
    return "\n".join([*lines, *(["```"] if inside else []), ""])


def _fields_of(registry: Registry, name: str) -> str:
    schema = registry.adapter(name).json_schema()
    rows = []
    for field, about in schema.get("properties", {}).items():
        if "default" in about:  # that of a component is its fields, without the name that YAML writes
            about = {**about, "default": registry.default(name, field)}
        rows.append((f"`{field}`", *_described(about, schema)))
    return _table(("Field", "Value", "Default"), rows) if rows else "No fields.\n"


def _keys_of(model: type[BaseModel]) -> str:
    schema = model.model_json_schema()
    needed = set(schema.get("required", ()))
    rows = []
    for key, about in schema["properties"].items():
        value, default = _described(about, schema)
        rows.append((f"`{key}`", value, "required" if key in needed else default, about.get("description", "")))
    columns = 4 if any(row[3] for row in rows) else 3
    return _table(("Key", "Value", "Default", "What it is")[:columns], [row[:columns] for row in rows])


def _described(about: Mapping[str, Any], schema: Mapping[str, Any]) -> tuple[str, str]:
    """Return the value and the default of one property of a JSON schema, in words."""
    default = f"`{_yaml(about['default'])}`" if "default" in about else "required"
    return _value(about, schema), default


def _value(about: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """Return in words what a JSON schema allows."""
    if COMPONENT_KIND in about:
        component = str(about[COMPONENT_KIND])
        return f"[{component}]({component}.md)"
    if "$ref" in about:
        return f"mapping (`{about['$ref'].rpartition('/')[2]}`)"
    if "anyOf" in about:
        return " or ".join(dict.fromkeys(_value(one, schema) for one in about["anyOf"]))
    if "enum" in about or "const" in about:
        return " or ".join(f"`{_yaml(value)}`" for value in about.get("enum", [about.get("const")]))
    kind = about.get("type")
    if kind == "array":
        inside = about.get("items") or (about.get("prefixItems") or [{}])[0]
        fixed = about.get("minItems") is not None and about.get("minItems") == about.get("maxItems")
        count = f" of {about['minItems']}" if fixed else ""
        return f"list{count} ({_value(inside, schema)})" if isinstance(inside, dict) and inside else "list"
    return WORDS.get(str(kind), "any value") + _range(about)


def _range(about: Mapping[str, Any]) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    told = [f"{sign} {about[key]:g}" for key, sign in signs.items() if key in about]
    return f" {', '.join(told)}" if told else ""


def _yaml(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

    titles = tuple(head)
    return "\n".join([line(titles), line(["---"] * len(titles)), *map(line, rows), ""])
