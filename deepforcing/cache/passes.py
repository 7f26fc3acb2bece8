"""A chunk's passes as the transformer sees them: `attend` for every layer.

`Steady` does the same at every chunk on tensors of fixed shape and place, so that a pass can be compiled or captured: what
changes with the chunk is copied into them at its beginning. `First` is the pass that content waits for.

Shapes: B batch, H heads, D head dim, L query tokens, T key tokens, P = D/2 channel pairs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from deepforcing.cache.observe import Seen
from deepforcing.cache.policy import Kind, Pass, Slot
from deepforcing.wan.attention import attend_to_past
from deepforcing.wan.rope import rotate

if TYPE_CHECKING:
    from deepforcing.cache.gaps import Gaps
    from deepforcing.cache.kv import KVCache
    from deepforcing.cache.storage import Layer
    from deepforcing.cache.switch import Recompute


@runtime_checkable
class CacheMemory(Protocol):
    """The transformer's memory for one pass. steady: it does the same as the last of its kind, so the pass can be compiled."""

    @property
    def steady(self) -> bool: ...
    def state(self) -> tuple[int, ...] | None:
        """Addresses and sizes of all that a pass touches beside the model and its input: while they are the same, a recording
        of it holds. None: it cannot be recorded."""
        ...

    def attend(self, layer: int, q_BHLD: Tensor, k_BHLD: Tensor, v_BHLD: Tensor) -> Tensor: ...


class Cache(Protocol):
    """What a rollout rule drives, chunk by chunk: begin, denoising passes, one commit (kv.py says more)."""

    chunk_frames: int
    batch: int

    @property
    def capacity(self) -> int:
        """Slots that it may come to hold, current chunk included."""
        ...

    @property
    def gaps(self) -> Gaps | None:
        """Where to say, before a chunk's commit, what its denoising came through; None: nothing of it is kept."""
        ...

    @property
    def attended_tokens(self) -> float:
        """Keys that each query of the current chunk sees while it is denoised, on average over layers and heads."""
        ...

    @property
    def held(self) -> int:
        """Bytes that are stored for all videos of the batch."""
        ...

    def begin(self, start: int, frames: int | None = None, switched: bool = False, cut: bool = False) -> None: ...
    def denoise(self, step: int = 0) -> CacheMemory: ...
    def commit(self) -> CacheMemory: ...
    def recompute(self, keep_sink: bool) -> Recompute:
        """The memory of a pass between two chunks that computes the cached frames again. Raises ValueError where the
        policy has no rule for it (CachePolicy.recomputes)."""
        ...


def hold(held: Tensor | None, new: Tensor) -> Tensor:
    """`new`, in the place of the tensor held so far where that has its shape."""
    if held is None or held.shape != new.shape or held.dtype != new.dtype:
        return new.clone()  # whoever else holds `new` must not see later chunks
    return held.copy_(new, non_blocking=True)


def address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


