"""Digests of what a run computed: equal for equal bits, unequal for anything else; and what the loop writes of them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from harness.store.results import read_json
from harness.train import loop, trace
from tests.train.test_loop import HERE, final, tiny


def test_a_digest_sees_bits_types_shapes_and_order() -> None:
    one = torch.tensor([1.0, 2.0])
    different = [
        [one],
        [one, one],
        [one.double()],
        [one.view(2, 1)],
        [one.flip(0)],
        [torch.tensor([1.0, 2.0000002])],
        [torch.tensor([-0.0])],
        [torch.tensor([0.0])],
        ["one"],
        [torch.zeros(0)],
        [],
    ]
    assert len({trace.digest(parts) for parts in different}) == len(different)
    assert trace.digest([one]) == trace.digest([one.clone().requires_grad_()])
    assert trace.digest([torch.arange(4.0).view(2, 2).t()]) == trace.digest([torch.tensor([[0.0, 2.0], [1.0, 3.0]])])
    assert trace.digest([one.bfloat16()]) != trace.digest([one.half()])


def test_structure_is_settings_and_shapes_and_not_values() -> None:
    def made(**more: float) -> nn.Module:
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, **more))

    assert trace.structure(made()) == trace.structure(made().eval()), "neither values nor the mode"
    assert trace.structure(made()) != trace.structure(made(momentum=0.2))
    assert trace.structure(made()) != trace.structure(nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4)))
    with torch.device("meta"):
        assert trace.structure(made()) == trace.structure(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)))


def test_state_sees_buffers() -> None:
    norm = nn.BatchNorm1d(4)
    before = trace.state(norm)
    norm(torch.randn(8, 4))
    assert trace.state(norm) != before


def test_the_loop_writes_them_and_inert_runs_share_them(tmp_path: Path) -> None:
    plain = {"views.both": [{"crop": {}}], "views.targeted": [], "views.shared": []}
    never = {**plain, "views.both": [{"crop": {}}, {"noise": {"p": 0.0}}]}
    one, other, third = (tiny(tmp_path, **each)[0] for each in (plain, never, {**plain, "norm.momentum": 0.2}))
    for folder in (one, other, third):
        loop.execute(folder, [], HERE)
    about, twin, momentum = (read_json(folder.provenance) for folder in (one, other, third))
    assert one.id != other.id
    assert about["first"] == twin["first"] and about["weights"] == twin["weights"]
    assert set(about["first"]) == {"loss", "batch", "modules"} and about["first"]["loss"] > 0
    assert momentum["first"]["batch"] == about["first"]["batch"]
    assert momentum["first"]["loss"] == about["first"]["loss"], "running statistics enter no loss"
    assert momentum["first"]["modules"] != about["first"]["modules"] and momentum["weights"] != about["weights"]
    assert final(one)[1] == final(other)[1] == final(third)[1]
