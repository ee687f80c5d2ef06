"""From the comparisons of a claim to one verdict, by one rule that looks only at t intervals at planned looks.

A claim is looked at when planned numbers of seeds are complete (:mod:`harness.report.judge.looks`): a look uses the
first so many planned seeds, whatever else is there, at a level of its own, so that all looks together are wrong in 5 %.
The first look that decides, decides. The spread is that of all arms of the table
(:mod:`harness.report.judge.spread`), or the difference's own where there are too few.

* REPRODUCED: every comparison's interval lies inside its range. A conjunction is an intersection-union test
  (Berger 1982): its null hypothesis is that *some* part is false, so each part tested at level alpha keeps the whole
  at level alpha, however many parts there are. No correction is due, and none is applied. A claim that offers
  alternatives ("one of these is best") is a union of such conjunctions and pays for each: 0.05/alternatives.
* NOT REPRODUCED: some comparison (of each alternative) lies wholly outside its range. Here one false alarm among K
  comparisons is enough to be wrong, so each gets 0.05/K (Bonferroni; Holm's step-down
  begins with the same threshold and we need only its first rejection, so it would add nothing).
  How a table *ranks* is refuted by pairs surely reversed (:class:`~harness.report.judge.comparison.Agreement`).
* DIRECTION REPRODUCED, SIZE NOT: below the paper's scale a claim about a size (a margin, in the paper's points) is also
  judged without its margin; here that is reproduced and the size is not. (The two cannot both be wrong: their lines
  differ.)
* TOO SMALL TO MATTER: the claim is about a direction, and some comparison (of each alternative) surely differs from
  zero by less than the planned looks would find (with power 0.8 at the last): two one-sided tests of 5 % in all,
  divided by K. More of the planned seeds would decide nothing.
* INCONCLUSIVE: none of these; or no look is complete yet, or a comparison rests on equal numbers (no spread), on a
  selection that is not complete, on a probe that did not converge (what that costs is alike in every seed, so that no
  interval shows it), or on a diverged run, whose number is unknown and certainly not like those of its siblings. None
  of these can be REPRODUCED, and such a comparison refutes nothing either: of a diverged one the survivors are left.
* NOT COMPARABLE: the claim is that we come close to a number that the paper measured in another setting (data,
  network, length). Ours is shown beside it, but an interval around the difference would test nothing.
* NOT RUN: no comparison has a number.

Claims are judged one at a time; :func:`jointly` says which verdicts stand when all claims of a table are taken
together (Holm 1979), so that not one of them is wrong by chance, at the same level. Its p-values are those of the whole
plan of looks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from harness.config.looks import LOOKS
from harness.report.judge.comparison import Alternatives, Comparison, Look
from harness.report.judge.looks import ALPHA
from harness.report.judge.spread import Spreads


class Verdict(StrEnum):
    """What may be said about a claim."""

    REPRODUCED = "REPRODUCED"
    DIRECTION = "DIRECTION REPRODUCED, SIZE NOT"
    NOT_REPRODUCED = "NOT REPRODUCED"
    TOO_SMALL = "TOO SMALL TO MATTER"
    INCONCLUSIVE = "INCONCLUSIVE"
    NOT_COMPARABLE = "NOT COMPARABLE"
    NOT_RUN = "NOT RUN"


DECIDED = (Verdict.REPRODUCED, Verdict.DIRECTION, Verdict.NOT_REPRODUCED, Verdict.TOO_SMALL)


@dataclass(frozen=True)
class Judgement:
    """A verdict, the comparison it hangs on with what was seen of it at which look, and what would settle it.

    ``alpha`` is what the interval of that comparison may cost over all looks. ``p`` is the one-sided p-value of the
    verdict, corrections within the claim and over its looks included; 1 where nothing is decided.
    """

    verdict: Verdict
    n: int
    decide: str
    deciding: Comparison | None = None
    comparisons: int = 0
    seen: Look | None = None
    alpha: float = ALPHA
    untestable: bool = False
    p: float = 1.0

    @property
    def planned(self) -> int:
        """Seeds that were planned for the comparison the verdict hangs on."""
        return max(self.n, self.deciding.planned) if self.deciding else self.n

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The interval that the verdict hangs on."""
        return self.seen.bounds(self.alpha) if self.seen else None

    @property
    def confidence(self) -> float:
        """Its level at that look."""
        return 1 - (self.seen.level(self.alpha) if self.seen else self.alpha)


