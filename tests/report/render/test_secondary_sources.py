"""The summary is judged as a witness: on its own figures, against the paper's."""

from __future__ import annotations

from typing import Any

import pytest

from harness.report.judge.judging import ELSEWHERE, IN_WORDS, NO_NUMBER, REFERENCE, judge_all
from harness.report.judge.score import Score
from harness.report.read.collect import collect
from harness.report.render.page import render
from harness.report.render.secondary_sources import Said, said
from tests.report.fake_results import FakeResults, add, fate_of

X = "schedule.batch_size"
PAPER = {1: 10.0, 2: 20.0, 3: 30.0}
SUMMARY = {1: 10.4, 2: 35.0, 3: 30.0}


def table(numbers: dict[int, float]) -> dict[str, Any]:
    return {"cells": [{"at": {X: at}, "metric": "linear/top1", "value": value} for at, value in numbers.items()]}


def experiment(fake: FakeResults, *claims: dict[str, Any]) -> None:
    arms = [add(fake, {X: at}, 1, fate_of(0.0, mishaps=False), None) for at in PAPER]
    published = {"simclr/t": table(PAPER), "summary/t": table(SUMMARY)}
    written = [{"id": f"c{i}", "says": "s", "on": "linear/top1", **claim} for i, claim in enumerate(claims)]
    fake.experiment("one", arms=arms, claims=written, published=published)


KINDS: list[tuple[dict[str, Any], bool | None]] = [
    ({"best": {X: [3]}}, False),
    ({"greater": [{X: 3}, {X: 1}]}, True),
    ({"order": [{X: 3}, {X: 2}, {X: 1}]}, False),
    ({"monotone": X}, False),
    ({"saturates": X, "after": 2, "within": 15.0}, True),
    ({"close": {X: 1}, "within": 1.0}, True),
    ({"close": {X: 2}, "within": 1.0}, False),
    ({"equivalent": [{X: 2}, {X: 3}], "within": 12.0}, True),
    ({"agrees": "simclr/t", "at_least": 0.5}, False),
]


@pytest.mark.parametrize(("expect", "agrees"), KINDS)
def test_every_kind_is_judged_on_its_figures(fake: FakeResults, expect: dict[str, Any], agrees: bool) -> None:
    experiment(fake, {"expect": expect})
    (judged,) = judge_all(collect(fake.root))
    assert judged.summary is not None and judged.summary_agrees is agrees
    assert Score(judged).summary_verdict == ("agrees with the paper" if agrees else "contradicts the paper")


@pytest.mark.parametrize(("difference", "agrees"), [(25.0, True), (5.0, False), (10.0, None)])
def test_a_difference_without_its_two_numbers(fake: FakeResults, difference: float, agrees: bool | None) -> None:
    """Of a metric that the summary gives no figures for; "about ten" where more than ten is claimed says nothing."""
    claim = {
        "on": "linear/top5",
        "expect": {"greater": [{X: 3}, {X: 1}], "margin": 10.0},
        "summary": {"text": "much", "difference": difference},
    }
    experiment(fake, claim)
    results = collect(fake.root)
    cells = [{"at": {X: at}, "metric": "linear/top5", "value": value} for at, value in PAPER.items()]
    held = results.experiments[0].model_dump() | {"published": {"simclr/t": {"cells": cells}}}
    (judged,) = judge_all(type(results)((type(results.experiments[0]).model_validate(held),), results.runs))
    assert judged.summary_agrees is agrees


