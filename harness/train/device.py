"""Choose the device, and configure torch and malloc for it, before a run builds anything."""

from __future__ import annotations

import os

import torch

from harness.runtime import Runtime
from harness.train.memory import keep_memory


def prepared_device(runtime: Runtime) -> torch.device:
    """Return the device of ``runtime`` (``auto``: the GPU where there is one), and configure torch for it.

    TF32 is switched off: torch would let cuDNN's convolutions round their inputs to 10 bits, so that a run's
    ``precision: float32`` would mean something else on a GPU. For speed, use ``precision: bfloat16``. cuDNN's benchmark
    mode is on: apart from operators that act on some images only, all batches of a run have one shape.
    """
    if runtime.threads:
        torch.set_num_threads(runtime.threads)
        said = os.environ.get("OMP_NUM_THREADS", "")
        if said and said.partition(",")[0].strip() != str(runtime.threads):  # torchrun sets it, whatever a user wants
            share = f"{runtime.threads} threads, this run's share of the cores"
            print(f"OMP_NUM_THREADS={said} is not heeded, since it is no number or torchrun's: {share}", flush=True)
    name = ("cuda" if torch.cuda.is_available() else "cpu") if runtime.device == "auto" else runtime.device
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    device = torch.device(name)
    if device.type == "cpu":
        keep_memory()
    return device
