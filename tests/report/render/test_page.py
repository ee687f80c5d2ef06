"""The page: whole at any share of the runs, offline, escaped, linked, accessible, the same bytes every time."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import unicodedata
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from harness.report.judge.judging import judge_all
from harness.report.judge.verdicts import DECIDED
from harness.report.read.collect import collect
from harness.report.read.records import Results
from harness.report.render.export import to_latex, to_markdown
from harness.report.render.heatmap import contrast
from harness.report.render.page import render
from harness.store.causes import Cause
from tests.report.fake_results import BATCH, EPOCHS, TAU, FakeResults, add, fate_of, figure_5, spec_of, temperature

EACH = pytest.mark.parametrize("share", ["nothing", "some", "all"])
TURNING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Outline(HTMLParser):
    """Checks nesting and collects every element with its attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(attrs) == len({name for name, _ in attrs}), (tag, attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data

    def attributes(self, name: str) -> list[str]:
        return [attributes[name] or "" for _, attributes in self.elements if name in attributes]


@EACH
def test_well_formed_with_unique_ids_and_working_links(pages: dict[str, str], share: str) -> None:
    outline = Outline(pages[share])
    ids = outline.attributes("id")
    assert len(ids) == len(set(ids))
    links = outline.attributes("href") + outline.attributes("xlink:href")
    assert all(link.startswith("#") or link == "data:," for link in links)
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    labels = outline.attributes("aria-labelledby")
    assert labels and set(labels) <= set(ids)


@EACH
def test_offline_and_without_scripts(pages: dict[str, str], share: str) -> None:
    outline = Outline(pages[share])
    assert not {"script", "iframe", "object", "embed", "img"} & {tag for tag, _ in outline.elements}
    assert not outline.attributes("src") and not re.search(r"@import|url\((?!#)", pages[share])
    addresses = set(re.findall(r"https?://[^\s\"'<]+", pages[share]))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


@EACH
def test_tables_say_what_their_headers_head(pages: dict[str, str], share: str) -> None:
    outline = Outline(pages[share])
    heads = [attributes for tag, attributes in outline.elements if tag == "th"]
    assert heads and all(attributes.get("scope") in ("row", "col", "colgroup", "rowgroup") for attributes in heads)
    assert sum(tag == "caption" for tag, _ in outline.elements) >= 6
    assert sum(tag == "h1" for tag, _ in outline.elements) == 1


@EACH
def test_the_scoreboard_comes_first_and_counts_what_was_not_run(pages: dict[str, str], share: str) -> None:
    text = re.sub(r"\s+", " ", Outline(pages[share]).text)
    assert text.index("Scoreboard") < text.index("One shared crop")
    lead = re.search(r"8 claims judged.*?runs are done[^.]*\.", text)
    assert lead is not None
    expected = {"nothing": "8 not run. 0 of 186 runs are done; 186 not run.", "all": "186 of 186 runs are done."}
    if share in expected:
        assert lead.group().endswith(expected[share])
    else:
        assert re.search(r"\d+ running, \d+ diverged, \d+ failed, \d+ not run", lead.group())


def test_every_measured_cell_leads_to_its_runs_and_a_line_that_repeats_them(
    pages: dict[str, str], results: dict[str, Results]
) -> None:
    outline = Outline(pages["all"])
    arms = {f"#augmentation-pairs-micro-arm-{index}" for index in range(49)}
    assert arms <= set(outline.attributes("href"))
    experiment = results["all"].experiments[0]
    run = experiment.arms[0].runs[0]
    assert f"python -m harness.sweep experiments/augmentation_pairs.yaml --scale micro --only {run}" in outline.text
    assert "--scale micro -o schedule.epochs=20 --only" in outline.text  # overrides belong to the line


def test_arms_show_what_they_change(pages: dict[str, str]) -> None:
    assert re.search(r"<code>objective.nt_xent.temperature</code> 0.05 → <b>0.1</b>", pages["all"])


def test_states_are_drawn_as_what_they_are(pages: dict[str, str]) -> None:
    for state in ("not-run", "failed", "running"):
        assert f"hole s-{state}" in pages["some"]
    assert "RuntimeError: CUDA out of memory" in pages["some"]
    assert "hole s-" not in pages["all"].replace("hole s-absent", "")


def test_nothing_of_the_results_is_markup(fake: FakeResults) -> None:
    evil = '<script>alert(1)</script>"><img src=x onerror=1>{{ 7*7 }}'
    spec = spec_of({TAU: evil}, 0)
    run = fake.fail(spec, evil)
    metric = "linear/top1"
    cells = [{"at": {TAU: evil}, "metric": metric, "value": 1.0}]
    fake.experiment(
        "one",
        title=evil,
        question=evil,
        scale_note=evil,
        file=evil,
        overrides={evil: evil},
        arms=[{"settings": {TAU: evil}, "runs": {"0": run}}],
        claims=[
            {"id": evil, "says": evil, "where": evil, "expect": {"close": {TAU: evil}, "within": 1}, "summary": evil}
        ],
        report=[
            {"table": {"rows": {evil: TAU}, "columns": {evil: metric}, "published": evil}},
            {
                "heatmap": {
                    "rows": {evil: TAU},
                    "columns": {evil: TAU},
                    "cell": metric,
                    "row_mean": evil,
                    "published": evil,
                }
            },
            {"lines": {"x": {evil: TAU}, "y": metric, "published": evil}},
        ],
        published={evil: {"title": evil, "where": evil, "page": evil, "context": evil, "cells": cells}},
    )
    (fake.root / "experiments" / "<b>broken@micro.json").write_text(evil, encoding="utf-8")
    page = render(collect(fake.root))
    Outline(page)
    assert "<script" not in page and "<img" not in page and "<b>broken" not in page
    assert "{{ 7*7 }}" in page


def test_nothing_of_the_results_turns_the_text_around(fake: FakeResults) -> None:
    """Titles, names, values, notes and failures with every character that Unicode calls a bidirectional control."""
    controls = [chr(code) for code in range(sys.maxunicode + 1) if unicodedata.bidirectional(chr(code)) in TURNING]
    assert {"\u202a", "\u202e", "\u2066", "\u2069"} <= set(controls)
    controls += ["\u061c", "\u200e", "\u200f"]  # marks, which turn punctuation
    evil = f"a{''.join(controls)}b"
    run = fake.fail(spec_of({TAU: evil}, 0), evil)
    cells = [{"at": {TAU: evil, EPOCHS: epochs}, "metric": "linear/top1", "value": 1.0} for epochs in (1, 2)]
    fake.experiment(
        "one",
        title=evil,
        question=evil,
        scale_note=evil,
        arms=[{"settings": {TAU: evil}, "runs": {"0": run}}],
        claims=[{"id": evil, "says": evil, "where": evil, "expect": {"close": {TAU: evil}, "within": 1}}],
        report=[
            {"table": {"rows": {evil: TAU}, "columns": {evil: "linear/top1"}, "published": "simclr/x"}},
            {"lines": {"x": {evil: EPOCHS}, "lines": {evil: TAU}, "y": "linear/top1", "published": "simclr/x"}},
        ],
        published={"simclr/x": {"title": evil, "where": evil, "context": evil, "cells": cells}},
    )
    results = collect(fake.root)
    for text in (render(results), to_markdown(results), to_latex(results)):
        assert not [hex(ord(one)) for one in controls if one in text]
        assert "a[U+" in text and "[U+202E]" in text


@pytest.mark.parametrize("claims", [[], [{"id": "c", "says": "s", "expect": {"nonsense": 1}}]])
def test_an_experiment_with_nothing_in_it(fake: FakeResults, claims: list[dict[str, Any]]) -> None:
    fake.experiment("one", claims=claims)
    Outline(render(collect(fake.root)))


def test_an_empty_results_folder(fake: FakeResults) -> None:
    assert "There are no experiments" in Outline(render(collect(fake.root))).text


def test_all_diverged(fake: FakeResults) -> None:
    temperature(fake, lambda settings, seed: "diverged")
    page = render(collect(fake.root))
    Outline(page)
    assert "hole s-diverged" in page and "18 diverged" in page
    assert "its loss was not finite at or before step 80" in page and "None" not in Outline(page).text


def test_only_an_unchanged_paper_scale_is_called_the_papers(fake: FakeResults) -> None:
    for name, overrides in (("plain", {}), ("changed", {"schedule.epochs": 5})):
        fake.experiment(name, "imagenet", paper_scale=True, overrides=overrides)
    headings = re.findall(r"<h2 id=\"(\w+)[^>]*>(.*?)</h2>", render(collect(fake.root)))
    said = {name: "the paper’s scale" in text for name, text in headings if name in ("plain", "changed")}
    assert said == {"plain": True, "changed": False}
    assert [name for name, text in headings if "with schedule.epochs = 5" in text] == ["changed"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ([{EPOCHS: 10}, {EPOCHS: 20}, {EPOCHS: 40}], "epochs 10, 20, 40"),
        ([{EPOCHS: 500}], "epochs 500"),
        ([{EPOCHS: 20}], ""),
        ([{"encoder.micro.depth": 1}, {"encoder.micro.depth": 2}], "depth 1, 2"),
        ([{"data.cifar10.train_images": 500}], "train images 500"),
        ([{"schedule.batch_size": 32}, {"schedule.batch_size": 64}], ""),  # of which the note says nothing
        ([{TAU: 0.1}, {TAU: 0.5}], ""),
    ],
)
def test_a_scales_note_does_not_speak_for_what_the_arms_set(
    fake: FakeResults, settings: list[dict[str, Any]], said: str
) -> None:
    note = "10 000 images and a narrow network for 20 epochs."
    arms = [{"settings": one, "runs": {}} for one in settings]
    fake.experiment("one", scale_note=note, arms=arms, claims=[])
    text = " ".join(Outline(render(collect(fake.root))).text.split())
    told = f"{note} Except where the settings say otherwise: {said}." in text
    assert told is bool(said) and ("say otherwise" in text) is bool(said)
    assert (f"At micro: {note} Where an experiment’s settings say otherwise" in text) is bool(said)


