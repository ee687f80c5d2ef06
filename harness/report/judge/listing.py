"""Claims and verdicts for scripts."""

from __future__ import annotations

import json
import math
from typing import Any

from harness.report.judge.judging import Judged, judge_all
from harness.report.read.records import Results


def claims_json(results: Results) -> str:
    """A JSON list with every claim at every scale: what it says, its verdict, and the numbers that decided it."""
    return json.dumps([_record(one) for one in judge_all(results)], indent=1, ensure_ascii=False) + "\n"


def _record(judged: Judged) -> dict[str, Any]:
    """``above < estimate < below`` is what the comparison says that the verdict hangs on, in the metric's units."""
    ours, deciding = judged.ours, judged.ours.deciding
    return {
        "key": judged.key,
        "experiment": judged.experiment.name,
        "scale": judged.experiment.scale,
        "id": judged.claim.id,
        "says": judged.claim.says,
        "where": judged.claim.where,
        "metric": judged.metric,
        "verdict": str(judged.ours.verdict),
        "jointly": judged.jointly,
        "direction": None if judged.direction is None else str(judged.direction.verdict),
        "n": judged.ours.n,
        "p": judged.ours.p,
        "confidence": judged.ours.confidence,
        "comparison": None if deciding is None else deciding.name,
        "estimate": None if ours.seen is None else ours.seen.mean,
        "interval": ours.bounds,
        "above": None if deciding is None else _finite(deciding.above),
        "below": None if deciding is None else _finite(deciding.below),
        "would_decide": judged.ours.decide,
        "paper_holds": None if judged.paper is None else judged.paper[0],
    }


def _finite(bound: float) -> float | None:
    """JSON knows no infinity."""
    return bound if math.isfinite(bound) else None
