"""Run a few steps of the real loop: whole, interrupted and resumed, and on two processes."""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from harness import components, distributed
from harness.config import registry
from harness.config.grid import assign
from harness.config.run import Run
from harness.runtime import Rank, Runtime
from harness.store.results import RunFolder, Store
from harness.train import checkpoint, loop
from harness.train.stop import Interrupted

Observation = Iterator[str | Tensor]

TINY: dict[str, Any] = {
    "data": {"synthetic": {"train_images": 20, "test_images": 8, "image_size": 16}},
    "augmentations": {},
    "views": {"shared": [], "both": [{"noise": {}}], "targeted": []},
    "method": {"simclr": {}},
    "encoder": {"micro": {"stem": 8, "widths": [8, 16]}},
    "norm": {"groups": 1},
    "head": {"linear": {"out_dim": 8}},
    "objective": {"nt_xent": {}},
    "optimizer": {"sgd": {"lr": 0.05, "lr_scaling": "none"}},
    "schedule": {"batch_size": 8, "epochs": 2, "warmup_epochs": 0},
    "precision": "float32",
}
"""A run of four steps, two in each epoch, that leaves four images over: what a method's example is written against."""

LOOP: dict[str, Any] = {
    "views.shared": [{"crop": {"scale": [0.3, 1.0]}}, {"flip": {}}],
    "views.targeted": [{"rotate": {}}],
    "norm.groups": 2,
    "schedule": {"batch_size": 8, "epochs": 2, "warmup_epochs": 1.3},
}
"""What the loop itself is tried with: branches of views, groups, and a warm-up that is no whole number of steps."""

ONE_GROUP: dict[str, Any] = {**LOOP, "norm.groups": 1}
"""Whose batch statistics two processes share."""

HERE = Runtime(device="cpu", threads=1)
STOPPED_AFTER = 3
"""Steps: the third of four is the first of the second epoch."""


def tiny(changes: Mapping[str, Any], seed: int = 0) -> Run:
    """The tiny run with ``changes`` by dotted path. Raises :class:`~harness.config.errors.SpecError`."""
    tree: dict[str, Any] = json.loads(json.dumps(TINY))
    for path, value in changes.items():
        assign(tree, path, json.loads(json.dumps(value)))
    return components.resolve(tree, seed)


def method_run(name: str, fields: Mapping[str, Any]) -> Run:
    """The run that tries a method: the tiny one with what its class says it needs (``tiny_run``)."""
    needs = getattr(registry.method.get(name), "tiny_run", {})
    return tiny({**needs, "method": {name: dict(fields)}})


def folder_of(run: Run, root: Path) -> RunFolder:
    """A fresh folder for ``run`` beneath ``root``."""
    folder = Store(root).run(run.id)
    folder.create(run.spec())
    return folder


def whole(run: Run, root: Path, images_per_pass: int = 0) -> Observation:
    """What the loop leaves of ``run``: its losses and its final state."""
    folder = folder_of(run, root / "whole")
    _execute(folder, replace(HERE, images_per_pass=images_per_pass))
    yield from _left(folder)


def resumed(run: Run, root: Path) -> Observation:
    """The same of a run that was asked to stop within an epoch, and went on from its checkpoint.

    Only in a process's main thread, where alone Python hears signals.
    """
    folder = folder_of(run, root / "resumed")
    steps = 0

    def stop(*_: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == STOPPED_AFTER:
            signal.raise_signal(signal.SIGTERM)

    hook = register_optimizer_step_post_hook(stop)
    try:
        _execute(folder, HERE)
    except Interrupted:
        pass
    else:
        raise RuntimeError(f"the run was to stop after step {STOPPED_AFTER} and did not")
    finally:
        hook.remove()
    _execute(folder, HERE)
    yield from _left(folder)


def shared(run: Run, root: Path) -> Observation:
    """The same of a run that two processes shared."""
    folder = folder_of(run, root / "shared")
    meeting = f"file://{root}/meeting"
    other = multiprocessing.get_context("spawn").Process(target=_follow, args=(str(folder.path), meeting))
    other.start()
    try:
        _take_part(str(folder.path), meeting, 0)
        other.join(300)  # it has nothing left to do, but a busy machine may let it wait
        if other.exitcode != 0:
            raise RuntimeError(f"the second of two processes ended with {other.exitcode}")
    finally:
        if other.is_alive():
            other.kill()
        other.join()
    yield from _left(folder)


def _follow(folder: str, meeting: str) -> None:
    """What the second process does, which then ends at once: gloo may abort a process that is torn down at leisure."""
    _take_part(folder, meeting, 1)
    os._exit(0)


def _take_part(folder: str, meeting: str, rank: int) -> None:
    torch.set_num_threads(1)
    distributed.initialise(Rank(rank=rank, world=2, meeting=meeting))
    try:
        _execute(RunFolder(Path(folder)), HERE)
    finally:
        distributed.shutdown()


def _execute(folder: RunFolder, runtime: Runtime) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        loop.execute(folder, [], runtime)


def _left(folder: RunFolder) -> Observation:
    for line in folder.metrics.read_text(encoding="utf-8").splitlines():
        for name, value in sorted(json.loads(line).items()):
            yield name
            yield torch.tensor(float(value), dtype=torch.float64)
    state = checkpoint.load(folder.weights, torch.device("cpu"))["method"]
    for name, tensor in sorted(state.items()):
        yield name
        yield tensor
