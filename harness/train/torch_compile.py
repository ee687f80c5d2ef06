"""``torch.compile`` around a pretraining: a choice of the runtime (:class:`harness.runtime.Runtime`), never of the run.

Encoder and head are compiled, each as a whole and for the one shape that all batches of a run have; views, objective
and optimiser are not. Values differ from eager ones by rounding, because a compiler fuses and reorders sums. Off unless
asked for, on GPUs too: it costs up to minutes before the first step, which short runs do not earn back.

``reduce-overhead`` replays the compiled kernels as CUDA graphs. What such a graph returned (features, and parameters'
gradients) lies in memory that its next replay overwrites. So the start of a step is marked, as
``torch.compiler.cudagraph_mark_step_begin`` asks for, after the gradients of the last step have been let go: the
optimiser has read them, and :func:`harness.train.step.optimise` has set them to None.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from harness.config.errors import SpecError
from harness.methods.base import Method, Update
from harness.runtime import Runtime, check_compiler


@contextmanager
def compiled(method: Method, runtime: Runtime, device: torch.device) -> Iterator[None]:
    """Within, the networks of ``method`` run as ``runtime.compile`` says; afterwards they are what they were.

    Only the way they are called changes: parameters, buffers and their names stay, hence every checkpoint. Nothing is
    compiled before the first step. Evaluations come afterwards: their batches have other shapes, the last a smaller
    one, and each shape would be compiled anew. Raises :class:`SpecError` where there is no compiler, or it fails.
    """
    if runtime.compile == "off":
        try:
            yield
        finally:
            method.zero_grad(set_to_none=True)  # evaluations need the memory, and would copy them with the networks
        return
    check_compiler(runtime.compile, device.type)
    if runtime.threads:  # of several runs side by side, each compiles on its own cores; read when first needed
        os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(runtime.threads))
    from torch._dynamo.exc import TorchDynamoException  # a second to import

    networks = [one for one in method.networks() if next(one.parameters(), None) is not None]
    for one in networks:
        # On the instance, where it shadows the class's: a compiled *module* would rename every parameter.
        one.forward = torch.compile(one.forward, mode=runtime.compile, dynamic=False)
    if runtime.compile == "reduce-overhead":
        method.training_step = partial(_marked, method.training_step)  # type: ignore[method-assign]
    try:
        yield
    except TorchDynamoException as error:
        said = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise SpecError(f"compile: {runtime.compile} failed ({said}); off trains without it") from error
    finally:
        for one in networks:
            del one.forward
        vars(method).pop("training_step", None)
        method.zero_grad(set_to_none=True)  # they may lie in the memory of a graph
        torch.compiler.reset()  # or the next run of this process would count as one network with too many variants


def _marked(training_step: Callable[..., Iterator[Update]], *arguments: Any) -> Iterator[Update]:
    torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
    return training_step(*arguments)