class Steady:
    """One kind of pass. See `settle` for what it holds."""

    def __init__(self, cache: KVCache, kind: Kind) -> None:
        self.layers, self.kind, self.needs = cache.layers, kind, cache.needs
        self.slot_tokens = cache.slot_tokens
        self.watchers, self.told = cache.watchers, cache.told
        self.remembers = 0
        if self.needs.queries and (kind == "commit" or self.needs.every_pass):
            self.remembers = self.needs.queries * self.slot_tokens
        self.own: Tensor = torch.empty(0, dtype=torch.int64)
        self.rotation = self.key_rotation = torch.empty(0)
        self.index: Tensor | None = None
        self.origin: Tensor | None = None
        self.bias: Tensor | None = None
        self.by_frame: list[Tensor] | None = None
        self.used = self.start = self.step = 0
        self.slots: tuple[Slot, ...] = ()
        self.positions: tuple[int | None, ...] = ()

    @property
    def steady(self) -> bool:
        return not self.watchers

    def state(self) -> tuple[int, ...] | None:
        """See CacheMemory. Everything held here keeps its place while its shape stays (`hold`)."""
        parts = (self.own, self.rotation, self.key_rotation, self.index, self.origin, self.bias)
        found = [self.used, self.kind == "commit", *map(address, (*parts, *(self.by_frame or ())))]
        for layer in self.layers:
            tensors = layer.tensors()
            if tensors is None:
                return None
            found += map(address, tensors)
        return tuple(found)

    def settle(
        self, start: int, own: Tensor, rotation: Tensor, key_rotation: Tensor, index: Tensor | None, used: int
    ) -> None:
        """For a new chunk. own: the tokens of the buffers that are the chunk's. rotation, key_rotation: of its
        queries and keys.
        index: the past tokens that are read; None: the first `used` of the buffers, the chunk's own among them."""
        self.start, self.used = start, used
        self.own, self.rotation = hold(self.own, own), hold(self.rotation, rotation)
        self.key_rotation = hold(self.key_rotation, key_rotation)
        self.index = None if index is None else hold(self.index, index)
        if self.needs.origins and self.kind == "commit":
            place = torch.arange(len(own), device=own.device)
            frame = start + place // self.slot_tokens
            origin = torch.stack([frame, place % self.slot_tokens, torch.zeros_like(place)])[:, None, None]
            self.origin = hold(self.origin, origin)

    def split(self, by_frame: list[Tensor] | None) -> None:
        """by_frame: the tokens of the buffers that each of the chunk's frames sees, where they differ, its own among them."""
        held = self.by_frame
        if by_frame is None or held is None or len(held) != len(by_frame):
            held = by_frame
        self.by_frame = held and [hold(old, new) for old, new in zip(held, by_frame or (), strict=True)]

    @property
    def attended(self) -> float:
        """Keys per query, on average."""
        if self.by_frame is None:
            return self.used
        mean = sum(len(frame) for frame in self.by_frame) / len(self.by_frame)
        return int(mean) if mean.is_integer() else mean

    def attend(self, layer: int, q_BHLD: Tensor, k_BHLD: Tensor, v_BHLD: Tensor) -> Tensor:
        """Self-attention over past and chunk (Memory protocol)."""
        q, k = rotate(q_BHLD, self.rotation), rotate(k_BHLD, self.key_rotation)
        return self.run(layer, q, k, v_BHLD, q_BHLD, k_BHLD)

    def run(
        self,
        layer: int,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        raw_q: Tensor,
        raw_k: Tensor,
        told: tuple[Any, ...] = (),
        spill: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        store, own = self.layers[layer], self.own
        if self.index is None or self.kind == "commit":
            store.put(own, k, v)
        if spill is not None:
            store.put(own[: spill[0].shape[2]], *spill)
        if self.kind == "commit":
            store.keep(own, raw_k, self.key_rotation)
            if self.origin is not None and store.origin is not None:
                store.origin.index_copy_(3, own, self.origin.expand(-1, *store.origin.shape[1:3], -1))
        if self.remembers:
            store.remember(q, self.remembers)
        if self.index is None:
            keys, values = store.read(self.used)
        else:
            past_keys, past_values = store.pick(self.index)
            keys, values = torch.cat([past_keys, k], 2), torch.cat([past_values, v], 2)
        out = (
            attend_to_past(q, keys, values, self._mask(store))
            if self.by_frame is None
            else self._attend_by_frame(store, q)
        )
        if self.watchers:
            told = (*self.told.pop(layer, ()), *told)
        for watch in self.watchers:
            watch(
                Seen(
                    layer, self.start, self.kind, self.step, q, keys, raw_q, raw_k, self.slots, self.positions, told
                )
            )  # fmt: skip
        return out

    def _attend_by_frame(self, store: Layer, q: Tensor) -> Tensor:
        """Every frame of the chunk over what it sees."""
        assert self.by_frame is not None
        mask, out = self._mask(store), []
        for frame, at in zip(q.chunk(len(self.by_frame), 2), self.by_frame, strict=True):
            out.append(attend_to_past(frame, *store.pick(at), None if mask is None else mask.index_select(3, at)))
        return torch.cat(out, 2)

    def _mask(self, store: Layer) -> Tensor | None:
        visible = store.visible
        if visible is not None:
            visible = visible[:, :, None, : self.used] if self.index is None else None
        if self.bias is None:
            return visible
        return self.bias if visible is None else self.bias.masked_fill(~visible, float("-inf"))


class First:
    """A chunk's first pass where content waits for it: makes each layer's content, then attends."""

    steady = False

    def state(self) -> None:
        """It does what differs from chunk to chunk."""
        return None

    def __init__(self, cache: KVCache, then: Steady) -> None:
        self.cache, self.then = cache, then

    def attend(self, layer: int, q_BHLD: Tensor, k_BHLD: Tensor, v_BHLD: Tensor) -> Tensor:
        """Self-attention over past and chunk (Memory protocol)."""
        then = self.then
        q, k = rotate(q_BHLD, then.rotation), rotate(k_BHLD, then.key_rotation)
        told, spill = self.cache.prepare(layer, Pass(q, k, v_BHLD, q_BHLD, k_BHLD))
        return then.run(layer, q, k, v_BHLD, q_BHLD, k_BHLD, told, spill)
