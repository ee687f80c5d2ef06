"""Where tensors live, and how torch and malloc are set for it: process-wide, before a run builds anything."""

from __future__ import annotations

import os

import torch

from harness.runtime import Place
from harness.train.memory import keep_memory


def prepared_device(place: Place) -> torch.device:
    """The device of ``place`` (``auto`` is the GPU where there is one), and torch's settings for it.

    float32 is float32 on every device: torch would let cuDNN's convolutions round their inputs to TF32 (10 bits),
    which is another precision, not another place. Who wants speed says ``precision: bfloat16``, and then this concerns
    only what stays in float32: crops, the objective, evaluations. cuDNN times its algorithms once per shape and keeps
    the fastest: but for operators that are applied to some images only, the training of a run has one shape.
    """
    if place.threads:
        torch.set_num_threads(place.threads)
        said = os.environ.get("OMP_NUM_THREADS", "")
        if said and said.partition(",")[0].strip() != str(place.threads):  # torchrun sets it, whatever a user wants
            share = f"{place.threads} threads, this run's share of the cores"
            print(f"OMP_NUM_THREADS={said} is not heeded, since it is no number or torchrun's: {share}", flush=True)
    name = ("cuda" if torch.cuda.is_available() else "cpu") if place.device == "auto" else place.device
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    device = torch.device(name)
    if device.type == "cpu":
        keep_memory()
    return device