Seen = Sequence[Look | None]
"""The comparisons of one alternative at one look."""


def judge(
    alternatives: Alternatives,
    looks: Sequence[int] = LOOKS,
    spreads: Spreads | None = None,
    first: Callable[[int], Alternatives] | None = None,
) -> Judgement:
    """The verdict; see the module docstring for the rule. ``spreads`` are those of the claim's table.

    ``first`` gives the alternatives as so many first seeds have them, where values of a seed depend on other seeds.
    """
    plan = tuple(looks)
    best = max(alternatives, key=_least)
    deciding = min(best, key=_slack)
    if not any(comparison.sample or comparison.started for one in alternatives for comparison in one):
        return Judgement(Verdict.NOT_RUN, 0, _unrun(best), deciding, len(best))
    last: list[list[Look | None]] = []
    for look in plan:
        offered = first(look) if first else alternatives
        seen = [[comparison.at(look, plan, spreads) for comparison in one] for one in offered]
        if not any(one for alternative in seen for one in alternative):
            break  # nor is any later look complete
        if decided := _decided(seen):
            return decided
        if not last or all(one for alternative in seen for one in alternative):
            last = seen
    if not last:
        return Judgement(Verdict.INCONCLUSIVE, len(deciding.sample), _would_decide(best, plan), deciding, len(best))
    return _open(alternatives, last, plan)


def _decided(seen: Sequence[Seen]) -> Judgement | None:
    """What a look decides, if it does."""
    share = ALPHA / len(seen)  # "one of several" is a union: it pays for each of them
    held = [[one for one in each if one] for each in seen if all(one and one.inside(share) for one in each)]
    if held:
        p = min(max(one.p_inside() for one in each) for each in held) * len(seen)
        return _verdict(Verdict.REPRODUCED, min(held[0], key=_slack), len(held[0]), share, p)
    against = [_against(each, Look.outside, ALPHA) for each in seen]
    if all(against):
        p = max(len(each) * min(one.p_outside() for one in found) for each, found in zip(seen, against, strict=True))
        return _shown(Verdict.NOT_REPRODUCED, seen, against, ALPHA, p)
    small = [found or _against(each, Look.negligible, 2 * ALPHA) for each, found in zip(seen, against, strict=True)]
    if all(small):
        p = max(len(each) * min(min(one.p_outside(), one.p_negligible() / 2) for one in found)
                for each, found in zip(seen, small, strict=True))  # fmt: skip
        return _shown(Verdict.TOO_SMALL, seen, small, 2 * ALPHA, p)
    return None


def _against(each: Seen, speaks: Callable[[Look, float], bool], alpha: float) -> list[Look]:
    """The comparisons that speak against a conjunction, at the level that one of so many may have."""
    return [one for one in each if one and speaks(one, alpha / len(each))]


def _shown(
    verdict: Verdict, seen: Sequence[Seen], against: Sequence[Sequence[Look]], alpha: float, p: float
) -> Judgement:
    """A verdict against all alternatives, shown by the one that came nearest to its claim."""
    best = max(range(len(seen)), key=lambda index: min(_slack(one) for one in seen[index]))
    return _verdict(verdict, min(against[best], key=_slack), len(seen[best]), alpha / len(seen[best]), p)


def _verdict(verdict: Verdict, by: Look, comparisons: int, alpha: float, p: float) -> Judgement:
    return Judgement(verdict, by.seeds, "decided", by.of, comparisons, by, alpha, p=min(p, 1.0))


def _open(alternatives: Alternatives, seen: Sequence[Seen], plan: tuple[int, ...]) -> Judgement:
    """Nothing is decided at the last look that is complete."""
    share = ALPHA / len(seen)
    still = [index for index, each in enumerate(seen) if not _against(each, Look.outside, ALPHA)]
    best = max(still, key=lambda index: _least(alternatives[index]))  # one that is refuted is not what it hangs on
    each = [one for one in seen[best] if one]
    by = min([one for one in each if not one.inside(share)] or each, key=_slack, default=None)
    decide = _would_decide(alternatives[best], plan, seen[best], share)
    if by is None:
        deciding = min(alternatives[best], key=_slack)
        return Judgement(Verdict.INCONCLUSIVE, len(deciding.sample), decide, deciding, len(alternatives[best]))
    # a mean outside its range could only refute, for which its interval is the wider one: that is the one shown
    alpha = ALPHA / len(seen[best]) if by.slack <= 0 else share
    return Judgement(Verdict.INCONCLUSIVE, by.seeds, decide, by.of, len(alternatives[best]), by, alpha)