@pytest.mark.parametrize(
    ("fixed", "overrides", "speaks"),
    [
        ({}, {}, True),
        ({"optimizer.lars.lr": 0.5}, {}, True),
        ({"data": {"image_folder": {"path": "pics"}}}, {}, False),
        ({"schedule.epochs": 3}, {}, False),
        ({}, {"encoder.micro.width": 2}, False),
    ],
)
def test_a_scales_note_does_not_speak_for_other_data(
    fake: FakeResults, fixed: dict[str, Any], overrides: dict[str, Any], speaks: bool
) -> None:
    """What the runs' specifications say stands there then, and ``fixed:`` is listed like ``-o``."""
    path = figure_5(fake, fate_of(1.0), seeds=1)
    held = json.loads(path.read_text(encoding="utf-8"))
    other = path.with_stem(f"{path.stem}+1a2b3c") if overrides else path
    path.unlink()
    note = "10 000 CIFAR-10 images for 20 epochs."
    other.write_text(json.dumps(held | {"fixed": fixed, "overrides": overrides, "scale_note": note}), encoding="utf-8")
    text = " ".join(Outline(render(collect(fake.root))).text.split())
    assert (note in text) is speaks and ("; network " in text) is not speaks
    for path_set in fixed:
        assert "Fixed in its file" in text and f"{path_set} = " in text


