"""What a head throws away: the changes, their shares, and a head that does throw something away."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pytest
import torch

from harness.data.rng import ImageRng
from harness.evaluate.head_information import Guess, HeadInformation, Task
from harness.evaluate.measurement import recorded
from harness.evaluate.trained import Trained

Make = Callable[..., Trained]
TASKS = get_args(Task)


def images(n: int) -> torch.Tensor:
    return torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("task", TASKS)
def test_an_image_is_changed_exactly_where_the_answer_says_so(task: Task) -> None:
    before = images(400)
    after, answers = Guess(task)(before, ImageRng(seed=0, epoch=0, images=torch.arange(400)))
    same = (after == before).flatten(1).all(1)
    assert torch.equal(same, answers == 0)
    shares = torch.bincount(answers) / 400
    torch.testing.assert_close(shares, torch.tensor(Guess(task).shares), atol=0.08, rtol=0)


def test_the_answer_says_how_an_image_was_changed() -> None:
    before = images(200)
    rng = ImageRng(seed=0, epoch=0, images=torch.arange(200))
    turned, turns = Guess("rotation")(before, rng)
    for i in range(200):
        assert torch.equal(turned[i], torch.rot90(before[i], int(turns[i]), (1, 2)))
    gray, answers = Guess("color")(before, rng)
    assert torch.equal((gray[:, :1] == gray).flatten(1).all(1), answers == 1)


def test_an_image_draws_the_same_whatever_stands_beside_it() -> None:
    whole, answers = Guess("noise")(images(20), ImageRng(seed=1, epoch=0, images=torch.arange(20)))
    part, some = Guess("noise")(images(20)[5:9], ImageRng(seed=1, epoch=0, images=torch.arange(5, 9)))
    torch.testing.assert_close(part, whole[5:9])
    assert torch.equal(some, answers[5:9])


def test_h_and_z_cost_one_pass_of_the_encoder(make_trained: Make) -> None:
    trained = make_trained()
    list(HeadInformation(task="sobel", epochs=1)(trained))
    passes = list(trained.method.passes)  # type: ignore[arg-type, call-overload]
    list(HeadInformation(task="sobel", epochs=1, features="z")(trained))
    assert trained.method.passes == passes


def test_what_a_head_throws_away_cannot_be_guessed_from_z(make_trained: Make) -> None:
    """A head of zeros keeps nothing: its MLP can only name the commonest answer, where h tells grayness."""
    trained = make_trained(data={"train_images": 400, "test_images": 300})
    with torch.no_grad():
        trained.method.head.weight.zero_()  # type: ignore[union-attr, operator]
    h = recorded(HeadInformation(task="sobel", lr=1e-2)(trained))["values"]["top1"]
    found = recorded(HeadInformation(task="sobel", lr=1e-2, features="z")(trained))
    z = found["values"]["top1"]
    assert found["collapsed"] == {"features": 5, "of": 5}
    _, answers = trained.changed("test", "h", Guess("sobel"))
    commonest = 100 * float(torch.bincount(answers).max()) / 300
    assert h > 90 and z in (pytest.approx(commonest), pytest.approx(100 - commonest))


def test_the_weights_and_the_global_generator_stay_as_they_are(make_trained: Make) -> None:
    trained = make_trained()
    state, before = torch.get_rng_state(), {k: v.clone() for k, v in trained.method.state_dict().items()}
    one, again = (list(HeadInformation(task="noise", epochs=2)(trained)) for _ in range(2))
    assert one == again and torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[name], value) for name, value in trained.method.state_dict().items())


def test_no_two_splits_share_their_draws(make_trained: Make) -> None:
    trained = make_trained(data={"train_images": 90, "test_images": 90})
    answers = [trained.changed(split, "h", Guess("rotation"))[1] for split in ("train", "test")]
    assert not torch.equal(*answers)


def test_another_pretext_takes_the_place_of_the_last(make_trained: Make) -> None:
    trained = make_trained()
    rotation, noise = Guess("rotation"), Guess("noise")
    trained.changed("train", "h", rotation)
    trained.features("train", "h")
    passes = len(trained.method.passes)
    trained.changed("train", "z", rotation)
    assert len(trained.method.passes) == passes
    trained.changed("train", "h", noise)
    assert [key for key in trained._features if len(key) == 3] == [("train", "h", noise)]
    assert ("train", "h") in trained._features, "what other evaluations need stays"