def jointly(judgements: Sequence[Judgement]) -> list[bool]:
    """Which verdicts of a table also stand together: Holm's step-down over all its claims that can be tested.

    Those that have not run count as well (p = 1): a verdict must not lose its standing because more runs came in.
    """
    tested = sorted((one.p, index) for index, one in enumerate(judgements) if not one.untestable)
    stand = [False] * len(judgements)
    for rank, (p, index) in enumerate(tested):
        if p > ALPHA / 2 / (len(tested) - rank):
            break
        stand[index] = True
    return stand


def holds(alternatives: Alternatives) -> tuple[bool, Comparison]:
    """Whether bare numbers (a printed table has no seeds) lie in the ranges, and the one with least to spare."""
    deciding = min(max(alternatives, key=_least), key=_slack)
    return round(deciding.slack, 9) > 0, deciding


def _slack(one: Comparison | Look | None) -> float:
    return one.slack if one else float("-inf")


def _least(comparisons: Iterable[Comparison]) -> float:
    return min(comparison.slack for comparison in comparisons)


def _unrun(comparisons: Sequence[Comparison]) -> str:
    diverged = sum(comparison.diverged for comparison in comparisons)
    return f"{diverged} diverged runs, no number" if diverged else "its runs"


def _would_decide(
    comparisons: Sequence[Comparison], plan: tuple[int, ...], seen: Seen = (), alpha: float = ALPHA
) -> str:
    """In words: what has to be run before the claim can be decided."""
    total = len(comparisons)
    of = f" of {total} comparisons" if total > 1 else ""
    if lost := sum(comparison.diverged > 0 for comparison in comparisons):
        return f"diverged runs leave {lost}{of or ' comparison'} without all its numbers"
    if weak := sum(comparison.unconverged > 0 for comparison in comparisons):
        return f"probes that converge: {weak}{of or ' comparison'} rest{'s' if weak == 1 else ''} on some that did not"
    if sum(comparison.selecting for comparison in comparisons):
        return "the validation numbers of every setting that is selected from: of one that diverged, too, if it leads"
    if total == 1 and comparisons[0].started and not comparisons[0].sample:
        return "one seed of every cell: no seed is complete yet"
    if unrun := sum(not comparison.sample for comparison in comparisons):
        return f"runs for {unrun}{of or ' comparison'}"
    least = min(comparisons, key=lambda one: one.complete)
    following = [look for look in plan if look > least.complete]
    looked = [look for look in plan if look <= least.complete]
    if not looked or len(seen) < total or not all(seen):
        short = sum(one.complete < following[0] for one in comparisons)
        lacking = f" for {short}{of}" if of else ""
        return (
            f"the look at {following[0]} seeds: {least.complete} {'is' if least.complete == 1 else 'are'} in{lacking}"
        )
    if sum(one.deviation is None for one in seen if one):
        return "seeds that differ: equal numbers have no spread to judge by"
    return _later_look([one for one in seen if one], plan, least.complete, alpha)


def _later_look(seen: Sequence[Look], plan: tuple[int, ...], there: int, alpha: float) -> str:
    """Which planned look would decide it, if means and deviations stay as they are."""
    if obstacle := next((one.of.obstacle for one in seen if one.of.obstacle), ""):
        return obstacle
    later = [look for look in plan if look > seen[0].seeds]
    if not later:
        done = ", ".join(map(str, plan))
        return f"nothing that is planned: all looks (at {done} seeds) are done, and it is too close to call"
    reachable = all(one.slack > 0 for one in seen)
    share = alpha if reachable else ALPHA / len(seen)
    open_ = [one for one in seen if (not one.inside(share) if reachable else one.slack <= 0)]

    def clears(one: Look, look: int) -> bool:
        half = one.half(share, look)
        return half is not None and half < min(abs(one.mean - end) for end in (one.of.above, one.of.below))

    wanted = next((n for n in later if (all if reachable else any)(clears(one, n) for one in open_)), None)
    if wanted is None:
        return f"the look at {later[0]} seeds; at this spread no planned look (up to {plan[-1]}) is sure to decide it"
    more = wanted - there
    if more <= 0:
        return f"the look at {wanted} seeds"
    return f"{more} more seed{'s' if more > 1 else ''} (the look at {wanted}), if mean and spread stay as they are"
