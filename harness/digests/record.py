"""Compute all digests of this code on this machine."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.config.registry import REGISTRIES
from harness.config.run import Run, identity
from harness.digests import rehearsal
from harness.digests.compare import LOOP, LOOPS, RESUMED, SHARED, Example, Record, nested, trained_with
from harness.digests.observe import HOST, observed
from harness.digests.platform import platform_of
from harness.store import provenance
from harness.train import trace

PROJECTIONS = 6
LOOP_EXAMPLES: dict[str, list[tuple[dict[str, Any], dict[str, Any], Callable[[Run, Path], rehearsal.Observation]]]] = {
    LOOP: [
        ({}, rehearsal.LOOP, rehearsal.whole),
        ({"images_per_pass": 4}, rehearsal.LOOP, partial(rehearsal.whole, images_per_pass=4)),
    ],
    RESUMED: [({}, rehearsal.LOOP, rehearsal.resumed)],
    SHARED: [({}, rehearsal.LOOP, rehearsal.shared), ({}, rehearsal.ONE_GROUP, rehearsal.shared)],
}
"""Of each label of the loop: settings to tell its examples by, the run, and how it is executed."""

DIGITS = 8
"""Significant digits of a number that is written down."""


def labels() -> list[str]:
    """Everything that has a digest."""
    return [f"{kind} {name}" for kind, known in REGISTRIES.items() for name in known.names()] + list(LOOPS)


def record(wanted: Collection[str] | None = None, said: Callable[[str], None] = lambda _: None) -> Record:
    """Compute the digests of ``wanted`` (labels; None: of all). A component without examples is left out.

    ``said`` hears of each component that is left out, and why. Raises what a component raises.
    """
    began = time.process_time()
    components: dict[str, tuple[Example, ...]] = {}
    for label in labels():
        if wanted is None or label in wanted:
            try:
                components[label] = tuple(examples_of(label))
            except LookupError as error:
                said(str(error))
    seconds = round(time.process_time() - began, 1)
    return Record(provenance.code_fingerprint(), platform_of(), components, seconds=seconds)


def examples_of(label: str) -> Iterator[Example]:
    """What every example of ``label`` comes to. Raises ``LookupError`` for a component without examples."""
    if label in LOOPS:
        for fields, whole, act in LOOP_EXAMPLES[label]:
            tried = rehearsal.tiny(whole)
            with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
                yield example(fields, act(tried, Path(folder)), tried)
        return
    kind, _, name = label.partition(" ")
    known = REGISTRIES[kind]
    for entry in known.examples(name):
        run = _host(kind, known.get(name), name, entry[name])
        with tempfile.TemporaryDirectory() as folder:
            found = example(entry[name], observed(kind, entry, Path(folder)), run)
            yield replace(found, numbers=()) if getattr(known.get(name), "tiny_is_chaotic", False) else found


def _host(kind: str, cls: type, name: str, fields: Any) -> Run | None:
    """The run that an example needs around it, if it does."""
    if kind == "method":
        return rehearsal.method_run(name, fields)
    return rehearsal.tiny({**HOST, **getattr(cls, "tiny_run", {})}, seed=5) if kind == "evaluation" else None


def example(fields: Any, parts: Iterable[str | Tensor], run: Run | None = None) -> Example:
    """The digest of ``parts``, of a component with these settings, tried within ``run`` if it needs one."""
    seen = list(parts)
    tensors = [one.detach().cpu() for one in seen if isinstance(one, Tensor)]
    form = [one if isinstance(one, str) else f"{one.dtype} {list(one.shape)}" for one in seen]
    uses = sorted({use.label for use in (*nested(fields), *(trained_with(run.spec()) if run else ()))} - {*LOOPS})
    key = identity([fields, run.id if run else None], 8)
    return Example(key, fields, trace.digest(seen), trace.digest(form), numbers(tensors), tuple(uses))


def numbers(tensors: Sequence[Tensor]) -> tuple[float, ...]:
    """Root mean square of all values, and projections on fixed directions, as large as a typical value.

    So the root mean square difference of two sets of projections is about that of the values themselves. What is not
    finite counts as zero here; the exact bits know of it.
    """
    flat = [one.double().flatten().nan_to_num(0.0, 0.0, 0.0).numpy() for one in tensors]
    x = np.concatenate(flat) if flat else np.zeros(0)
    if not len(x):
        return (0.0,) * (1 + PROJECTIONS)
    draw = np.random.RandomState(0)  # whose stream numpy promises never to change
    found = [float(np.sqrt(np.mean(x**2)))]
    for _ in range(PROJECTIONS):
        signs = 2.0 * draw.randint(0, 2, len(x)) - 1.0
        found.append(float(x @ signs) / float(np.sqrt(len(x))))
    return tuple(float(f"{one:.{DIGITS}g}") for one in found)
