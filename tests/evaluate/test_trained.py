"""Features: of the right images, in inference mode, computed once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from harness.config.errors import SpecError
from harness.data.augment import Crop, Flip
from harness.data.views import batches
from harness.evaluate.trained import Trained

Make = Callable[..., Trained]


@pytest.mark.parametrize("batch_size", [7, 32, 1000])
@pytest.mark.parametrize("split", ["train", "test"])
def test_h_and_z_are_what_the_networks_say_image_by_image(make_trained: Make, split: str, batch_size: int) -> None:
    trained = make_trained(batch_size=batch_size)
    source = getattr(trained.data, split)
    with torch.no_grad():
        h = torch.cat([trained.method.encoder(image[None].float() / 255) for image in source.images])
        z = trained.method.head(h)
    for at, expected in (("h", h), ("z", z)):
        x, labels = trained.features(split, at)  # type: ignore[arg-type]
        torch.testing.assert_close(x, expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(labels, source.labels)
        assert x.dtype == torch.float32 and not x.requires_grad


def test_features_are_computed_once_and_z_from_h(make_trained: Make) -> None:
    trained = make_trained()
    first = trained.features("train", "z")
    assert trained.method.passes == [32, 32, 26]
    assert trained.features("train", "z")[0] is first[0]
    trained.features("train", "h")
    assert trained.method.passes == [32, 32, 26], "h was already there when z was computed"


def test_augmented_features_are_another_draw_each_epoch(make_trained: Make) -> None:
    trained = make_trained()
    operators = (Crop(), Flip())
    first, _ = trained.features("train", "h", operators, 0)
    again, _ = trained.features("train", "h", operators, 0)
    later, _ = trained.features("train", "h", operators, 1)
    plain, _ = trained.features("train", "h")
    other, _ = make_trained(seed=6).features("train", "h", operators, 0)
    assert torch.equal(first, again)
    for different in (later, plain, other):
        assert not torch.equal(first, different)


def test_a_probe_does_not_see_the_crops_of_the_training(make_trained: Make) -> None:
    trained = make_trained()
    training = next(
        batches(trained.data.train, trained.views, batch_size=90, seed=5, epoch=0, device="cpu", shuffle=False)
    )
    (seen, _), _ = trained.encode("train", trained.views, "h")
    with torch.no_grad():
        trained_on = trained.method.represent(training.views[0])
    assert (seen - trained_on).abs().amax(1).min() > 0


def test_views_are_projected_where_z_is_asked_for(make_trained: Make) -> None:
    trained = make_trained()
    h, labels = trained.encode("test", trained.views, "h", shuffle=True)
    z, same = trained.encode("test", trained.views, "z", shuffle=True)
    assert torch.equal(labels, same) and not torch.equal(labels, trained.data.test.labels)
    assert len(z) == 2 and not torch.equal(z[0], z[1])
    for one, projected in zip(h, z, strict=True):
        torch.testing.assert_close(trained.method.project(one).detach(), projected)


def test_the_networks_stay_as_they_are(make_trained: Make) -> None:
    trained = make_trained()
    trained.method.train()
    trained = make_trained(method=trained.method)
    before = {name: value.clone() for name, value in trained.method.state_dict().items()}
    trained.features("train", "z")
    trained.encode("test", trained.views, "z")
    after = trained.method.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_a_missing_split_is_refused(make_trained: Make) -> None:
    with pytest.raises(SpecError, match="no validation split"):
        make_trained().features("validation")
    x, _ = make_trained(data={"validation_images": 12}).features("validation")
    assert len(x) == 12


@pytest.mark.parametrize("at", ["h", "z"])
def test_a_diverged_network_has_no_features(make_trained: Make, at: str) -> None:
    trained = make_trained()
    with torch.no_grad():
        network = trained.method.encoder[0] if at == "h" else trained.method.head
        network.weight.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match=f"features {at} are not finite"):
        trained.features("train", at)  # type: ignore[arg-type]
