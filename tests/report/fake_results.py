"""Writes results folders in the store's format, with any share of the runs and every kind of mishap.

``python tests/report/fake_results.py OUT [SHARE]`` writes one to look at.
"""

from __future__ import annotations

import json
import random
import sys
from itertools import product
from pathlib import Path
from typing import Any

from harness.config.run import DIGITS, evaluation_id, identity

OPERATORS = ["crop", "cutout", "color", "sobel", "noise", "blur", "rotate"]
FIGURE_5 = """33.1,33.9,56.3,46.0,39.9,35.0,30.2
32.2,25.6,33.9,40.0,26.5,25.2,22.4
55.8,35.5,18.8,21.0,11.4,16.5,20.8
46.2,40.6,20.9,4.0,9.3,6.2,4.2
38.8,25.8,7.5,7.6,9.8,9.8,9.6
35.1,25.2,16.6,5.8,9.7,2.6,6.7
30.0,22.5,20.7,4.3,9.7,6.5,2.6"""
TABLE_5 = [
    (True, 0.05, 1.0, 90.5, 59.7),
    (True, 0.1, 4.5, 87.8, 64.4),
    (True, 0.5, 8.2, 68.2, 60.7),
    (True, 1.0, 8.3, 59.1, 58.0),
    (False, 10.0, 0.5, 91.7, 57.2),
    (False, 100.0, 0.5, 92.1, 57.0),
]
FIGURE_9 = {256: (57.52, 61.93), 512: (60.71, 64.03), 1024: (62.80, 65.27), 2048: (63.95, 66.09), 4096: (64.58, 66.48)}
HANDLES = {name: evaluation_id({name: {}}) for name in ("linear", "contrastive")}
FIRST, LAST = "views.targeted.first", "views.targeted.last"
NORM, TAU = "objective.nt_xent.normalize", "objective.nt_xent.temperature"
BATCH, EPOCHS = "schedule.batch_size", "schedule.epochs"


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def run_id(spec: dict[str, Any]) -> str:
    return identity(spec, DIGITS)