@pytest.mark.parametrize(
    ("claim", "note"),
    [
        ({"expect": {"greater": [{X: 3}, {X: 1}]}}, ""),
        ({"expect": {"greater": [{X: 7}, {X: 1}]}}, ELSEWHERE),
        ({"expect": {"greater": [{X: 7}, {X: 8}]}, "where": "section 2.2 (in words)"}, IN_WORDS),
        ({"expect": {"greater": [{X: 3}, {X: 1}]}, "on": "linear/top5", "where": "section 2.2 (in words)"}, IN_WORDS),
        ({"expect": {"greater": [{X: 3}, {X: 1}]}, "on": "linear/top5", "where": "section 2.2"}, NO_NUMBER),
        ({"expect": {"greater": [{X: 3}, {X: 3, "on": "linear@z/top1"}]}}, NO_NUMBER),
        ({"expect": {"greater": [{X: 3}, {X: 1}]}, "on": "knn/top1"}, NO_NUMBER),
        ({"expect": {"close": {X: 7}, "within": 1.0}}, REFERENCE),
        ({"expect": {"agrees": "simclr/t", "at_least": 0.5}}, REFERENCE),
    ],
)
def test_why_the_paper_has_no_number_for_a_claim(fake: FakeResults, claim: dict[str, Any], note: str) -> None:
    """The summary's table, which has another metric, is none of the paper's."""
    arms = [add(fake, {X: at}, 1, fate_of(0.0, mishaps=False), None) for at in (1, 3, 7, 8)]
    written = [{"id": "c", "says": "s", "on": "linear/top1", **claim}]
    published = {"simclr/t": table(PAPER), "summary/t": {"cells": [{"at": {X: 7}, "metric": "knn/top1", "value": 1.0}]}}
    fake.experiment("one", arms=arms, claims=written, published=published)
    results = collect(fake.root)
    (judged,) = judge_all(results)
    assert judged.paper_note == note and (judged.paper is None) is bool(note)
    assert not note or f'<span class="muted">{note}</span>' in render(results)


def test_number_by_number(fake: FakeResults) -> None:
    experiment(fake)
    results = collect(fake.root)
    found = said(results, results.experiments[0])
    assert [one.agrees for one in found] == [True, False, True]  # 10.4 is "about 10"
    assert [one.printed for one in found] == ["10.0", "20.0", "30.0"]
    page = render(results)
    assert "The summary, number by number" in page and page.count("contradicts the paper</span>") == 1


B256 = {X: 256, "schedule.epochs": 100}


def place(value: float, **more: Any) -> dict[str, Any]:
    return {"at": B256 | more, "metric": "linear/top1", "value": value}


def printed_beside(fake: FakeResults, summary: float, *tables: dict[str, Any]) -> Said:
    """One number of the summary, beside these tables of the paper."""
    published = {f"simclr/{index}": table for index, table in enumerate(tables)}
    fake.experiment("one", claims=[], published=published | {"summary/t": {"cells": [place(summary)]}})
    results = collect(fake.root)
    (found,) = said(results, results.experiments[0])
    return found


@pytest.mark.parametrize(
    ("summary", "agrees"), [(57.5, True), (84.0, True), (70.0, False), (58.52, True), (58.6, False)]
)
def test_two_sources_are_two_numbers_and_no_range(fake: FakeResults, summary: float, agrees: bool) -> None:
    """Batch 256 for 100 epochs on ImageNet and on CIFAR-10: what lies in between is neither."""
    tables = [
        {"where": "Figure 9, section 5.2", "cells": [place(57.52)]},
        {"where": "Figure B.7", "cells": [place(83.86)]},
    ]
    found = printed_beside(fake, summary, *tables)
    assert found.agrees is agrees
    assert found.printed == "57.5 (Figure 9) or 83.9 (Figure B.7)"


def test_many_numbers_of_one_table_are_a_range_but_agree_one_by_one(fake: FakeResults) -> None:
    cells = [place(value, width=index) for index, value in enumerate([60.0, 61.3, 64.0, 68.0])]
    for summary, agrees in ((60.5, True), (66.0, False), (68.9, True)):
        found = printed_beside(fake, summary, {"where": "Figure 8", "cells": cells})
        assert (found.printed, found.agrees) == ("60.0 to 68.0", agrees)
    assert printed_beside(fake, 60.0, {"cells": cells[:2]}).printed == "60.0 or 61.3"
