"""Encoders of finished runs: out of a results folder, into a safetensors file, and back as a module.

Checkpoints are not committed: ``results/encoders/<id>.safetensors`` holds the encoders that are, in half precision.
Write one with ``python -m harness.weights ID [ID ...] --results DIR --to results/encoders``.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from harness import components
from harness.config.errors import SpecError, nearest
from harness.config.run import Run
from harness.models.encoder import Encoder
from harness.store.results import RunFolder, Store, StoreError, read_json, write_atomic
from harness.train import checkpoint

PREFIX = "encoder."
"""What the names of the evaluated encoder's parameters begin with in a checkpoint."""


def encoder(run: str, results: Path | str = "results") -> Encoder:
    """Return the encoder of a run, in inference mode: images [N, 3, H, W] in [0, 1] -> h [N, D].

    ``run`` is an id or its first digits. The weights are those of ``checkpoints/final.pt``, else those of
    ``encoders/<id>.safetensors``. Raises :class:`SpecError` for no or several such runs and :class:`StoreError` where
    neither file is there.
    """
    store = Store(Path(results))
    committed = store.encoders.glob("*.safetensors")
    known = sorted({*store.run_ids(), *(path.stem for path in committed)})
    matches = [one for one in known if one.startswith(run)] if run else []
    if len(matches) != 1:
        what = f"{len(matches)} runs begin with {run!r}: {', '.join(matches[:6])}" if matches else nearest(run, known)
        raise SpecError(f"{results}: no single run {run!r}: {what}")
    folder = store.run(matches[0])
    if folder.weights.exists():
        return _built(_specification(folder), _parameters(folder))
    if (file := store.encoder(folder.id)).exists():
        return read(file)
    raise StoreError(f"{folder.weights}: the weights are not here, nor {file}; train the run again to have them")


def write(folder: RunFolder, path: Path) -> None:
    """Write the encoder of a finished run as safetensors, floats in half precision, with its specification.

    Raises :class:`StoreError` where a weight does not fit into half precision or there are no weights.
    """
    run = _specification(folder)
    parameters = {name: _half(value) for name, value in _parameters(folder).items()}
    if broken := [name for name, value in parameters.items() if not torch.isfinite(value).all()]:
        raise StoreError(f"{folder.weights}: {broken[0]} is not finite in half precision; nothing was written")
    made_by = (read_json(folder.provenance) or {}).get("commit") or "unknown"
    about = {"run": run.id, "commit": made_by, "spec": json.dumps(run.model_dump(mode="json"))}
    write_atomic(path, save(parameters, metadata=about))


def read(path: Path) -> Encoder:
    """Return the encoder of a file that :func:`write` wrote, in inference mode and single precision.

    Raises :class:`StoreError` if the file is damaged or of something else.
    """
    try:
        with safe_open(path, framework="pt") as file:
            run = Run.model_validate(json.loads((file.metadata() or {})["spec"]))
            parameters = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError) as error:
        raise StoreError(f"{path}: not an encoder that this harness wrote ({error})") from None
    return _built(run, parameters)


def _specification(folder: RunFolder) -> Run:
    held = read_json(folder.spec)
    if held is None:
        raise StoreError(f"{folder.spec}: missing, so nothing says which network these weights are of")
    return Run.model_validate(held["spec"])


def _parameters(folder: RunFolder) -> dict[str, Tensor]:
    if not folder.weights.exists():
        raise StoreError(f"{folder.weights}: the weights are not here (they are not committed)")
    state: dict[str, Tensor] = checkpoint.load(folder.weights, torch.device("cpu"))["method"]
    return {name.removeprefix(PREFIX): value for name, value in state.items() if name.startswith(PREFIX)}


def _half(value: Tensor) -> Tensor:
    return (value.half() if value.is_floating_point() else value).contiguous()  # channels_last is refused otherwise


def _built(run: Run, parameters: dict[str, Tensor]) -> Encoder:
    images = run.schedule.batch_size  # how many images and classes there are changes heads and banks, not the encoder
    made = cast(Encoder, components.build(run).build_method(images=images, classes=2).encoder)
    try:
        made.load_state_dict(parameters)
    except RuntimeError as error:
        raise StoreError(f"run {run.id}: the weights are of another network ({error})") from None
    return made.eval()


def main(arguments: list[str] | None = None) -> int:
    """Write encoders of finished runs as safetensors files. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m harness.weights", description=main.__doc__)
    parser.add_argument("runs", nargs="+", metavar="ID", help="ids of runs")
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="default: results")
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="folder of the files, <id>.safetensors")
    asked: Any = parser.parse_args(arguments)
    store = Store(asked.results)
    try:
        for run in asked.runs:
            write(store.run(run), asked.to / f"{run}.safetensors")
            print(asked.to / f"{run}.safetensors")
    except (StoreError, SpecError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
