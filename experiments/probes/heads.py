"""Where the heads of a model look, and which of them look at the newest frames only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from deepforcing.cache.observe import Seen


class Shares:
    """An observer that adds up where heads look: attention mass on the newest key frames, and on all but the first ones.

    queries: of a pass, evenly spread. Passes that see no more than newest + skip key frames tell nothing and are left out.
    """

    def __init__(self, newest: int, skip: int, queries: int) -> None:
        self.newest, self.skip, self.queries = newest, skip, queries
        self.sums: dict[int, Tensor] = {}

    def __call__(self, seen: Seen) -> None:
        count = len(seen.slots)
        if count <= self.newest + self.skip:
            return
        order = sorted(range(count), key=lambda i: -1 if seen.slots[i].frame is None else int(seen.slots[i].frame or 0))
        step = max(1, seen.queries.shape[2] // self.queries)
        q, k = seen.queries[:, :, ::step].float(), seen.keys.float()
        weights = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1).mean((0, 2))  # [H, T]
        mass = weights.unflatten(1, (count, -1)).sum(2)[:, order]
        found = torch.stack([mass[:, -self.newest :].sum(1), mass[:, self.skip :].sum(1)])
        self.sums[seen.layer] = self.sums.get(seen.layer, 0) + found.double()

    def of_layers(self) -> list[list[float]]:
        """A share in 0..1 per layer and head."""
        return [(self.sums[layer][0] / self.sums[layer][1]).tolist() for layer in range(len(self.sums))]


def groups(shares: Sequence[Sequence[float]], threshold: float) -> list[dict[str, Any]]:
    """Per layer, as head_classes.read_classes takes them."""
    return [
        {
            "layer": layer,
            "static": [h for h, share in enumerate(of_layer) if share >= threshold],
            "dynamic": [h for h, share in enumerate(of_layer) if share < threshold],
        }
        for layer, of_layer in enumerate(shares)
    ]
