"""Correlations near what is looked up are those of all cells with all, wherever flows go."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from eval.networks.correlation import Everywhere, Nearby, correlation

RADIUS = 3


def drawn(b: int, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Features of both frames, and each cell's own place."""
    features, other = torch.randn(2, b, 12, height, width, generator=torch.Generator().manual_seed(height))
    x, y = torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy")
    return features, other, torch.stack([x, y]).float().expand(b, -1, -1, -1)


def wobble(like: Tensor, size: float) -> Tensor:
    return size * (2 * torch.rand(like.shape, generator=torch.Generator().manual_seed(1)) - 1)


@pytest.mark.parametrize(("b", "height", "width"), [(1, 48, 56), (2, 45, 67)])
def test_nearby_is_everywhere(b: int, height: int, width: int) -> None:
    features, other, own = drawn(b, height, width)
    near, everywhere = correlation(features, other, RADIUS), Everywhere(features, other, RADIUS)
    assert isinstance(near, Nearby)
    # On its way, as a flow's iterations are: nowhere, a little, within the slack, beyond it, and beyond the frame's borders.
    pan = torch.tensor([4.3, -7.6])[:, None, None]
    far = torch.tensor([3.0 * width, -2.5])[:, None, None]
    for flow in (
        0 * own,
        wobble(own, 0.4),
        wobble(own, 1.9),
        wobble(own, 2.0) + pan,
        pan.expand_as(own),
        far.expand_as(own),
    ):
        torch.testing.assert_close(near.around(own + flow), everywhere.around(own + flow), atol=1e-4, rtol=0)
        assert near._everywhere is None
    assert not everywhere.around(own + far).any()


def test_where_flows_go_everywhere_all_are_taken() -> None:
    features, other, own = drawn(1, 48, 56)
    near, everywhere = Nearby(features, other, RADIUS), Everywhere(features, other, RADIUS)
    for place in (own, own + wobble(own, 30)):
        torch.testing.assert_close(near.around(place), everywhere.around(place), atol=1e-4, rtol=0)
    assert near._everywhere is not None
    assert not Nearby(features, other, RADIUS).around(own + 1e9).any()  # where windows would not fit float32's integers
    unknown = own.clone()
    unknown[0, 0, 5, 5] = float("nan")
    assert Nearby(features, other, RADIUS).around(unknown)[..., 5, 5].isnan().all()


def test_the_same_places_ask_once(monkeypatch: pytest.MonkeyPatch) -> None:
    features, other, own = drawn(1, 48, 56)
    near, products = Nearby(features, other, RADIUS), Nearby._products
    made: list[object] = []

    def counted(self: Nearby, level: int, first: Tensor, size: tuple[int, int]) -> Tensor:
        made.append(size)
        return products(self, level, first, size)

    monkeypatch.setattr(Nearby, "_products", counted)
    for size in (0, 0.5, 1.5, 1.9):
        near.around(own + wobble(own, size))
    assert len(made) == 4  # levels
    near.around(own + 3)
    assert len(made) == 8
    near.around(own + 6)  # within the slack of these, twice the first
    assert len(made) == 8