def test_a_sweep_with_overrides_stands_beside_the_one_without(fake: FakeResults) -> None:
    path = figure_5(fake, fate_of(1.0), seeds=1)
    held = json.loads(path.read_text(encoding="utf-8"))
    other = path.with_stem(f"{path.stem}+1a2b3c")
    other.write_text(json.dumps(held | {"overrides": {"schedule.epochs": 20}}), encoding="utf-8")
    ids = Outline(render(collect(fake.root))).attributes("id")
    assert len(ids) == len(set(ids))


def test_problems_are_on_the_page(fake: FakeResults) -> None:
    figure_5(fake, fate_of(1.0), seeds=1)
    victim = next(iter(sorted(fake.root.glob("runs/*/evaluations/*.json"))))
    victim.write_text('{"run"', encoding="utf-8")
    text = Outline(render(collect(fake.root))).text
    assert "1 file could not be used" in text and victim.relative_to(fake.root).as_posix() in text


@pytest.mark.parametrize("huge", [1e300, 1.7e308])
def test_one_huge_number_does_not_take_the_page_with_it(fake: FakeResults, huge: float) -> None:
    """As a share of images it is a broken file; as an entropy it is drawn and judged like any other number."""

    def values(settings: dict[str, Any], seed: int) -> dict[str, dict[str, float]]:
        wild = (huge, -huge, 1.0)[seed]
        return {"linear": {"top1": abs(wild)}, "contrastive": {"top1": 60.0 + seed, "entropy": wild}}

    arms = [add(fake, {TAU: tau}, 3, fate_of(1.0), values) for tau in (0.1, 0.5)]
    report: list[dict[str, Any]] = [
        {"table": {"rows": {"τ": TAU}, "columns": {"Top-1": "linear/top1", "Entropy": "contrastive/entropy"}}},
        {"lines": {"x": {"τ": TAU}, "y": "contrastive/entropy"}},
        {"heatmap": {"rows": {"τ": TAU}, "columns": {"τ'": TAU}, "cell": "contrastive/entropy", "row_mean": True}},
    ]
    claims = [{"id": "c", "says": "s", "on": "contrastive/entropy", "expect": {"monotone": TAU}}]
    fake.experiment("one", arms=arms, report=report, claims=claims)
    text = Outline(render(collect(fake.root))).text
    assert "4 files could not be used" in text and "outside of 0 to 100" in text


