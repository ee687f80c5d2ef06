"""Experiment files: what is wrong is told at once, with file, line and the nearest valid choice."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from harness.config.errors import SpecError
from harness.config.experiment import load_experiment, load_scale, scale_names
from harness.config.published import load_published

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = ROOT / "experiments"

GOOD = """\
# Does it matter?
title: A title
scale: smoke
vary:
  - seed_free.thing: [1, 2]
runs: 6
evaluate: [linear]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "scales").symlink_to(EXPERIMENTS / "scales")
    (tmp_path / "paper").symlink_to(EXPERIMENTS / "paper")
    return tmp_path


def complaint(folder: Path, text: str, scale: str | None = None) -> str:
    path = folder / "exp.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        load_experiment(path, scale)
    return str(caught.value).replace(str(folder) + "/", "")


def test_a_good_file(folder: Path) -> None:
    (folder / "exp.yaml").write_text(GOOD, encoding="utf-8")
    experiment = load_experiment(folder / "exp.yaml")
    assert (experiment.name, experiment.scale.name, experiment.seeds, experiment.runs) == ("exp", "smoke", 3, 6)
    assert experiment.question == "Does it matter?"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("title:", "titel:"), "exp.yaml:2: unknown key 'titel': did you mean 'title'?"),
        (("title:", "str: 1\ntitle:"), "exp.yaml:2: unknown key 'str': choices: "),
        (("runs: 6", "runs: six"), "exp.yaml:6: runs: "),
        (("runs: 6\nevaluate: [linear]\n", ""), "'runs' is missing"),
        (("evaluate: [linear]\n", ""), "exp.yaml:1: 'evaluate' is missing"),
        (("runs: 6", "runs: 0"), "exp.yaml:6: runs: "),
        (("scale: smoke", "scale: smok"), "exp.yaml:3: unknown scale 'smok': did you mean 'smoke'?"),
        (("[1, 2]", "[]"), "exp.yaml:4: vary: axis 'seed_free.thing' has no values"),
        (("  - seed_free.thing: [1, 2]", "  []"), "`vary` must not be empty"),
        (("evaluate:", "at: {smoke: {sedes: 1}}\nevaluate:"), "exp.yaml:7: unknown key 'sedes': did you mean 'seeds'?"),
        (("evaluate:", "at: {smoke: {vary: []}}\nevaluate:"), "exp.yaml:7: at.smoke.vary: `vary` must not be empty"),
        (("evaluate:", "at: {tiny: {seeds: 1}}\nevaluate:"), "exp.yaml:7: unknown scale 'tiny'"),
        (("evaluate:", "report: {heatmop: {}}\nevaluate:"), "unknown report block 'heatmop': did you mean 'heatmap'?"),
        (
            ("evaluate:", "claims: [{id: a, says: b, where: c, expect: {bets: {}}}]\nevaluate:"),
            "equivalent, agrees; instead of 'bets': did you mean 'best'?",
        ),
        (
            ("evaluate:", "claims: [{id: a, says: b, where: c, expect: {lowest: {a: 1, b: 2}}}]\nevaluate:"),
            "lowest takes one dotted path",
        ),
        (
            ("evaluate:", "claims: [{id: a, says: b, where: c, expect: {best: {a: 1}, among: seeds}}]\nevaluate:"),
            "among is 'values' or 'arms'",
        ),
        (
            ("evaluate:", "claims: [{id: a, says: b, where: c, expect: {best: {}, margn: 1}}]\nevaluate:"),
            "'best' takes no 'margn': did you mean 'margin'?",
        ),
    ],
)
def test_what_is_wrong_is_said_where(folder: Path, change: tuple[str, str], said: str) -> None:
    assert change[0] in GOOD
    assert said in complaint(folder, GOOD.replace(*change))


