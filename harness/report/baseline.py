"""``verdicts.json``: the verdicts a person accepted, so that ``--check`` can say which claims no longer hold."""

from __future__ import annotations

import sys
from pathlib import Path

from harness.report.collect import NotResults
from harness.report.judging import judge_all
from harness.report.records import Results
from harness.report.verdicts import Verdict
from harness.store import StoreError, read_json, write_json

FILE = "verdicts.json"


def accept(root: Path, results: Results) -> int:
    """Accept today's verdicts: ``{"augmentation_pairs@micro/crop-with-color-wins": "REPRODUCED"}``."""
    verdicts = {judged.key: str(judged.ours.verdict) for judged in judge_all(results)}
    write_json(root / FILE, verdicts)
    print(f"accepted {len(verdicts)} verdicts in {root / FILE}", file=sys.stderr)
    return 0


def check(root: Path, results: Results) -> int:
    """1 and one line per claim that was accepted as REPRODUCED and is not now (or is gone); else 0.

    Raises :class:`NotResults` where nothing was ever accepted.
    """
    try:
        accepted = read_json(root / FILE)
    except StoreError as error:
        raise NotResults(str(error).replace("move it away to compute it again", "--accept writes it anew")) from None
    if accepted is None:  # no claim is lost, yet nothing was checked: a check in CI that cannot fail is none
        raise NotResults(f"{root / FILE} does not exist: nothing was accepted yet (--accept writes it)")
    if not isinstance(accepted, dict):
        raise NotResults(f"{root / FILE} holds no verdicts; --accept writes it anew")
    now = {judged.key: judged.ours for judged in judge_all(results)}
    held = sorted(key for key, verdict in accepted.items() if verdict == Verdict.REPRODUCED)
    lost = [key for key in held if key not in now or now[key].verdict is not Verdict.REPRODUCED]
    for key in lost:
        print(f"no longer holds: {key}: {now[key].verdict if key in now else 'the claim is gone'}", file=sys.stderr)
    said = f"{len(held) - len(lost)} of {len(held)} claims that held still hold"
    print(said if held else "of the accepted verdicts none is REPRODUCED: there is nothing to lose", file=sys.stderr)
    return 1 if lost else 0