def test_mixed_code_is_said(fake: FakeResults) -> None:
    arm = add(fake, {TAU: 0.1}, 2, fate_of(1.0), lambda settings, seed: {"linear": {"top1": 50.0 + seed}})
    path = fake.folder(arm["runs"]["1"]) / "provenance.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"code": "other"}), encoding="utf-8")
    fake.experiment("one", arms=[arm], claims=[])
    assert "2 versions of the numeric sources." in Outline(render(collect(fake.root))).text
    (mine,) = {
        json.loads(one.read_text(encoding="utf-8"))["code"] for one in fake.root.glob("runs/*/provenance.json")
    } - {"other"}
    (fake.root / "sources").mkdir()
    for code, digest in ((mine, "1"), ("other", "2"), ("third", "3")):
        files = {"train/loop.py": digest, "data/<b>.py": "same", **({"gone.py": "x"} if code == "other" else {})}
        (fake.root / "sources" / f"{code}.json").write_text(json.dumps(files), encoding="utf-8")
    told = " ".join(Outline(render(collect(fake.root))).text.split())
    assert re.search(r"which differ in gone\.py ?, train/loop\.py ?\.", told), told[:2000]
    assert "third" not in told


def test_a_run_of_two_codes_is_named(fake: FakeResults) -> None:
    arm = add(fake, {TAU: 0.1}, 2, fate_of(1.0), lambda settings, seed: {"linear": {"top1": 50.0 + seed}})
    run = arm["runs"]["1"]
    path = fake.folder(run) / "provenance.json"
    held = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(held | {"codes": ["before", held["code"]]}), encoding="utf-8")
    fake.experiment("one", arms=[arm], claims=[])
    told = " ".join(Outline(render(collect(fake.root))).text.split())
    assert "2 versions of the numeric sources." in told
    assert re.search(rf"Trained in part by one and in part by another: {run} ?\.", told)
    assert f"before, then {held['code']} (1)" in told


def test_a_teacher_that_is_evaluated_is_said(fake: FakeResults) -> None:
    arm = add(fake, {TAU: 0.5}, 2, fate_of(1.0), lambda settings, seed: {"linear": {"top1": 50.0}})
    fake.experiment("one", arms=[arm])
    assert "Evaluated network" not in render(collect(fake.root))
    path = fake.folder(next(iter(arm["runs"].values()))) / "provenance.json"
    path.write_text(
        json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"evaluates": "teacher"}), encoding="utf-8"
    )
    text = re.sub(r"\s+", " ", Outline(render(collect(fake.root))).text)
    assert "Evaluated network. Of 1 run with method" in text and "the teacher is evaluated" in text


def test_another_precision_than_was_asked_for_is_said(fake: FakeResults) -> None:
    settings = {TAU: 0.5, "precision": "bfloat16"}
    arm = add(fake, settings, 2, fate_of(1.0), lambda settings, seed: {"linear": {"top1": 50.0}})
    fake.experiment("one", arms=[arm])
    assert "Other precision" not in render(collect(fake.root))
    for run, used in zip(arm["runs"].values(), ("float32", "bfloat16"), strict=True):
        path = fake.folder(run) / "provenance.json"
        path.write_text(
            json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"precision": used}), encoding="utf-8"
        )
    text = re.sub(r"\s+", " ", Outline(render(collect(fake.root))).text)
    assert "1 run with precision: bfloat16 was computed in float32" in text


