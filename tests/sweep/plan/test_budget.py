"""What claims need and cost, what a budget buys, and runs whose weights are elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.config.experiment import load_experiment
from harness.store.results import State, Store, write_json
from harness.sweep.__main__ import main
from harness.sweep.display.format import hours, hours_of
from harness.sweep.plan.budget import by_evidence, select
from harness.sweep.plan.claim_requirements import missing, needs, outlook
from harness.sweep.plan.cost import Prices, estimate
from harness.sweep.plan.plan import Plan, make_plan

Write = Callable[..., Path]

THREE = [
    ("[0.1, 0.5]", "[0.1, 0.5, 1.0]"),
    ("seeds: 2", "seeds: 3"),
    ("runs: 4", "runs: 9"),
    ("looks: [2]", "looks: [3]"),
]
"""Three cells of three seeds; the claim looks at two of the cells."""


def plan(path: Path, tmp_path: Path) -> Plan:
    return make_plan(load_experiment(path), Store(tmp_path / "results"))


def end(one: Plan, run: str, *, evaluated: bool = True, weights: bool = True, status: str = "trained") -> None:
    folder = one.store.run(run)
    folder.create(one.runs[run].run.spec())
    write_json(folder.outcome, {"run": run, "status": status})
    folder.checkpoints.mkdir(exist_ok=True)
    if weights:
        folder.weights.touch()
    for evaluation in one.evaluations if evaluated else ():
        write_json(folder.evaluation(evaluation.id), {"run": run, "values": {"top1": 1.0}, "wall_seconds": 1.0})


def tau_and_seed(one: Plan, run: str) -> tuple[float, int]:
    planned = one.runs[run].run
    return planned.objective["nt_xent"]["temperature"], planned.seed


def cost(prices: Prices, one: Plan) -> float:
    """Hours of one run: they all cost the same here."""
    return estimate(prices, one.to_do[:1], one.evaluations, 1).hours


@pytest.mark.parametrize(("text", "number"), [("40h", 40), ("90m", 1.5), ("2d", 48), (" 0.5 H ", 0.5), ("1.5h", 1.5)])
def test_hours(text: str, number: float) -> None:
    assert hours_of(text) == number


@pytest.mark.parametrize("text", ["x", "h", "40", "40w", "-3h", "0h", "four", "1e3h", "nan", "1h30m"])
def test_no_hours(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        hours_of(text)


def test_hours_in_three_digits() -> None:
    assert [hours(number) for number in (0.0421, 3.456, 99.96, 1234.4)] == ["0.0421", "3.46", "100", "1,234"]


def test_seed_0_of_all_cells_then_what_claims_need_then_the_rest(write: Write, tmp_path: Path) -> None:
    made = plan(write(*THREE), tmp_path)
    order = by_evidence([(made, made.to_do)], dict.fromkeys(made.runs, 1.0))
    assert [tau_and_seed(made, run) for run in order] == [
        *[(0.1, 0), (0.5, 0), (1.0, 0)],
        *[(0.1, 1), (0.5, 1), (0.1, 2), (0.5, 2)],
        *[(1.0, 1), (1.0, 2)],
    ]


def test_the_cheapest_claim_is_completed_first_and_its_runs_count_for_the_next(write: Write, tmp_path: Path) -> None:
    two = (
        "claims:\n",
        "claims:\n"
        "  - {id: dear, says: s, where: w, on: linear/top1, expect: {monotone: objective.nt_xent.temperature}}\n",
    )
    made = plan(write(*THREE, two), tmp_path)
    order = by_evidence([(made, made.to_do)], dict.fromkeys(made.runs, 1.0))
    assert [tau_and_seed(made, run)[0] for run in order[3:]] == [0.1, 0.5, 0.1, 0.5, 1.0, 1.0]
    dear = {run: 9.0 if tau_and_seed(made, run)[0] < 1 else 0.0 for run in made.runs}
    assert {*order} == {*by_evidence([(made, made.to_do)], dear)}


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        (0, "NOT RUN: none of its runs"),
        (2.5, "INCONCLUSIVE or NOT RUN: no seed complete"),  # the seed-0 run of one of its two cells
        (4, "INCONCLUSIVE: 1 of the 3 seeds of the first look"),
        (6, "INCONCLUSIVE: 2 of the 3 seeds of the first look"),
        (7, ""),
    ],
)
def test_a_budget_says_which_claims_stay_open(write: Write, tmp_path: Path, runs: float, said: str) -> None:
    made = plan(write(*THREE, ("temperature: 0.5}", "temperature: 1.0}")), tmp_path)  # first and third cell
    prices = Prices(None)
    selected = select([(made, made.to_do)], prices, (runs + 0.01) * cost(prices, made))
    assert len(selected.selected) == int(runs) and len(selected.left_out) == 9 - int(runs)
    assert selected.hours == pytest.approx(int(runs) * cost(prices, made))
    assert [why for _, why in selected.open_claims] == ([said] if said else [])
    assert all(name == "small@smoke/lower-is-better" for name, _ in selected.open_claims)


def test_files_share_a_budget_and_pay_for_a_shared_run_once(write: Write, tmp_path: Path) -> None:
    one = plan(write(), tmp_path)
    other = plan(write(("[0.1, 0.5]", "[0.5, 1.0]"), ("temperature: 0.1", "temperature: 1.0"), name="other"), tmp_path)
    offer = [(one, one.to_do), (other, other.to_do)]
    prices = Prices(None)
    selected = select(offer, prices, 100.0)
    assert len(selected.selected) == 6 and not selected.open_claims
    assert [one.runs[run].run.seed if run in one.runs else other.runs[run].run.seed for run in selected.selected] == (
        [0, 0, 0, 1, 1, 1]
    )
    few = select(offer, prices, 3.5 * cost(prices, one))
    assert len(few.selected) == 3 and len(few.open_claims) == 2


def test_what_is_done_or_queued_is_not_bought_again(write: Write, tmp_path: Path) -> None:
    made = plan(write(), tmp_path)
    first, *rest = made.runs
    end(made, first)
    made = plan(write(), tmp_path)
    (need,) = needs(made)
    assert [one.folder.id for one in missing(need, made)] == sorted(
        rest, key=lambda run: (made.runs[run].run.seed, rest.index(run))
    )
    assert outlook(need, made, rest) == (True, "can be decided: the look at 2 seeds")
    selected = select([(made, [])], Prices(None), 1.0, queued=rest)
    assert not selected.selected and not selected.open_claims


def test_a_diverged_run_leaves_its_claim_open_whatever_is_bought(write: Write, tmp_path: Path) -> None:
    made = plan(write(), tmp_path)
    end(made, next(iter(made.runs)), status="diverged")
    made = plan(write(), tmp_path)
    (need,) = needs(made)
    assert outlook(need, made, made.runs) == (False, "INCONCLUSIVE: 1 of its runs diverged")


def test_core_hours_count_the_cores_of_a_run(write: Write, tmp_path: Path) -> None:
    from harness.store import provenance

    made = plan(write(), tmp_path)
    run = next(iter(made.runs))
    end(made, run)
    about = {"images_per_second": 64.0, "threads": 2, "hardware": {"cpu": provenance.cpu_name(), "gpu": None}}
    write_json(made.store.run(run).provenance, about)
    handles = [one.id for one in made.evaluations]
    for devices, seconds in ((1, 2 + 2.0 + 2.0), (2, 2 + 1.0 + 1.0), (4, 2 + 0.5 + 0.5)):
        prices = Prices.read(made.store, None, handles, devices)
        price = prices.of(made.runs[run].run, made.evaluations)
        assert price.measured and price.seconds == pytest.approx(seconds)  # start, 64 images, one evaluation
        assert prices.hours(price) == pytest.approx(seconds * devices / 3600) and prices.unit == "core-hours"


def test_a_trained_run_costs_only_what_it_lacks(write: Write, tmp_path: Path) -> None:
    made = plan(write(), tmp_path)
    run = next(iter(made.runs))
    end(made, run, evaluated=False)
    again = plan(write(("evaluate: [linear]", "evaluate: [linear, contrastive]")), tmp_path)
    one = again.runs[run]
    assert one.state is State.TRAINED and one.to_do and len(one.lacking) == 2
    price = Prices(None).left(one, again.evaluations)
    assert price.training == 0 and price.evaluating > 0


def test_a_run_without_weights_is_named_and_left_out(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = plan(write(), tmp_path)
    for run in made.runs:
        end(made, run, weights=False)
    more = write(("evaluate: [linear]", "evaluate: [linear, contrastive]"))
    again = plan(more, tmp_path)
    assert all(one.weights_missing and not one.to_do for one in again.runs.values()) and not again.to_do
    assert outlook(needs(again)[0], again, ()) == (True, "can be decided: the look at 2 seeds"), "linear/top1 is there"
    here = ["--results", str(tmp_path / "results"), "--cluster", "local"]
    assert main([str(more), "--plan", *here]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "4 trained elsewhere, evaluations and weights missing: left out" in said
    assert "0 to do" in said and "Copy checkpoints/final.pt from" in said and next(iter(made.runs)) in said
    assert main([str(more), *here]) == 1, "what was asked for cannot be had"
    assert "4 runs were left out" in capsys.readouterr().out
    assert main(["--status", *here]) == 0 and "4 runs lack evaluations" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--budget", "forty"], "'forty' is not a budget such as 40h"),
        (["--budget", "0h"], "is not a budget"),
        (["--seeds", "one"], "'one' are no seeds"),
        (["--seeds", "2-1"], "are no seeds"),
        (["--jobs", "0"], "'0' is not a number from 1"),
    ],
)
def test_bad_numbers_are_usage_errors(
    write: Write, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    with pytest.raises(SystemExit) as left:
        main([str(write()), *arguments])
    assert left.value.code == 2 and said in capsys.readouterr().err


@pytest.mark.parametrize(
    "columns, said",
    [(150, "lower-is-better 2 6 6 0.00"), (80, "\nlower-is-better\n  2 cells, 6 runs, 6 missing (")],
)
def test_names_of_claims_are_never_broken(
    write: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    columns: int,
    said: str,
) -> None:
    """They are searched for, and copied. Where the table is too wide for the terminal there is none."""
    monkeypatch.setenv("COLUMNS", str(columns))
    file = write(*THREE)
    assert main([str(file), "--results", str(tmp_path / "results"), "--cluster", "local", "--plan"]) == 0
    assert said in re.sub("  +", " " if columns > 100 else "  ", capsys.readouterr().out)


def test_seeds_and_budget_on_the_command_line(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    here = ["--results", str(tmp_path / "results"), "--cluster", "local", "--plan"]

    def said(*arguments: str) -> str:
        assert main([str(write(*THREE)), *here, *arguments]) == 0
        return " ".join(capsys.readouterr().out.split())

    assert "lower-is-better 2 6 6" in said() and "can be decided: the look at 3 seeds" in said()
    assert "INCONCLUSIVE: 1 of the 3 seeds of the first look" in said("--seeds", "0")
    assert "INCONCLUSIVE: 2 of the 3 seeds of the first look" in said("--seeds", "0-1")
    gap = said("--seeds", "0,2")
    assert "INCONCLUSIVE: 1 of the 3 seeds of the first look" in gap == said("--seeds", "0", "--seeds", "0,2")
    assert "9 of 9 runs fit" in said("--budget", "40h")
    nothing = said("--budget", "0.00001h")
    assert "0 of 9 runs fit" in nothing and "No run that is to do was chosen" in nothing
    assert "small@smoke/lower-is-better NOT RUN: none of its runs" in nothing
    assert main([str(write(*THREE)), *here, "--seeds", "3"]) == 2
    assert "--seeds 3: small@smoke has 3 seeds, 0 to 2" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_a_fault_in_the_second_file_costs_nothing(write: Write, tmp_path: Path) -> None:
    good, bad = write(), write(("runs: 4", "runs: 5"), name="bad")
    assert main([str(good), str(bad), "--results", str(tmp_path / "results"), "--cluster", "local"]) == 2
    assert not (tmp_path / "results").exists()
