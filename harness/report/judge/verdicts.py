"""From the comparisons of a claim to one verdict, by one rule that looks only at t intervals.

* REPRODUCED: every comparison's 95 % interval lies inside its range. A conjunction is an intersection-union test
  (Berger 1982): its null hypothesis is that *some* part is false, so each part tested at level alpha keeps the whole
  at level alpha, however many parts there are. No correction is due, and none is applied. A claim that offers
  alternatives ("one of these is best") is a union of such conjunctions and pays for each: 1 - 0.05/alternatives.
* NOT REPRODUCED: some comparison (of each alternative) lies wholly outside its range. Here one false alarm among K
  comparisons is enough to be wrong, so each interval is widened to level 1 - 0.05/K (Bonferroni; Holm's step-down
  begins with the same threshold and we need only its first rejection, so it would add nothing).
  How a table *ranks* is refuted by pairs surely reversed (:class:`~harness.report.judge.comparison.Agreement`).
* INCONCLUSIVE: neither; or some comparison lacks planned seeds (who looks after every seed and stops when it suits is
  wrong more often than he says), rests on one seed or on equal numbers (no spread), on a selection that is not
  complete, on a probe that did not converge (what that costs is alike in every seed, so that no interval shows it), or
  on a diverged run, whose number is unknown and certainly not like those of its siblings. None of these can be
  REPRODUCED, and such a comparison refutes nothing either: of a diverged one what is left are the survivors.
* NOT COMPARABLE: the claim is that we come close to a number that the paper measured in another setting (data,
  network, length). Ours is shown beside it, but an interval around the difference would test nothing.
* NOT RUN: no comparison has a number.

Claims are judged one at a time; :func:`jointly` says which verdicts stand when all claims of a table are taken
together (Holm 1979), so that not one of them is wrong by chance, at the same level.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from harness.report.judge.comparison import Alternatives, Comparison
from harness.report.stats import CONFIDENCE, seeds_needed


class Verdict(StrEnum):
    """What may be said about a claim."""

    REPRODUCED = "REPRODUCED"
    NOT_REPRODUCED = "NOT REPRODUCED"
    INCONCLUSIVE = "INCONCLUSIVE"
    NOT_COMPARABLE = "NOT COMPARABLE"
    NOT_RUN = "NOT RUN"


DECIDED = (Verdict.REPRODUCED, Verdict.NOT_REPRODUCED)


@dataclass(frozen=True)
class Judgement:
    """A verdict, the comparison it hangs on (its n, the level of its interval), and what would settle it.

    ``p`` is the one-sided p-value of the verdict, corrections within the claim included; 1 where nothing is decided.
    """

    verdict: Verdict
    n: int
    decide: str
    deciding: Comparison | None = None
    comparisons: int = 0
    confidence: float = CONFIDENCE
    untestable: bool = False
    p: float = 1.0

    @property
    def planned(self) -> int:
        """Seeds that were planned for the comparison the verdict hangs on."""
        return max(self.n, self.deciding.planned) if self.deciding else self.n


def judge(alternatives: Alternatives) -> Judgement:
    """The verdict; see the module docstring for the rule."""
    level = 1 - (1 - CONFIDENCE) / len(alternatives)  # "one of several" is a union: it pays for each of them
    best = max(alternatives, key=_least)
    deciding = min(best, key=_slack)

    def verdict(verdict: Verdict, decide: str, by: Comparison, at: float = level, p: float = 1.0) -> Judgement:
        return Judgement(verdict, len(by.sample), decide, by, len(best), at, p=min(p, 1.0))

    if not any(comparison.sample or comparison.started for one in alternatives for comparison in one):
        return verdict(Verdict.NOT_RUN, _unrun(best), deciding)
    held = [one for one in alternatives if all(comparison.inside(level) for comparison in one)]
    if held:
        p = min(max(comparison.p_inside() for comparison in one) for one in held) * len(alternatives)
        return verdict(Verdict.REPRODUCED, "decided", min(held[0], key=_slack), p=p)
    still = [one for one in alternatives if not any(comparison.outside(_widened(one)) for comparison in one)]
    if not still:
        against = [comparison for comparison in best if comparison.outside(_widened(best))]
        p = max(len(one) * min(comparison.p_outside() for comparison in one) for one in alternatives)
        return verdict(Verdict.NOT_REPRODUCED, "decided", min(against, key=_slack), _widened(best), p)
    best = max(still, key=_least)  # an alternative that is refuted already is not what it hangs on
    by = min([one for one in best if one.sample and not one.inside(level)] or best, key=_slack)
    # a mean outside its range could only refute, for which its interval is the wider one: that is the one shown
    return verdict(Verdict.INCONCLUSIVE, _would_decide(best, level), by, _widened(best) if by.slack <= 0 else level)


def jointly(judgements: Sequence[Judgement]) -> list[bool]:
    """Which verdicts of a table also stand together: Holm's step-down over all its claims that can be tested.

    Those that have not run count as well (p = 1): a verdict must not lose its standing because more runs came in.
    """
    tested = sorted((one.p, index) for index, one in enumerate(judgements) if not one.untestable)
    stand = [False] * len(judgements)
    for rank, (p, index) in enumerate(tested):
        if p > (1 - CONFIDENCE) / 2 / (len(tested) - rank):
            break
        stand[index] = True
    return stand


def holds(alternatives: Alternatives) -> tuple[bool, Comparison]:
    """Whether bare numbers (a printed table has no seeds) lie in the ranges, and the one with least to spare."""
    deciding = min(max(alternatives, key=_least), key=_slack)
    return round(deciding.slack, 9) > 0, deciding


def _slack(comparison: Comparison) -> float:
    return comparison.slack


def _least(comparisons: Iterable[Comparison]) -> float:
    return min(comparison.slack for comparison in comparisons)


def _widened(comparisons: Sequence[Comparison]) -> float:
    return 1 - (1 - CONFIDENCE) / len(comparisons)


def _unrun(comparisons: Sequence[Comparison]) -> str:
    diverged = sum(comparison.diverged for comparison in comparisons)
    return f"{diverged} diverged runs, no number" if diverged else "its runs"


def _would_decide(comparisons: Sequence[Comparison], level: float) -> str:
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
    if single := sum(len(comparison.sample) == 1 for comparison in comparisons):
        return f"a second seed for {single}{of}" if total > 1 else "a second seed: one has no interval"
    if lacking := [comparison for comparison in comparisons if comparison.missing]:
        one = lacking[0]
        return f"all planned seeds: {len(one.sample)} of {one.planned} are in" + (
            f" for {len(lacking)}{of}" if of else ""
        )
    if sum(comparison.bounds(level) is None for comparison in comparisons):
        return "seeds that differ: equal numbers have no spread to judge by"
    return _more_seeds(comparisons, level)


def _more_seeds(comparisons: Sequence[Comparison], level: float) -> str:
    """Every planned seed is in and the intervals are too wide: how many more would narrow them."""
    if obstacle := next((one.obstacle for one in comparisons if one.obstacle), ""):
        return obstacle
    reachable = all(comparison.slack > 0 for comparison in comparisons)
    if reachable:
        open_ = [comparison for comparison in comparisons if not comparison.inside(level)]
    else:
        level = _widened(comparisons)
        open_ = [comparison for comparison in comparisons if comparison.slack <= 0]
    needed = [(seeds_needed(one.sample, one.above, one.below, level, one.step), len(one.sample)) for one in open_]
    known = [count - there for count, there in needed if count is not None]
    if not known or (reachable and len(known) < len(needed)):
        return "more seeds than are worth it: too close to call at this spread"
    more = max(known) if reachable else min(known)
    return f"about {max(more, 1)} more seed{'s' if more > 1 else ''}, if the spread stays as it is"
