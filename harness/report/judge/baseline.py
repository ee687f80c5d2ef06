"""``verdicts.json``: the verdicts a person accepted, so that ``--check`` can say which claims no longer hold."""

from __future__ import annotations

import sys
from pathlib import Path

from harness.config.run import identity
from harness.report.judge.judging import Judged, judge_all
from harness.report.judge.verdicts import Verdict
from harness.report.read.collect import NotResults
from harness.report.read.records import Results
from harness.store.results import StoreError, read_json, write_json

FILE = "verdicts.json"


def accept(root: Path, results: Results) -> int:
    """Accept today's verdicts, each with what it is a verdict on:
    ``{"augmentation_pairs@micro/crop-with-color-wins": {"verdict": "REPRODUCED", "claim": "5d41402a"}}``.
    """
    verdicts = {one.key: {"verdict": str(one.ours.verdict), "claim": meaning(one)} for one in judge_all(results)}
    write_json(root / FILE, verdicts)
    print(f"accepted {len(verdicts)} verdicts in {root / FILE}", file=sys.stderr)
    return 0


def meaning(judged: Judged) -> str:
    """A short hash of what a claim demands, whatever its words: one whose margin was lowered is another claim."""
    demanded = judged.claim.model_dump(mode="json", include={"expect", "best_of"})
    return identity({**demanded, "on": judged.metric}, 8)


def _lost(accepted: dict[str, str], judged: Judged | None) -> str:
    """Why a claim that was accepted as REPRODUCED does not hold any more; empty if it does."""
    if judged is None:
        return "the claim is gone"
    if accepted.get("claim", meaning(judged)) != meaning(judged):
        return f"it demands something else now ({judged.ours.verdict}); --accept if that is meant"
    return "" if judged.ours.verdict is Verdict.REPRODUCED else str(judged.ours.verdict)


def check(root: Path, results: Results) -> int:
    """1 and one line per claim that was accepted as REPRODUCED and is not now (or is gone); else 0.

    Raises :class:`NotResults` where nothing was ever accepted.
    """
    try:
        accepted = read_json(root / FILE)
    except StoreError as error:
        raise NotResults(
            str(error).replace("move it away, and the next sweep computes it again", "--accept writes it anew")
        ) from None
    if accepted is None:  # no claim is lost, yet nothing was checked: a check in CI that cannot fail is none
        raise NotResults(f"{root / FILE} does not exist: nothing was accepted yet (--accept writes it)")
    if not isinstance(accepted, dict):
        raise NotResults(f"{root / FILE} holds no verdicts; --accept writes it anew")
    now = {judged.key: judged for judged in judge_all(results)}
    before = {key: one if isinstance(one, dict) else {"verdict": one} for key, one in accepted.items()}
    held = sorted(key for key, one in before.items() if one.get("verdict") == Verdict.REPRODUCED)
    lost = {key: why for key in held if (why := _lost(before[key], now.get(key)))}
    for key, why in lost.items():
        print(f"no longer holds: {key}: {why}", file=sys.stderr)
    said = f"{len(held) - len(lost)} of {len(held)} claims that held still hold"
    print(said if held else "of the accepted verdicts none is REPRODUCED: there is nothing to lose", file=sys.stderr)
    return 1 if lost else 0