class FakeResults:
    """A results folder under construction."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "experiments").mkdir(parents=True, exist_ok=True)
        (root / "runs").mkdir(exist_ok=True)

    def folder(self, run: str) -> Path:
        return self.root / "runs" / run

    def start(self, spec: dict[str, Any]) -> str:
        run = run_id(spec)
        write(self.folder(run) / "run.json", {"id": run, "spec": spec})
        return run

    def finish(self, spec: dict[str, Any], values: dict[str, dict[str, float]]) -> str:
        """A run with its evaluations, ``{"linear": {"top1": 48.2}}``."""
        run = self.start(spec)
        provenance = {
            "commit": "3f2c9d1e5b7a",
            "dirty": False,
            "code": "ab12cd34",
            "versions": {"python": "3.12.3", "torch": "2.11.0", "torchvision": "0.26.0"},
            "hardware": {"cpu": "2 x fake CPU", "gpu": None},
            "threads": 1,
            "started": "2026-11-20T10:00:00+00:00",
            "finished": "2026-11-20T10:02:30+00:00",
            "wall_seconds": 150.0,
            "images_per_second": 4000.0,
        }
        write(self.folder(run) / "provenance.json", provenance)
        write(
            self.folder(run) / "outcome.json",
            {"run": run, "status": "trained", "epochs": spec["schedule"]["epochs"], "steps": 1170, "loss": 4.2},
        )
        for label, numbers in values.items():
            handle = HANDLES[label]
            held = {"run": run, "handle": handle, "name": label, "label": label, "evaluation": {label: {}}}
            held |= {"values": numbers, "code": "ab12cd34", "wall_seconds": 3.0}
            write(self.folder(run) / "evaluations" / f"{handle}.json", held)
        return run

    def fail(self, spec: dict[str, Any], message: str = "CUDA out of memory") -> str:
        run = self.start(spec)
        failed = {
            "run": run,
            "attempt": 1,
            "type": "RuntimeError",
            "message": message,
            "traceback": "...",
            "fingerprint": "f00d",
        }
        write(self.folder(run) / "failed.json", failed)
        return run

    def diverge(self, spec: dict[str, Any]) -> str:
        run = self.start(spec)
        outcome = {"run": run, "status": "diverged", "epochs": 2, "steps": 80, "loss": None, "at_step": 80}
        write(self.folder(run) / "outcome.json", outcome)
        return run

    def running(self, spec: dict[str, Any]) -> str:
        run = self.start(spec)
        write(self.folder(run) / "claim.json", {"pid": 1, "host": "fake", "started": "1"})
        write(self.folder(run) / "progress.json", {"epoch": 7, "epochs": 30, "step": 280, "steps": 1170})
        return run

    def experiment(self, name: str, scale: str = "micro", **fields: Any) -> Path:
        changed = f"+{identity(fields['overrides'], 6)}" if fields.get("overrides") else ""
        path = self.root / "experiments" / f"{name}@{scale}{changed}.json"
        held = {
            "name": name,
            "scale": scale,
            "title": name,
            "question": "",
            "file": f"experiments/{name}.yaml",
            "overrides": {},
            "paper_scale": False,
            "seeds": max((len(arm["runs"]) for arm in fields.get("arms", [])), default=1),
            "scale_note": "A narrow ResNet on 10 000 CIFAR-10 images; the paper trains ResNet-50 on ImageNet.",
            "evaluations": HANDLES,
            "report": [],
            "claims": [],
            "published": {},
        } | fields
        held["runs"] = sum(len(arm["runs"]) for arm in held.get("arms", []))
        write(path, held)
        return path


def spec_of(settings: dict[str, Any], seed: int) -> dict[str, Any]:
    """A resolved spec of roughly the real size."""
    targeted = settings.get("views.targeted", [])
    return {
        "data": {"cifar10": {"train_images": 10000, "validation_images": 0}},
        "views": {
            "shared": [{"crop": {"scale": [0.08, 1.0]}}],
            "both": [],
            "targeted": [{name: {}} for name in targeted],
        },
        "method": {"simclr": {}},
        "encoder": {"micro": {"widths": [16, 32, 64]}},
        "norm": {"groups": 1, "momentum": 0.1, "eps": 1e-5},
        "head": {"nonlinear": {"out_dim": settings.get("head.out_dim", 128), "hidden_layers": 1}},
        "objective": {"nt_xent": {"temperature": settings.get(TAU, 0.5), "normalize": settings.get(NORM, True)}},
        "optimizer": {"lars": {"lr": 1.0, "weight_decay": 1e-6}},
        "schedule": {"batch_size": settings.get(BATCH, 256), "epochs": settings.get(EPOCHS, 30), "warmup_epochs": 3},
        "precision": settings.get("precision", "float32"),
        "seed": seed,
    }


def add(fake: FakeResults, settings: dict[str, Any], seeds: int, fate: Any, values: Any) -> dict[str, Any]:
    """One arm; ``fate(settings, seed)`` is done, failed, diverged, running or missing, ``values`` its numbers."""
    runs = {}
    for seed in range(seeds):
        spec = spec_of(settings, seed)
        what = fate(settings, seed)
        if what == "done":
            fake.finish(spec, values(settings, seed))
        elif what != "missing":
            {"failed": fake.fail, "diverged": fake.diverge, "running": fake.running}[what](spec)
        runs[str(seed)] = run_id(spec)
    return {"settings": settings, "runs": runs}


def figure_5(fake: FakeResults, fate: Any, seeds: int = 3, scale: str = "micro") -> Path:
    table = [[float(value) for value in line.split(",")] for line in FIGURE_5.splitlines()]
    paper = {(a, b): table[i][j] for (i, a), (j, b) in product(enumerate(OPERATORS), repeat=2)}
    luck = random.Random("figure 5")
    noise = {(a, b, seed): luck.gauss(0, 0.45) for a, b in paper for seed in range(seeds)}

    def values(settings: dict[str, Any], seed: int) -> dict[str, dict[str, float]]:
        pair = settings[FIRST], settings[LAST]
        return {"linear": {"top1": 24 + 0.42 * paper[pair] + noise[*pair, seed] + 0.3 * seed}}

    singles = [[name] for name in OPERATORS]
    pairs = [[a, b] for a, b in product(OPERATORS, repeat=2) if a != b]
    arms = [
        add(fake, {"views.targeted": ops, FIRST: ops[0], LAST: ops[-1]}, seeds, fate, values) for ops in singles + pairs
    ]
    cells = [{"at": {FIRST: a, LAST: b}, "metric": "linear/top1", "value": value} for (a, b), value in paper.items()]
    claims = [
        {
            "id": "crop-with-color-wins",
            "says": "crop with color distortion beats every other composition",
            "where": "Figure 5",
            "expect": {"best": {"views.targeted": [["crop", "color"], ["color", "crop"]]}, "margin": 3.0},
            "summary": {"text": "crop + color 55–56 %", "value": 55.5},
        },
        {
            "id": "crop-beats-color-alone",
            "says": "alone, crop is worth more than color",
            "where": "Figure 5, diagonal",
            "expect": {"greater": [{"views.targeted": ["crop"]}, {"views.targeted": ["color"]}]},
            "summary": {"text": "crop 33, color 26"},
        },
        {
            "id": "same-ranking",
            "says": "the 49 compositions rank as in the paper",
            "where": "Figure 5",
            "expect": {"agrees": "simclr/figure_5", "at_least": 0.5},
        },
        {
            "id": "rotate-equals-blur",
            "says": "rotation alone and blur alone are equally useless",
            "where": "Figure 5, diagonal",
            "expect": {"equivalent": [{"views.targeted": ["rotate"]}, {"views.targeted": ["blur"]}], "within": 0.5},
        },
    ]
    return fake.experiment(
        "augmentation_pairs",
        scale,
        title="Figure 5: single and paired augmentations, one branch only",
        question="Which augmentations, alone or in ordered pairs, make a useful prediction task? "
        "One shared crop; then the pair on one branch only.",
        seeds=seeds,
        arms=arms,
        claims=claims,
        report=[
            {
                "heatmap": {
                    "rows": {"1st transformation": FIRST},
                    "columns": {"2nd transformation": LAST},
                    "cell": "linear/top1",
                    "row_mean": "Average",
                    "published": "simclr/figure_5",
                }
            }
        ],
        published={
            "simclr/figure_5": {
                "title": "Linear evaluation under individual or composition of data augmentations",
                "where": "Figure 5",
                "page": 4,
                "read": "printed",
                "context": "ImageNet, ResNet-50, 100 epochs, batch 4096",
                "cells": cells,
            }
        },
    )


def temperature(fake: FakeResults, fate: Any, seeds: int = 3, scale: str = "micro") -> Path:
    luck = random.Random("temperature")
    noise = {(tau, seed): luck.gauss(0, 0.6) for _, tau, *_ in TABLE_5 for seed in range(seeds)}
    rows = {tau: (entropy, task, top1) for _, tau, entropy, task, top1 in TABLE_5}

    def values(settings: dict[str, Any], seed: int) -> dict[str, dict[str, float]]:
        entropy, task, top1 = rows[settings[TAU]]
        return {
            "linear": {"top1": top1 - 14 + noise[settings[TAU], seed]},
            "contrastive": {"top1": task - 3 + noise[settings[TAU], seed], "entropy": entropy * 0.8 + 0.02 * seed},
        }

    arms = [add(fake, {NORM: norm, TAU: tau}, seeds, fate, values) for norm, tau, *_ in TABLE_5]
    cells = [
        {"at": {NORM: norm, TAU: tau}, "metric": metric, "value": value}
        for norm, tau, *numbers in TABLE_5
        for metric, value in zip(["contrastive/entropy", "contrastive/top1", "linear/top1"], numbers, strict=True)
    ]
    return fake.experiment(
        "temperature",
        scale,
        title="Table 5: l2 normalisation and temperature",
        question="Does NT-Xent need l2 normalisation, and at what temperature?",
        seeds=seeds,
        arms=arms,
        overrides={"schedule.epochs": 20},
        claims=[
            {
                "id": "tau-0.1-best",
                "says": "with l2 normalisation, temperature 0.1 is best",
                "where": "Table 5",
                "on": "linear/top1",
                "expect": {"best": {TAU: [0.1]}, "where": {NORM: True}},
                "summary": "τ = 0.1 best; τ = 1 about 50 %",
            },
            {
                "id": "l2-needed",
                "says": "without normalisation every temperature is worse than τ = 0.1 with it, by five points",
                "where": "Table 5",
                "on": "linear/top1",
                "expect": {"greater": [{NORM: True, TAU: 0.1}, {NORM: False}], "margin": 5.0},
            },
        ],
        report=[
            {
                "table": {
                    "rows": {"l2 norm": NORM, "τ": TAU},
                    "columns": {
                        "Entropy": "contrastive/entropy",
                        "Contrastive acc.": "contrastive/top1",
                        "Top-1": "linear/top1",
                    },
                    "published": "simclr/table_5",
                }
            },
            {
                "lines": {
                    "x": {"temperature τ": TAU},
                    "lines": {"l2 norm": NORM},
                    "y": "linear/top1",
                    "log_x": True,
                    "published": "simclr/table_5",
                }
            },
        ],
        published={
            "simclr/table_5": {
                "title": "NT-Xent",
                "where": "Table 5",
                "page": 7,
                "read": "printed",
                "context": "",
                "cells": cells,
            }
        },
    )


def batch_sizes(fake: FakeResults, fate: Any, seeds: int = 3, scale: str = "micro") -> Path:
    luck = random.Random("batch")
    grid = [(batch, epochs) for epochs in (30, 60) for batch in (64, 128, 256, 512)]
    noise = {(*one, seed): luck.gauss(0, 0.5) for one in grid for seed in range(seeds)}

    def values(settings: dict[str, Any], seed: int) -> dict[str, dict[str, float]]:
        batch, epochs = settings[BATCH], settings[EPOCHS]
        return {
            "linear": {
                "top1": 40 + 2.1 * (batch.bit_length() - 7) * 30 / epochs + epochs / 15 + noise[batch, epochs, seed]
            }
        }

    arms = [add(fake, {BATCH: batch, EPOCHS: epochs}, seeds, fate, values) for batch, epochs in grid]
    cells = [
        {"at": {BATCH: batch, EPOCHS: epochs}, "metric": "linear/top1", "value": value}
        for batch, pair in FIGURE_9.items()
        for epochs, value in zip((100, 200), pair, strict=True)
    ]
    where = {EPOCHS: 30}
    return fake.experiment(
        "batch_sizes",
        scale,
        title="Figure 9: batch size and training length",
        question="Does contrastive learning need large batches, and does training longer make up for small ones?",
        seeds=seeds,
        arms=arms,
        claims=[
            {
                "id": "larger-is-better",
                "says": "larger batches are better at the shortest training",
                "where": "Figure 9",
                "expect": {"monotone": BATCH, "direction": "increasing", "where": where},
            },
            {
                "id": "saturates",
                "says": "little is gained above batch 4096",
                "where": "Figure 9",
                "expect": {"saturates": BATCH, "after": 4096, "within": 1.0, "where": where},
            },
        ],
        report=[
            {
                "lines": {
                    "x": {"batch size": BATCH},
                    "lines": {"epochs": EPOCHS},
                    "y": "linear/top1",
                    "log_x": True,
                    "published": "simclr/figure_9",
                }
            }
        ],
        published={
            "simclr/figure_9": {
                "title": "Batch size and epochs",
                "where": "Figure 9",
                "page": 8,
                "read": "vector",
                "context": "",
                "cells": cells,
            }
        },
    )


def fate_of(share: float, mishaps: bool = True) -> Any:
    """Which runs are there: a fixed pseudo-random ``share`` of them, some of the rest failed, diverged or running."""

    def fate(settings: dict[str, Any], seed: int) -> str:
        draw = random.Random(json.dumps([settings, seed], sort_keys=True)).random()
        if draw < share:
            return "done"
        left = (draw - share) / max(1 - share, 1e-9)
        if not mishaps or left > 0.3:
            return "missing"
        return "failed" if left < 0.1 else "diverged" if left < 0.2 else "running"

    return fate


def everything(root: Path, share: float = 1.0, mishaps: bool = True) -> FakeResults:
    fake = FakeResults(root)
    for build in (figure_5, temperature, batch_sizes):
        build(fake, fate_of(share, mishaps))
    return fake


if __name__ == "__main__":
    everything(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 1.0)
