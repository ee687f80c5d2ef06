"""Compiled networks: the numbers of eager ones, the same files, one compilation per network, and clear refusals."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp

from harness import components, distributed
from harness.config.errors import SpecError
from harness.optim.schedules import Progress
from harness.runtime import Rank, Runtime, check_compiler, check_graphs
from harness.store.results import read_json
from harness.train import checkpoint, loop
from harness.train.step import optimise
from harness.train.torch_compile import compiled
from tests.methods.pieces import random_batch
from tests.train.test_loop import HERE, final, tiny, tree

CPU = torch.device("cpu")
COMPILED = replace(HERE, compile="default")
SMALLEST = {
    "data.synthetic.train_images": 32,
    "encoder": {"micro": {"stem": 8, "widths": [8], "depth": 0}},
    "schedule": {"batch_size": 16, "epochs": 2, "warmup_epochs": 0},
    "optimizer": {"sgd": {"lr": 0.03, "lr_scaling": "none"}},
}
NETWORKS = 2
"""Encoder and head: what is compiled once each."""

# Dynamo looks at the gradient of whatever enters a network; what enters the head is no leaf. Nothing of ours.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")


@pytest.fixture(scope="module", autouse=True)
def nobody_elses_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Inductor keeps what it compiles in /tmp for all: half a library, of a process that was killed, as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("inductor")))
        yield


@pytest.mark.slow
def test_compiled_training_is_eager_training_and_resumes_as_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps compiled by Inductor, a checkpoint, two more eager: the files of four eager steps, up to rounding."""
    eager, _ = tiny(tmp_path / "eager", **SMALLEST)
    loop.execute(eager, [], HERE)
    folder, asked = tiny(tmp_path / "compiled", **SMALLEST)
    called: list[bool] = []
    monkeypatch.setattr(loop, "optimise", watched(called))

    def stop_after_an_epoch(pretraining: loop.Pretraining, *arguments: Any, **named: Any) -> None:
        save(pretraining, *arguments, **named)
        raise loop.Interrupted("enough")

    save = loop.Pretraining._save
    monkeypatch.setattr(loop.Pretraining, "_save", stop_after_an_epoch)
    with pytest.raises(loop.Interrupted):
        loop.execute(folder, [], COMPILED)
    assert called == [True, True] and read_json(folder.provenance)["compile"] == "default"
    state = checkpoint.load_newest(folder.checkpoints, CPU)
    assert state is not None and not any("_orig_mod" in name for name in state["method"])
    monkeypatch.setattr(loop.Pretraining, "_save", save)
    loop.execute(folder, asked, HERE)
    assert called == [True, True, False, False] and folder.id == eager.id
    (weights, *_), (others, *_) = final(folder), final(eager)
    assert list(weights) == list(others)
    for name, weight in weights.items():
        torch.testing.assert_close(weight, others[name], rtol=1e-4, atol=1e-5, msg=name)


def watched(called: list[bool]) -> Callable[..., Any]:
    def step(method: Any, *arguments: Any, **named: Any) -> Any:
        called.append("forward" in vars(method.encoder) and "forward" in vars(method.head))
        return optimise(method, *arguments, **named)

    return step


def gradients(method: Any, batch: Any) -> torch.Tensor:
    """Take a step that moves nothing, and leave its gradients; the loss."""
    return optimise(method, {"main": torch.optim.SGD(method.parameters(), lr=0.0)}, batch, Progress(0, 9, 9))["loss"]