def test_a_failure_is_told_with_its_class_and_what_then(fake: FakeResults) -> None:
    evil = "<script>alert('log')</script> Traceback <b>"
    arm = add(fake, {TAU: 0.1}, 1, fate_of(1.0), lambda settings, seed: {"linear": {"top1": 50.0}})
    run = fake.folder(arm["runs"]["0"])
    (run / "outcome.json").unlink()
    failed = {"type": "MemoryError", "message": evil, "traceback": evil, "cause": "out of memory"}
    (run / "failed.json").write_text(json.dumps(failed), encoding="utf-8")
    fake.experiment("one", arms=[arm], claims=[], title=f"T {evil}")
    page = render(collect(fake.root))
    assert "failed: MemoryError: &lt;script&gt;" in page and "<script" not in page
    assert f"(out of memory; {Cause.OOM.policy})" in Outline(page).text


def test_same_files_same_bytes_without_torch(folders: dict[str, Path], pages: dict[str, str]) -> None:
    """Another process, another hash seed, another folder name and time zone: the same page. And torch stays out."""
    program = (
        "import sys; from pathlib import Path; from harness.report.read.collect import collect; "
        "from harness.report.render.page import render; "
        "sys.stdout.buffer.write(render(collect(Path(sys.argv[1]))).encode()); "
        "assert 'torch' not in sys.modules and 'submitit' not in sys.modules"
    )
    moved = folders["some"].with_name("elsewhere")
    moved.symlink_to(folders["some"])
    environment = os.environ | {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    done = subprocess.run([sys.executable, "-c", program, str(moved)], capture_output=True, env=environment, check=True)
    assert done.stdout.decode() == pages["some"]


def test_a_public_run_is_no_paper(fake: FakeResults) -> None:
    """Its number stands beside ours under its own name, and not among the papers at the top."""
    values = lambda settings, seed: {"linear": {"top1": 40.0 + settings[EPOCHS] / 10 + seed}}  # noqa: E731
    arms = [add(fake, {EPOCHS: epochs}, 2, fate_of(1.0), values) for epochs in (200, 500)]
    cells = [{"at": {EPOCHS: e}, "metric": "linear/top1", "value": value} for e, value in ((200, 88.0), (500, 90.3))]
    table = {"table": {"rows": {"epochs": EPOCHS}, "columns": {"Top-1": "linear/top1"}, "published": "public/run"}}
    fake.experiment("one", arms=arms, report=[table], published={"public/run": {"cells": cells}}, claims=[])
    page = re.sub(r"\s+", " ", Outline(render(collect(fake.root))).text)
    assert "Ablation report Which claims" in page
    assert "Ours beside the public run" in page and "the public run’s highest too (90.3 %)" in page
    assert "the paper’s" not in page.partition("Top-1: highest")[2].partition(".")[0]


@pytest.mark.parametrize("printed", [False, True])
def test_who_says_nothing_has_no_column(fake: FakeResults, printed: bool) -> None:
    """A study of one's own has no paper to stand beside, and no summary of one."""
    values = lambda settings, seed: {"linear": {"top1": 40.0 + settings[EPOCHS] / 10 + seed}}  # noqa: E731
    arms = [add(fake, {EPOCHS: epochs}, 2, fate_of(1.0), values) for epochs in (200, 500)]
    claim = {"id": "c", "says": "longer is better", "on": "linear/top1", "expect": {"monotone": EPOCHS}}
    cells = [{"at": {EPOCHS: e}, "metric": "linear/top1", "value": value} for e, value in ((200, 60.0), (500, 63.0))]
    published = {"simclr/table": {"cells": cells}} if printed else {}
    fake.experiment("one", arms=arms, published=published, claims=[claim])
    page = render(collect(fake.root))
    board = page.partition('class="score"')[2].partition("</table>")[0]
    heads = re.findall(r'<th scope="col"[^>]*>(.*?)</th>', board)
    assert heads == ["Claim", *["Paper"] * printed, "Ours", "Verdict", "n", "What would decide it"]
    (row,) = re.findall(r'<tr role="row">\s*<th scope="row".*?</tr>', board, re.S)
    assert len(re.findall(r"<t[dh]\b", row)) == len(heads) and f'colspan="{len(heads)}"' in board
    assert ("the paper’s own numbers" in board) is printed and "summary" not in board


def test_what_is_decided_stands_at_the_top_with_its_scale(results: dict[str, Results], pages: dict[str, str]) -> None:
    text = re.sub(r"\s+", " ", Outline(pages["all"]).text)
    top, _, board = text.partition("Scoreboard")
    decided = [one for one in judge_all(results["all"]) if one.ours.verdict in DECIDED]
    assert decided
    for one in decided:
        said = one.claim.says[:1].upper() + one.claim.says[1:]
        assert said in top and said in board
    assert f"at {decided[0].experiment.scale}; claimed: " in top
    nothing = re.sub(r"\s+", " ", Outline(pages["nothing"]).text).partition("Scoreboard")[0]
    assert "claimed:" not in nothing


def test_the_page_opens_with_the_picture(results: dict[str, Results], pages: dict[str, str]) -> None:
    top = pages["all"].partition("Scoreboard")[0]
    assert top.count('<table class="heat">') == 2 and "each picture from its own lowest" in top
    assert 'class="opening"' not in pages["nothing"], "without a number of ours there is no picture to compare"


def test_colours_of_the_style_sheet_read_well(pages: dict[str, str]) -> None:
    """Text against its background in both themes: WCAG AA, 4.5 to 1; lines too, as their names share it."""
    roots = re.findall(r":root \{([^}]*)\}", pages["all"])
    themes = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})", root)) for root in roots]
    sheet, sheet_dark, _print, lines, lines_dark = themes
    light, dark = sheet | lines, sheet | sheet_dark | lines_dark
    for theme in (light, dark):
        for name in ("good", "bad", "open", "none"):
            assert contrast(theme[name], theme[f"{name}-bg"]) >= 4.5, name
        for name in ("ink", "soft", "link", "bad", "good"):
            assert contrast(theme[name], theme["paper"]) >= 4.5, name
        assert contrast(theme["soft"], theme["hole"]) >= 4.5
        assert contrast(theme["bad"], theme["hole"]) >= 4.5 and contrast(theme["good"], theme["hole"]) >= 4.5
        assert contrast(theme["ink"], theme["open-bg"]) >= 4.5
        for index in range(10):
            assert contrast(theme[f"line-{index}"], theme["paper"]) >= 4.5, index


