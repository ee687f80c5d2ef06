"""Train one run: data, networks, optimiser, resume, steps, checkpoints; then its evaluations.

There is one loop. A method, an augmentation or a scale never appears in it by name: variation is data or a component.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from harness import components, distributed
from harness.components import Evaluation, Parts
from harness.config.errors import SpecError
from harness.config.run import Run
from harness.data import identity
from harness.data.datasets import Dataset
from harness.data.views import batches
from harness.distributed import on_first_rank
from harness.evaluate.trained import Trained
from harness.methods.base import Method
from harness.optim.optimizers import Rates, schedule_steps
from harness.optim.schedules import Progress
from harness.runtime import Runtime, check_graphs, passes
from harness.store import provenance
from harness.store.results import RunFolder, StoreError, read_json, write_atomic, write_json
from harness.train import checkpoint, trace
from harness.train.device import prepared_device
from harness.train.evaluation import evaluate
from harness.train.progress import Clock, made_up_for_later
from harness.train.step import begin_epoch, optimise
from harness.train.stop import Interrupted, check_ours, stop_on_signal
from harness.train.torch_compile import compiled

Optimizers = Mapping[str, torch.optim.Optimizer]
"""By the player whose parameters each moves."""


class Diverged(RuntimeError):
    """The loss is no longer a number: a scientific outcome, recorded as one."""

    def __init__(self, step: int) -> None:
        super().__init__(f"the loss became infinite or NaN at or before step {step}")
        self.step = step


def execute(folder: RunFolder, asked: Sequence[Evaluation], runtime: Runtime) -> None:
    """Train the run of ``folder`` unless it is trained, then evaluate what is missing of ``asked``.

    Every file is written atomically into the run's own folder. Raises :class:`Interrupted` after a signal, and
    whatever the components raise; divergence is not raised but recorded as the outcome. Where several processes share
    the run (:mod:`harness.distributed`), all of them train, the first alone writes, and it evaluates alone.
    """
    run = Run.model_validate(read_json(folder.spec)["spec"])
    if run.id != folder.id:
        raise StoreError(f"{folder.spec}: its specification has the id {run.id}; move the folder away")
    device = prepared_device(runtime)
    parts = components.build(run)
    dataset = parts.dataset.load(runtime.data)
    data = identity.described(dataset)
    check_same_data(distributed.from_first(lambda: data), data, runtime, "the first process of this run has")
    method = seeded_method(parts, dataset, device)
    with stop_on_signal() as stop:
        known = distributed.from_first(lambda: read_json(folder.outcome))
        if known is None:
            for remark in identity.remarks(dataset):
                print(remark, flush=True)
            try:
                with compiled(method, runtime, device):
                    Pretraining(folder, parts, dataset, method, runtime, device, stop, data=data).run()
            except Diverged as divergence:
                finish(folder, run, status="diverged", at_step=divergence.step)
                return
        if not distributed.go_on_alone():
            return
        if known is not None:
            if known["status"] == "diverged" or not folder.missing(one.id for one in asked):
                return
            if not folder.weights.exists():
                raise StoreError(
                    f"{folder.weights}: the weights are missing (they are not committed), so no evaluation can be "
                    f"added; move {folder.path} away to train it again"
                )
            trained_on = (read_json(folder.provenance) or {}).get("data")
            check_same_data(trained_on, data, runtime, "this run was trained on")
            method.load_state_dict(checkpoint.load(folder.weights, device)["method"])
        trained = Trained(
            method=method.eval(),
            data=dataset,
            views=parts.views,
            batch_size=run.schedule.batch_size,
            seed=run.seed,
            device=device,
            root=runtime.data,
            own=data,
            untrained=partial(seeded_method, parts, dataset, device),
        )
        evaluate(folder, asked, trained, runtime, stop)


def check_same_data(known: Mapping[str, Any] | None, here: Mapping[str, Any], runtime: Runtime, whose: str) -> None:
    """Raises :class:`SpecError` naming both where ``known`` (if it was recorded; else it may be any) is other data.

    ``whose`` goes before it in the message. Nothing is written before this is known: no number is of two data sets.
    """
    if known and known.get("digest") != here["digest"]:
        raise SpecError(
            f"{runtime.data.absolute()}: other data of the same name: {whose} {identity.in_words(known)}, "
            f"here lies {identity.in_words(here)}; give the folder of data sets that holds the former (--data)"
        )


def seeded_method(parts: Parts, dataset: Dataset, device: torch.device) -> Method:
    """The networks as the seed makes them: equal for every arm that has them, on every device (drawn on the CPU)."""
    torch.manual_seed(parts.run.seed)
    method = parts.build_method(images=len(dataset.train), classes=len(dataset.classes))
    return method.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


@dataclass
class Pretraining:
    """The pretraining of one run. ``run()`` reads like the paper's Algorithm 1 with a checkpoint around it."""

    folder: RunFolder
    parts: Parts
    dataset: Dataset
    method: Method
    runtime: Runtime
    device: torch.device
    stop: threading.Event
    history: list[dict[str, float]] = field(default_factory=list)
    data: Mapping[str, Any] = field(default_factory=dict)
    """What :func:`harness.data.identity.described` says of the data set."""
    first: dict[str, Any] | None = None
    """Digests of the first step: by them the report tells settings that change nothing (INERT)."""
    precision: str = "float32"
    """What was used: on a CPU always this, whatever the run asks for, and the report says so."""
    codes: list[str] = field(default_factory=lambda: [provenance.code_fingerprint()])
    """What numeric code made its steps, in order; more than one where another went on from a checkpoint."""

    def run(self) -> None:
        """Train to the end. Raises :class:`Diverged`, :class:`Interrupted` and what components raise."""
        run, train = self.parts.run, self.dataset.train
        # --- schedule
        batch_size = run.schedule.batch_size
        steps_per_epoch = len(train) // batch_size
        if steps_per_epoch == 0:
            raise ValueError(f"batch size {batch_size} exceeds the {len(train)} training images")
        world = distributed.world()
        cuts = passes(
            batch_size=batch_size, groups=run.norm.groups, world=world, images_per_pass=self.runtime.images_per_pass
        )
        check_graphs(self.runtime.compile, groups=run.norm.groups, world=world, passes=cuts)
        total_steps = run.schedule.epochs * steps_per_epoch
        warmup_steps, decay_steps = schedule_steps(
            images=len(train),
            batch_size=batch_size,
            epochs=run.schedule.epochs,
            warmup_epochs=run.schedule.warmup_epochs,
        )
        rates = Rates(self.parts.optimizer, batch_size, warmup_steps, decay_steps)
        optimizers = self.parts.build_optimizers(self.method)
        self.method.micro_batches = cuts
        bfloat16 = run.precision == "bfloat16" and self.device.type != "cpu"  # slower on a CPU, not faster
        self.precision = "bfloat16" if bfloat16 else "float32"
        # --- resume
        step, totals, seconds = self._resume(optimizers)
        self.first = (read_json(self.folder.provenance) or {}).get("first") if step else None
        clock = Clock(self.folder, self.runtime, total_steps, steps_per_epoch, step, seconds)
        self._write_provenance(clock, finished=False)
        split = train.to(self.device)
        self.method.train()
        # --- steps
        for epoch in range(step // steps_per_epoch, run.schedule.epochs):
            if step % steps_per_epoch == 0:
                progress = Progress(step, total_steps, steps_per_epoch)
                begin_epoch(self.method, optimizers, progress, self._features)
            for batch in batches(
                split,
                self.parts.views,
                batch_size=batch_size,
                seed=run.seed,
                epoch=epoch,
                device=self.device,
                first_step=step % steps_per_epoch,
                rank=distributed.rank(),
                world=world,
            ):
                progress = Progress(step, total_steps, steps_per_epoch)
                values = optimise(self.method, optimizers, batch, progress, set_rates=rates, bfloat16=bfloat16)
                if step == 0:
                    self.first = trace.first_step(self.method, batch.views, values["loss"])
                    self._write_provenance(clock, finished=False)
                accumulate(totals, values)
                step += 1
                clock.tick(step, batch_size)
                if step % steps_per_epoch:  # at the end of an epoch its record comes first, below
                    stopping = distributed.any_rank(self.stop.is_set())
                    if stopping or clock.checkpoint_due():
                        self._save(step, optimizers, totals, clock, last=stopping)
                    if stopping:
                        raise Interrupted(f"stopped by a signal after step {step} of {total_steps}")
            # --- end of an epoch: the only place where the host waits for the device
            means = {name: float(total) / steps_per_epoch for name, total in totals.items()}
            if not all(math.isfinite(mean) for mean in means.values()):
                self._write_metrics()
                raise Diverged(step)
            self.history.append({"epoch": epoch + 1, "step": step, "lr": rates.at(progress), **means})
            totals.clear()
            with made_up_for_later(self.folder.metrics.name):
                self._write_metrics()
            clock.say(f"loss {means['loss']:.4f}")
            if step < total_steps:
                stopping = distributed.any_rank(self.stop.is_set())
                if stopping or clock.epoch_checkpoint_due():
                    self._save(step, optimizers, totals, clock, last=stopping)
                if stopping:
                    raise Interrupted(f"stopped by a signal after step {step} of {total_steps}")
        self._finish(step, clock)

    def _features(self) -> Tensor:
        """h [N, D] of the training images, as :meth:`Method.begin_epoch` may ask for it; batch norm as in evaluation.

        Every rank computes all of it: what follows from it, such as clusters, is then equal on all of them.
        """
        run = self.parts.run
        seen = Trained(
            method=self.method,
            data=self.dataset,
            views=self.parts.views,
            batch_size=run.schedule.batch_size,
            seed=run.seed,
            device=self.device,
        )
        h, _ = seen.features("train")
        self.method.train()
        return h

    @on_first_rank
    def _finish(self, step: int, clock: Clock) -> None:
        """Weights first, then the file that says so. A run of no epochs has no loss: its weights are the seed's."""
        check_ours(self.folder, self.folder.outcome)
        checkpoint.save(self.folder.weights, {"method": self.method.state_dict()})
        if self.history:
            self._write_metrics()  # in case that the disk was full when it was last due
        self._write_provenance(clock, finished=True)
        loss = self.history[-1]["loss"] if self.history else None
        finish(self.folder, self.parts.run, status="trained", steps=step, loss=loss)
        checkpoint.clear_steps(self.folder.checkpoints)

    @on_first_rank
    def _save(self, step: int, optimizers: Optimizers, totals: dict[str, Tensor], clock: Clock, *, last: bool) -> None:
        """A resume point. ``last``: the process ends with it, so that one that cannot be written ends it with DISK."""
        state = {
            "run": self.parts.run.id,
            "step": step,
            "method": self.method.state_dict(),
            "optimizers": {player: one.state_dict() for player, one in optimizers.items()},
            "totals": totals,
            "history": self.history,
            "rng": torch.get_rng_state(),
            "seconds": clock.total_seconds(),
            "codes": self.codes,
            "data": self.data,
        }
        began = time.monotonic()
        with nullcontext() if last else made_up_for_later(f"checkpoint of step {step}"):
            checkpoint.save_step(self.folder.checkpoints, step, state)
        clock.saved(began)  # or at least tried: again when the next is due, not at every step

    def _resume(self, optimizers: Optimizers) -> tuple[int, dict[str, Tensor], float]:
        """(steps done, the epoch's sums so far, seconds spent), from the newest whole checkpoint."""
        state = distributed.from_first(lambda: checkpoint.load_newest(self.folder.checkpoints, torch.device("cpu")))
        if state is None:
            return 0, {}, 0.0
        if state["run"] != self.parts.run.id:
            raise StoreError(f"{self.folder.checkpoints}: holds a checkpoint of run {state['run']}; move it away")
        check_same_data(state.get("data"), self.data, self.runtime, "this run was begun on")
        self.method.load_state_dict(state["method"])
        kept = state["optimizers"] if "optimizers" in state else {"main": state["optimizer"]}  # of before players
        for player, one in optimizers.items():
            one.load_state_dict(kept[player])
        torch.set_rng_state(state["rng"])
        self.history[:] = state["history"]
        earlier = state.get("codes") or [(read_json(self.folder.provenance) or {}).get("code")]  # of older ones
        self.codes = list(dict.fromkeys([*filter(None, earlier), *self.codes]))
        print(f"resumed at step {state['step']}", flush=True)
        totals = {name: total.to(self.device) for name, total in state["totals"].items()}
        return int(state["step"]), totals, float(state["seconds"])

    @on_first_rank
    def _write_metrics(self) -> None:
        """Whole file each time: after a resume no line stands twice, and none is half-written."""
        write_atomic(self.folder.metrics, "".join(json.dumps(line, sort_keys=True) + "\n" for line in self.history))

    @on_first_rank
    def _write_provenance(self, clock: Clock, *, finished: bool) -> None:
        gpu = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else None
        about: dict[str, Any] = provenance.describe(gpu=gpu, threads=torch.get_num_threads())
        about |= {"processes": distributed.world(), "compile": self.runtime.compile, "precision": self.precision}
        if self.method.evaluates != "encoder":
            about["evaluates"] = self.method.evaluates
        about["started"] = clock.started_at
        about["data"] = self.data
        if len(self.codes) > 1:
            about["codes"] = self.codes
        if self.first is not None:
            about["first"] = self.first
        if finished:
            about["weights"] = trace.state(self.method)
            about |= {"finished": time.time(), "wall_seconds": round(clock.total_seconds(), 3)}
            if self.history:  # a run of no epochs has no speed, and is no measure of any other's
                about["images_per_second"] = round(clock.images_per_second(), 1)
        write_json(self.folder.provenance, about)


def accumulate(totals: dict[str, Tensor], values: dict[str, Tensor]) -> None:
    """Running sums that stay on the device: no synchronisation inside an epoch."""
    for name, value in values.items():
        totals[name] = totals[name] + value.float() if name in totals else value.float().clone()


@on_first_rank
def finish(folder: RunFolder, run: Run, *, status: str, **about: Any) -> None:
    """Write ``outcome.json``: from now on the run is trained, or diverged."""
    check_ours(folder)
    write_json(folder.outcome, {"run": run.id, "status": status, "epochs": run.schedule.epochs, **about})
