"""One layer's cache, as content is made from it (policy.Past)."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from deepforcing.cache.kv import KVCache


class LayerPast:
    """What the slots hold that this chunk's plan was asked about; valid until the plan's moves are made."""

    def __init__(self, cache: KVCache, layer: int) -> None:
        self.cache, self.layer, self.view, self.slot_tokens = cache, layer, cache.asked, cache.slot_tokens
        self.store, self.rope = cache.layers[layer], cache.rope
        self.shared: dict[str, Any] = cache.shared
        self.notes: dict[str, Any] = cache.layer_notes[layer]

    @property
    def queries(self) -> Tensor | None:
        return self.store.past_queries

    def keys(self, slots: range, turned: bool = True) -> Tensor:
        buffer = self.store.k if turned else self.store.raw
        assert buffer is not None, "a retention that makes content from un-rotated keys says so in Needs.raw"
        return self._of(buffer, slots, 2)

    def values(self, slots: range) -> Tensor:
        return self._of(self.store.v, slots, 2)

    def origin(self, slots: range) -> Tensor:
        assert self.store.origin is not None, "a retention that asks for origins says so in Needs.origins"
        return self._of(self.store.origin, slots, 3)

    def gap(self, slots: range) -> Tensor:
        assert self.store.gap is not None, "a retention that asks for gaps says so in Needs.gap"
        return self._of(self.store.gap, slots, 2)

    def read_at(self, tokens: slice, position: int | None) -> Tensor:
        """Where single tokens are read: int64 [B, G, tokens]. position: of all; None: the frames that they come from."""
        assert self.store.origin is not None
        frame, shift = self.store.origin[0], getattr(self.cache.policy.aligned, "token_shift", None)
        if position is not None:
            return torch.full_like(frame[..., tokens], position)
        if shift is None:
            return frame[..., tokens]
        chosen = frame.index_select(2, self.cache.tokens(self.cache.own_frames))
        moved: Tensor = frame[..., tokens] + shift(chosen, self.cache.view)
        return moved

    def _of(self, buffer: Tensor, slots: range, axis: int) -> Tensor:
        """Tokens of these slots, without a copy where they lie side by side."""
        s, places = self.slot_tokens, [self.cache.before[i] for i in slots]
        if all(b == a + 1 for a, b in pairwise(places)):
            first = places[0] if places else 0
            return buffer.narrow(axis, first * s, len(places) * s)
        return buffer.index_select(axis, self.cache.tokens(places))