def test_a_scale_is_read_once_and_again_when_it_changes(tmp_path: Path) -> None:
    (tmp_path / "scales").mkdir()
    path = tmp_path / "scales" / "smoke.yaml"
    text = (EXPERIMENTS / "scales" / "smoke.yaml").read_text(encoding="utf-8")
    path.write_text(text, encoding="utf-8")
    first = load_scale(tmp_path, "smoke")
    assert load_scale(tmp_path, "smoke") is first
    path.write_text(text.replace("batch_size", "batch_sise", 1), encoding="utf-8")
    os.utime(path, ns=(1, 1))
    assert load_scale(tmp_path, "smoke").tree != first.tree


def test_files_beside_an_experiment_come_before_the_built_in_ones(tmp_path: Path) -> None:
    (tmp_path / "exp.yaml").write_text(GOOD, encoding="utf-8")
    assert load_experiment(tmp_path / "exp.yaml").scale.document.path == EXPERIMENTS / "scales" / "smoke.yaml"
    assert load_published(tmp_path, "simclr/figure_5") == load_published(EXPERIMENTS, "simclr/figure_5")
    for name in ("scales/smoke.yaml", "paper/simclr/figure_5.yaml"):
        (tmp_path / name).parent.mkdir(parents=True)
        text = (EXPERIMENTS / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(re.sub("^title:.*", "title: ours", text, count=1, flags=re.M), encoding="utf-8")
    assert load_experiment(tmp_path / "exp.yaml").scale.file.title == "ours"
    assert load_published(tmp_path, "simclr/figure_5")["title"] == "ours"
    assert scale_names(tmp_path) == scale_names(EXPERIMENTS), "the others are still there"


def test_all_complaints_come_at_once(folder: Path) -> None:
    said = complaint(folder, GOOD.replace("runs: 6", "runs: six").replace("title:", "titel:"))
    assert "titel" in said and "runs" in said and len(said.splitlines()) >= 3


def test_an_unknown_scale_on_the_command_line(folder: Path) -> None:
    assert "--scale: unknown scale 'imagnet': did you mean 'imagenet'?" in complaint(folder, GOOD, "imagnet")


def test_at_replaces_whole_values(folder: Path) -> None:
    text = GOOD.replace(
        "evaluate:", "at:\n  micro:\n    vary:\n      - other: [3]\n    seeds: 1\n    runs: 1\nevaluate:"
    )
    (folder / "exp.yaml").write_text(text, encoding="utf-8")
    experiment = load_experiment(folder / "exp.yaml", "micro")
    assert (experiment.vary, experiment.seeds, experiment.runs) == ([{"other": [3]}], 1, 1)
    assert experiment.where("vary", 0, "other") == ("at", "micro", "vary", 0, "other")
    assert experiment.where("fixed", "x") == ("fixed", "x")
    assert experiment.document.line(experiment.where("vary", 0, "other")) == 10


@pytest.mark.parametrize(
    "fixed, inside, as_in_paper",
    [
        ("{views.both: [crop]}", False, True),
        ("{data: {synthetic: {train_images: 64}}}", False, False),
        ("{schedule.epochs: 1}", False, False),
        ("{schedule.epochs: 1}", True, True),
    ],
)
def test_only_what_leaves_the_scale_alone_is_the_papers_setting(
    tmp_path: Path, fixed: str, inside: bool, as_in_paper: bool
) -> None:
    (tmp_path / "scales").symlink_to(EXPERIMENTS / "scales")
    written = f"at: {{imagenet: {{fixed: {fixed}}}}}" if inside else f"fixed: {fixed}"
    text = f"title: t\nscale: imagenet\n{written}\nvary: [{{norm.groups: [1]}}]\nruns: 3\nevaluate: [linear]\n"
    (tmp_path / "exp.yaml").write_text(text, encoding="utf-8")
    assert load_experiment(tmp_path / "exp.yaml").as_in_paper is as_in_paper
    assert not load_experiment(tmp_path / "exp.yaml", "micro").as_in_paper


@pytest.mark.parametrize("name", sorted(path.stem for path in (EXPERIMENTS / "scales").glob("*.yaml")))
def test_every_scale_is_complete(name: str) -> None:
    scale = load_scale(EXPERIMENTS, name)
    assert scale.file.note.endswith(".")
    assert {"data", "views", "optimizer", "evaluations"} <= set(scale.tree)


PUBLISHED = sorted(
    str(path.relative_to(EXPERIMENTS / "paper").with_suffix("")) for path in (EXPERIMENTS / "paper").glob("*/*.yaml")
)


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_artefact_is_a_list_of_cells(name: str) -> None:
    published = load_published(EXPERIMENTS, name)
    assert {"title", "where", "read", "context"} <= set(published)
    assert all(set(cell) == {"at", "metric", "value"} for cell in published["cells"])
    assert all(isinstance(cell["value"], int | float) for cell in published["cells"])


def test_figure_5_as_published() -> None:
    """Two independent checks of the transcription: the paper's own row averages, and its best cell."""
    published = load_published(EXPERIMENTS, "simclr/figure_5")
    cells = {tuple(cell["at"].values()): cell["value"] for cell in published["cells"]}
    assert len(cells) == 49
    averages = {"crop": 39.2, "cutout": 29.4, "color": 25.7, "sobel": 18.8, "noise": 15.5, "blur": 14.5, "rotate": 13.8}
    for row, average in averages.items():
        values = [value for (first, _), value in cells.items() if first == row]
        assert sum(values) / 7 == pytest.approx(average, abs=0.1)
    assert max(cells, key=lambda key: cells[key]) == ("crop", "color")


def test_a_grid_may_say_what_all_its_cells_share() -> None:
    cells = load_published(EXPERIMENTS, "simclr/figure_b2")["cells"]
    assert len(cells) == 7 * 8 - 1, "one bar is a failed run"
    assert all(cell["at"]["optimizer.lars.lr_scaling"] == "sqrt" for cell in cells)


def test_an_unknown_artefact_names_the_nearest() -> None:
    with pytest.raises(SpecError, match="did you mean 'simclr/figure_5'"):
        load_published(EXPERIMENTS, "simclr/figur_5")


@pytest.mark.parametrize(
    "name",
    ["moco+simclr", "a@smoke", "a,b", "a'b", 'a"b', "-a", " a", "a ", "a\nb", "a$b", "a;b", "a%b", "a\\b", "a=b",
     "x" * 150, "a\u202eb"],
)  # fmt: skip
def test_a_name_that_not_every_door_takes_is_refused_at_the_first(folder: Path, name: str) -> None:
    path = folder / f"{name}.yaml"
    path.write_text(GOOD, encoding="utf-8")
    with pytest.raises(SpecError, match=r"rename the file|is too long") as caught:
        load_experiment(path)
    assert len(caught.value.complaints) == 1 and str(caught.value).isprintable()


def test_a_scale_s_name_is_held_to_the_same(tmp_path: Path) -> None:
    (tmp_path / "scales").mkdir()
    (tmp_path / "scales" / "a+b.yaml").write_text((EXPERIMENTS / "scales" / "smoke.yaml").read_text())
    (tmp_path / "exp.yaml").write_text(GOOD.replace("scale: smoke", "scale: a+b"))
    with pytest.raises(SpecError, match=r"a\+b.yaml: 'a\+b' cannot name"):
        load_experiment(tmp_path / "exp.yaml")


@pytest.mark.parametrize("name", ["my study", "größe", "実験", "a.b-c_d", "x" * 100])
def test_names_that_every_door_takes(folder: Path, name: str) -> None:
    (folder / f"{name}.yaml").write_text(GOOD, encoding="utf-8")
    assert load_experiment(folder / f"{name}.yaml").name == name


def test_complaints_about_parts_of_lists_and_scales_name_their_lines(folder: Path) -> None:
    claim = "{id: a, says: b, where: c, expect: {best: {a: 1}}}"
    text = GOOD + f"claims:\n  - {claim}\n  - {claim.replace('says', 'sayz')}\n"
    said = complaint(folder, text)
    assert "exp.yaml:10: unknown key 'sayz': did you mean 'says'?" in said and "exp.yaml:9:" not in said
