"""Arms that differ on paper and not in what they learn: what they differ in changes nothing, and is no ablation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.report.read.records import Experiment, Run, State


@dataclass(frozen=True)
class Inert:
    """Two arms (by index) whose losses are equal in every one of ``epochs`` epochs, at each of ``seeds``.

    ``by_weights``: their losses differ, and they end in the same weights all the same. (The margin of a triplet loss
    whose negatives are all within it is such a setting: it is added to the loss and has no gradient.)
    """

    first: int
    second: int
    seeds: tuple[int, ...]
    epochs: int
    by_weights: bool = False


def inert_arms(experiment: Experiment, runs: Mapping[str, Run]) -> list[Inert]:
    """Each arm that repeats an earlier one, loss for loss or in its final weights, at every seed both have finished.

    Only finished runs are compared: during warm-up a long run and a short one are the same run.
    """
    earlier: dict[tuple[int, float], list[int]] = {}  # (seed, loss of the first epoch) -> arms
    losses: dict[tuple[int, int], list[float]] = {}
    weights: dict[int, dict[int, str]] = {}
    ends: dict[tuple[int, str], int] = {}  # (seed, digest of the final weights) -> the first arm that has them
    found = []
    for index, arm in enumerate(experiment.arms):
        near: dict[int, None] = {}
        for seed, run in sorted(arm.runs.items()):
            history = _losses(runs[run])
            if history:
                losses[index, seed] = history
                near |= dict.fromkeys(earlier.setdefault((seed, history[0]), []))
                if len(earlier[seed, history[0]]) < 8:  # one to compare with is enough
                    earlier[seed, history[0]].append(index)
        alike = (one for other in near if (one := _same(experiment, losses, other, index)))
        match = next((one for one in alike if _same_weights(experiment, runs, one)), None)
        weights[index] = _weights(experiment, runs, index)
        for end in weights[index].items():
            other = ends.setdefault(end, index)
            match = match or (_ends_alike(experiment, weights, runs, other, index) if other != index else None)
        if match:
            found.append(match)
    return found


def _ends_alike(
    experiment: Experiment, weights: Mapping[int, Mapping[int, str]], runs: Mapping[str, Run], first: int, second: int
) -> Inert | None:
    """Whether two arms end in the same weights, bit by bit, at every seed of which both recorded them."""
    one, other = experiment.arms[first].runs, experiment.arms[second].runs
    both = [seed for seed in weights[second] if seed in weights[first] and one[seed] != other[seed]]
    if not both or any(weights[first][seed] != weights[second][seed] for seed in both):
        return None
    return Inert(first, second, tuple(both), max(runs[one[seed]].epochs for seed in both), by_weights=True)


def _weights(experiment: Experiment, runs: Mapping[str, Run], arm: int) -> dict[int, str]:
    """Seed -> digest of the final weights, of the runs of an arm that recorded one."""
    finished = {seed: runs[run] for seed, run in sorted(experiment.arms[arm].runs.items())}
    return {
        seed: str(run.provenance["weights"])
        for seed, run in finished.items()
        if run.state in (State.DONE, State.TRAINED) and run.provenance.get("weights") is not None
    }


def _losses(run: Run) -> list[float]:
    if run.state not in (State.DONE, State.TRAINED):
        return []
    return [line["loss"] for line in run.history if "loss" in line]


def _same(
    experiment: Experiment, losses: Mapping[tuple[int, int], list[float]], first: int, second: int
) -> Inert | None:
    one, other = experiment.arms[first].runs, experiment.arms[second].runs
    seeds = [seed for seed in sorted(one.keys() & other.keys()) if one[seed] != other[seed]]
    both = [seed for seed in seeds if (first, seed) in losses and (second, seed) in losses]
    lengths = [min(len(losses[first, seed]), len(losses[second, seed])) for seed in both]
    if not both or any(losses[first, s][:n] != losses[second, s][:n] for s, n in zip(both, lengths, strict=True)):
        return None
    return Inert(first, second, tuple(both), min(lengths))


def _same_weights(experiment: Experiment, runs: Mapping[str, Run], one: Inert) -> bool:
    """Whether weights and buffers are equal bit by bit, as far as that was recorded.

    Running statistics of batch norm enter no loss: arms of another ``norm.momentum`` are equal in every epoch, and are
    evaluated with other networks all the same.
    """
    arms = experiment.arms
    pairs = [(runs[arms[one.first].runs[seed]], runs[arms[one.second].runs[seed]]) for seed in one.seeds]
    digests = [(first.provenance.get("weights"), second.provenance.get("weights")) for first, second in pairs]
    return all(first == second for first, second in digests if first is not None and second is not None)
