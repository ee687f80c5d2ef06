"""The spectrum of a matrix whose spectrum is known."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from harness.evaluate.measurement import Unavailable, recorded
from harness.evaluate.spectrum import Spectrum
from harness.evaluate.trained import Trained

Make = Callable[..., Trained]


def with_head(trained: Trained, *layers: nn.Module) -> Trained:
    trained.method.head = nn.Sequential(*layers)
    return trained


def test_a_known_spectrum(make_trained: Make) -> None:
    """A rotation by 60 degrees and twice its size has the eigenvalues 2 exp(+-i pi/3), whose real parts are 1."""
    turn = 2 * torch.tensor([[0.5, -(3**0.5) / 2], [3**0.5 / 2, 0.5]])
    weight = torch.block_diag(turn, torch.tensor([[-3.0]]), torch.tensor([[0.5]]))
    linear = nn.Linear(4, 4, bias=False)
    with torch.no_grad():
        linear.weight.copy_(weight)
    found = recorded(Spectrum(share=0.9)(with_head(make_trained(), linear, nn.BatchNorm1d(4))))
    assert found["arrays"]["squared_eigenvalues"] == pytest.approx([9.0, 1.0, 1.0, 0.25], rel=1e-3)
    assert found["arrays"]["singular_values"] == pytest.approx([3.0, 2.0, 2.0, 0.5], rel=1e-3)
    assert found["values"] == {"width": 4.0, "rank": 3.0, "stable_rank": pytest.approx(17.25 / 9)}


def test_other_heads_have_no_such_spectrum(make_trained: Make) -> None:
    for layers, said in (
        ([], "linear head"),
        ([nn.Linear(8, 8), nn.Linear(8, 8)], "linear head"),
        ([nn.Linear(8, 4)], "8 to 4"),
    ):
        with pytest.raises(Unavailable, match=said):
            list(Spectrum()(with_head(make_trained(), *layers)))
