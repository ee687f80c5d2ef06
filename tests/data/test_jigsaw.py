"""The jigsaw of PIRL: where its squares come from, in what order they lie, and that each is changed by itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from harness.data.augment import Color
from harness.data.jigsaw import Jigsaw, tiles
from harness.data.rng import ImageRng


def streams(count: int) -> ImageRng:
    return ImageRng(seed=0, epoch=0, images=torch.arange(count))


def numbered(count: int, size: int) -> Tensor:
    """Pixels that say where they are: row, column and nothing."""
    place = torch.arange(size, dtype=torch.float32) / size
    rows, columns = place[:, None].expand(size, size), place[None].expand(size, size)
    return torch.stack([rows, columns, torch.zeros(size, size)]).expand(count, 3, size, size)


@pytest.mark.parametrize(("size", "tile"), [(255, 64), (36, 9), (32, 8)])
def test_squares_are_the_papers_share_of_their_cells(size: int, tile: int) -> None:
    assert (Jigsaw().tile(size), Jigsaw().side(size)) == (tile, 3 * tile)


def test_every_square_lies_in_a_cell_of_its_own_at_a_random_place_and_in_a_random_order() -> None:
    count, size, cell, tile = 300, 36, 12, 9
    orders, places = set(), set()
    for square in torch.stack(tiles(Jigsaw()(numbered(count, size), streams(count))), dim=1):
        corner = (square[:, :2, 0, 0] * size).round().long()
        for part, (top, left) in zip(square, corner.tolist(), strict=True):
            expected = numbered(1, size)[0, :, top : top + tile, left : left + tile]
            assert torch.equal(part, expected)
            assert top % cell <= cell - tile and left % cell <= cell - tile
            places.add((top % cell, left % cell))
        cells = (3 * (corner[:, 0] // cell) + corner[:, 1] // cell).tolist()
        assert sorted(cells) == [*range(9)]
        orders.add(tuple(cells))
    assert len(places) == 16 and len(orders) > 295, "4 x 4 places in a cell; of 362,880 orders few come twice"


def test_each_square_has_draws_of_its_own() -> None:
    images = torch.full((4, 3, 36, 36), 0.5) + torch.tensor([0.1, 0.0, -0.1])[:, None, None]
    plain, changed = (Jigsaw(each=one)(images, streams(4)) for one in (None, Color(strength=1.0)))
    assert len(torch.stack(tiles(plain)).unique()) == 3
    for image in range(4):
        colors = torch.stack([part[image, :, 0, 0] for part in tiles(changed)])
        assert len(colors.unique(dim=0)) > 6
        assert all(part[image].flatten(1).std(1).max() < 1e-6 for part in tiles(changed)), "the same over a square"


def test_views_that_are_no_jigsaw_are_refused() -> None:
    with pytest.raises(ValueError, match=r"views of 32 pixels .* jigsaw come last"):
        tiles(torch.zeros(1, 3, 32, 32))