@pytest.mark.slow
def test_ten_thousand_runs_stay_small(fake: FakeResults) -> None:
    def values(settings: dict[str, Any], seed: int) -> dict[str, dict[str, float]]:
        return {"linear": {"top1": 40.0 + seed}}

    arms = [add(fake, {TAU: 0.001 * index}, 5, fate_of(1.0), values) for index in range(2000)]
    block = {"table": {"rows": {"tau": TAU}, "columns": {"Top-1": "linear/top1"}}}
    claims = [{"id": "c", "says": "s", "expect": {"best": {TAU: [0.0]}}}]
    fake.experiment("many", arms=arms, seeds=5, report=[block], claims=claims)
    page = render(collect(fake.root))
    assert len(page.encode()) < 5_000_000
    assert "10000 of 10000 runs are done" in Outline(page).text.replace(" ", " ")


@pytest.mark.parametrize(
    ("span", "ticks"), [(1.0, ["20.0", "20.2", "20.5", "20.8", "21.0"]), (30.0, ["20", "28", "35", "42", "50"])]
)
def test_the_ticks_of_a_legend_differ_however_near_the_numbers_are(
    fake: FakeResults, span: float, ticks: list[str]
) -> None:
    arms = [
        add(fake, {TAU: tau, BATCH: 64}, 1, fate_of(1.0), lambda at, _: {"linear": {"top1": 20.0 + span * at[TAU]}})
        for tau in (0.0, 1.0)
    ]
    shown = {"heatmap": {"rows": {"tau": TAU}, "columns": {"batch": BATCH}, "cell": "linear/top1"}}
    fake.experiment("one", arms=arms, report=[shown], claims=[])
    found = re.findall(r"<div class=\"ticks\">(.*?)</div>", render(collect(fake.root)))
    assert ticks in [re.findall(r"<span>(.*?)</span>", one) for one in found]