def graphs_of(groups: int, passes: int, images: int = 16) -> int:
    """How many graphs three compiled steps take; they run as they are, so each step is the eager one bit by bit."""
    found: list[torch.fx.GraphModule] = []

    def keep(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        found.append(graph)
        return graph.forward

    usual = torch.compile
    torch.compile = functools.partial(usual, backend=keep)  # type: ignore[assignment]
    try:
        parts = components.build(components.resolve(tree(**{"norm.groups": groups}), 0))
        ours, theirs = (loop.seeded_method(parts, parts.dataset.load(Path()), CPU).train() for _ in range(2))
        ours.micro_batches = theirs.micro_batches = passes
        with compiled(ours, COMPILED, CPU):
            for _ in range(3):
                batch = random_batch(images)
                losses = [gradients(one, batch) for one in (ours, theirs)]
                assert torch.equal(*losses)
                for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
                    assert one.grad is not None and other.grad is not None and torch.equal(one.grad, other.grad)
        assert all(torch.equal(*pair) for pair in zip(ours.buffers(), theirs.buffers(), strict=True))
        assert "forward" not in vars(ours.encoder) and "forward" not in vars(ours.head)
    finally:
        torch.compile = usual
    return len(found)


@pytest.mark.slow
@pytest.mark.parametrize(("groups", "passes", "times"), [(1, 1, 1), (4, 1, 1), (4, 4, 1)])
def test_each_network_is_compiled_once_and_whole(groups: int, passes: int, times: int) -> None:
    assert graphs_of(groups, passes) == times * NETWORKS


def one_of_two(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.initialise(Rank(rank=rank, world=2, meeting=f"file://{folder}/meeting"))
    (folder / f"{rank}").write_text(f"{graphs_of(1, 1, images=8)}")
    distributed.shutdown()


@pytest.mark.slow
def test_statistics_that_span_processes_break_no_network_apart(tmp_path: Path) -> None:
    mp.spawn(one_of_two, args=(tmp_path,), nprocs=2)
    assert {(tmp_path / rank).read_text() for rank in "01"} == {str(NETWORKS)}


def test_no_compiler_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    said = "no no-such-compiler on the PATH"
    with pytest.raises(SpecError, match=said):
        check_compiler("default", "cpu")
    check_compiler("off", "cpu")
    folder, _ = tiny(tmp_path, **SMALLEST)
    with pytest.raises(SpecError, match=said):
        loop.execute(folder, [], COMPILED)
    assert not folder.outcome.exists()


@pytest.mark.parametrize(
    ("triton", "compiler", "said"),
    [
        (False, "sh", "the package triton is not installed"),
        (True, "no-such", "no no-such on the PATH"),
        (True, "sh", ""),
    ],
)
def test_a_gpu_needs_triton_and_a_c_compiler(
    triton: bool, compiler: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", compiler)
    monkeypatch.setattr("harness.runtime.find_spec", lambda name: object() if triton else None)
    if not said:
        check_compiler("default", "cuda")
        return
    with pytest.raises(SpecError, match=said):
        check_compiler("default", "cuda")


@pytest.mark.parametrize(
    ("groups", "world", "passes", "said"), [(4, 1, 2, "2 \\(images per pass"), (1, 2, 1, "exchange")]
)
def test_cuda_graphs_are_refused_where_they_cannot_hold_a_step(groups: int, world: int, passes: int, said: str) -> None:
    check_graphs("default", groups=groups, world=world, passes=passes)
    check_graphs("reduce-overhead", groups=2, world=2, passes=1)
    with pytest.raises(SpecError, match=said):
        check_graphs("reduce-overhead", groups=groups, world=world, passes=passes)


def test_a_step_begins_before_its_forward_where_graphs_are_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the gradients, which a graph's memory may hold, are gone by then."""
    parts = components.build(components.resolve(tree(), 0))
    method = loop.seeded_method(parts, parts.dataset.load(Path()), CPU).train()
    marks: list[bool] = []
    monkeypatch.setattr(torch, "compile", lambda forward, **_: forward)
    monkeypatch.setattr(
        torch.compiler,
        "cudagraph_mark_step_begin",
        lambda: marks.append(all(one.grad is None for one in method.parameters())),
    )
    with compiled(method, Runtime(device="cpu", compile="reduce-overhead"), CPU):
        for _ in range(2):
            gradients(method, random_batch(16))
    gradients(method, random_batch(16))
    assert marks == [True, True]


def test_gradients_do_not_outlive_the_training(tmp_path: Path) -> None:
    parts = components.build(components.resolve(tree(), 0))
    method = loop.seeded_method(parts, parts.dataset.load(tmp_path), torch.device("cpu"))
    with compiled(method, HERE, torch.device("cpu")):
        for one in method.parameters():
            one.grad = torch.ones_like(one)
    assert all(one.grad is None for one in method.parameters())
