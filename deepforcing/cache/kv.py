"""The KV cache: executes a CachePolicy for one batch of videos and is the transformer's `memory`.

Life of a chunk: `begin(start)`; any number of passes in which every layer calls `attend`; the last one, on the clean
chunk, under `commit()`, which stores its un-rotated keys. What is dropped and where slots are read is settled once, at
`begin`, in Python ints: no pass reads anything back from the device.

Keys are stored without rotary embedding and turned from there into `k` whenever their temporal position changes, so
re-alignment adds no rounding however often it happens. Storage order is not temporal order: a new frame overwrites the
slot that was freed for it (attention does not care), except after a compression, which packs the survivors.

All state is created here, so nothing leaks from one video to the next.

Shapes: B batch, H heads, D head dim, P = D/2 channel pairs, S tokens per frame (slot), T tokens, L query tokens,
G = H if heads choose for themselves, else 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from deepforcing.cache.policy import CachePolicy, Compress, Layout, Slot, TokenRetention
from deepforcing.cache.storage import Layer, Origins, Selection
from deepforcing.wan.attention import attend
from deepforcing.wan.config import WanConfig
from deepforcing.wan.rope import Rope, rotate


class KVCache:
    """One batch of videos under one policy.

    total_frames: length of the video in latent frames, the capacity of policies that keep everything. keep_selections:
    record every compression's choice in `selections`.
    """

    def __init__(
        self,
        policy: CachePolicy,
        config: WanConfig,
        grid: tuple[int, int],
        chunk_frames: int,
        total_frames: int,
        batch: int = 1,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        keep_selections: bool = False,
    ) -> None:
        policy.check(chunk_frames, total_frames)
        self.policy, self.chunk_frames, self.batch = policy, chunk_frames, batch
        self.device = torch.device(device)
        self.rope = Rope(config.rope_split, grid, self.device)
        self.slot_tokens = grid[0] * grid[1]
        window = policy.retention.capacity(chunk_frames)
        self.capacity = total_frames if window is None else min(window, total_frames)
        self.layers = [
            Layer(batch, config, self.capacity * self.slot_tokens, dtype, self.device) for _ in range(config.num_layers)
        ]
        self.compression = policy.retention if isinstance(policy.retention, TokenRetention) else None
        groups = config.num_heads if self.compression is not None and self.compression.per_head else 1
        tokens = (self.capacity + chunk_frames) * self.slot_tokens
        self.origins = [
            Origins(batch, groups, tokens, self.device) for _ in range(config.num_layers if self.compression else 0)
        ]
        self.selections: list[Selection] | None = [] if keep_selections else None
        self.layout = Layout((), 0)
        self.storage: list[int] = []  # where each slot of the layout lies in the buffers
        self.rendered: dict[int, int | None] = {}  # buffer slot -> temporal position at which `k` now holds it
        self.own: list[int] = []  # buffer slots of the current chunk
        self.places: list[tuple[slice, slice]] = []  # the same as tokens: (of the buffer, of the chunk), in few pieces
        self.turns: list[tuple[slice, Tensor]] = []  # tokens of whole frames to turn before the first read, and how
        self.top_turns: list[tuple[int, int | None]] = []  # buffer slots of chosen tokens, and their position
        self.pending: Compress | None = None
        self.before = 0  # slots of the past before this chunk's compression
        self.used = 0  # tokens that the chunk's queries see
        self.entered: set[int] = set()  # layers that have run a pass of this chunk
        self.committing = False
        self.rotation = torch.empty(0)

    # ---- once per chunk -------------------------------------------------------------------------------------------

    def begin(self, start: int) -> None:
        """Make room for the chunk whose first latent frame is `start` and settle all positions for it."""
        self.absorb()
        decision = self.policy.retention.decide(self.layout.slots, self.chunk_frames)
        slots, storage = self.layout.slots, self.storage
        self.before = len(slots)
        dropping = isinstance(decision, Compress) or len(decision) < len(slots)
        self.pending = decision if isinstance(decision, Compress) else None
        self._check(decision)
        if isinstance(decision, Compress):
            slots = self._compressed(decision, slots)
            storage = list(range(len(slots)))
            self.rendered = {i: p for i, p in self.rendered.items() if i < decision.sink}
            self.own = list(range(len(slots), len(slots) + self.chunk_frames))
        else:
            kept = self._moved_up([storage[i] for i in decision])
            taken = set(kept)
            free = (i for i in range(self.capacity) if i not in taken)
            slots, storage = tuple(slots[i] for i in decision), kept
            self.own = [next(free) for _ in range(self.chunk_frames)]
        first = self.layout.first_drop
        if dropping:
            first = start if first is None else first
        self.layout = Layout(slots, start, first, start if dropping else self.layout.last_drop)
        self.storage = storage
        positions = self.policy.aligned.positions(self.layout)
        self._plan_turns(positions)
        self.places = self._places()
        self.used = (len(slots) + self.chunk_frames) * self.slot_tokens
        self.rotation = self.rope.frames(range(start, start + self.chunk_frames))
        self.entered = set()

    def _check(self, decision: tuple[int, ...] | Compress) -> None:
        """A retention's mistakes, named; costs nothing beside a chunk."""
        name = type(self.policy.retention).__name__
        if isinstance(decision, Compress):
            if self.compression is None:
                raise ValueError(
                    f"{name}.decide asks for a compression, so it needs the fields of policy.TokenRetention"
                )
            return
        if list(decision) != sorted(set(decision)) or not set(decision) <= set(range(len(self.layout.slots))):
            raise ValueError(
                f"{name}.decide gave {decision}: give ascending indices into the {len(self.layout.slots)} slots"
            )
        if len(decision) + self.chunk_frames > self.capacity:
            raise ValueError(
                f"{name}.decide keeps {len(decision)} slots, which with the chunk's {self.chunk_frames} exceed its capacity "
                f"of {self.capacity}"
            )

    def _places(self) -> list[tuple[slice, slice]]:
        s, pieces, first = self.slot_tokens, [], 0
        for i in range(1, len(self.own) + 1):
            if i == len(self.own) or self.own[i] != self.own[i - 1] + 1:
                to = slice(self.own[first] * s, self.own[i - 1] * s + s)
                pieces.append((to, slice(first * s, i * s)))
                first = i
        return pieces

    def _plan_turns(self, positions: list[int | None]) -> None:
        """Which buffer slots must be turned to which positions before the first read; the same for every layer."""
        s, whole = self.slot_tokens, []
        self.turns, self.top_turns = [], []
        for i, slot, p in zip(self.storage, self.layout.slots, positions, strict=True):
            p = slot.frame if p is None else p
            p = slot.frame if p is None else p
            if i in self.rendered and self.rendered[i] == p:
                continue
            self.rendered[i] = p
            if slot.role == "top":  # its tokens come from other frames and places in every layer
                self.top_turns.append((i, p))
            else:
                assert p is not None
                whole.append((i, p))
        whole.sort()
        first = 0
        while first < len(whole):  # neighbouring buffer slots in one go
            last = first
            while last + 1 < len(whole) and whole[last + 1][0] == whole[last][0] + 1:
                last += 1
            at = slice(whole[first][0] * s, whole[last][0] * s + s)
            self.turns.append((at, self.rope.frames([p for _, p in whole[first : last + 1]])))
            first = last + 1

    def _moved_up(self, kept: list[int]) -> list[int]:
        """Reads take the first slots of the buffers: survivors beyond them (a retention freed a lot) move into holes."""
        end, s = len(kept) + self.chunk_frames, self.slot_tokens
        holes = iter(sorted(set(range(end)) - set(kept)))
        moved = [i if i < end else next(holes) for i in kept]
        for i, to in zip(kept, moved, strict=True):
            if i == to:
                continue
            for store in self.layers:
                for buffer in (store.raw, store.k, store.v):
                    buffer[:, :, to * s : to * s + s] = buffer[:, :, i * s : i * s + s]
            self.rendered[to] = self.rendered[i]
        return moved

    def absorb(self) -> None:
        """The chunk just finished becomes part of the past."""
        start = self.layout.start
        new = [Slot(self.policy.retention.role(f), f) for f in range(start, start + len(self.own))]
        self.layout = Layout((*self.layout.slots, *new), start, self.layout.first_drop, self.layout.last_drop)
        self.storage = self.storage + self.own
        self.rendered.update(zip(self.own, range(start, start + len(self.own)), strict=True))
        self.own = []

    def _compressed(self, c: Compress, slots: tuple[Slot, ...]) -> tuple[Slot, ...]:
        past_recent = max(c.recent - self.chunk_frames, 0)
        # recent < chunk happens in the released code only: the chunk then overwrites the end of the chosen tokens.
        top = c.top - max(self.chunk_frames - c.recent, 0)
        return (*slots[: c.sink], *[Slot("top", None)] * top, *slots[len(slots) - past_recent :])

    @contextmanager
    def commit(self) -> Iterator[None]:
        """The pass inside stores the chunk: its un-rotated keys and its values as they are then."""
        self.committing = True
        try:
            yield
        finally:
            self.committing = False

    @property
    def attended_tokens(self) -> int:
        """Keys that each query of the current chunk sees."""
        return int(self.used)

    # ---- once per pass and layer ----------------------------------------------------------------------------------

    def attend(self, layer: int, q_BHLD: Tensor, k_BHLD: Tensor, v_BHLD: Tensor) -> Tensor:
        """Self-attention over past and chunk (Memory protocol)."""
        store, s = self.layers[layer], self.slot_tokens
        q, k = rotate(q_BHLD, self.rotation), rotate(k_BHLD, self.rotation)
        first_pass = layer not in self.entered
        if first_pass:
            self.entered.add(layer)
            if self.pending is not None:
                self._compress(layer, self.pending, q, k, k_BHLD, v_BHLD)
            self._turn(layer)
        if not (first_pass and self.pending is not None):
            for to, of in self.places:
                store.k[:, :, to] = k[:, :, of]
                store.v[:, :, to] = v_BHLD[:, :, of]
        if self.committing:
            for to, of in self.places:
                store.raw[:, :, to] = k_BHLD[:, :, of]
            if self.compression is not None:
                start = self.layout.start
                self.origins[layer].write(self.own[0] * s, range(start, start + self.chunk_frames), s)
        if self.compression is not None and (self.committing or self.compression.every_pass):
            self.remember_queries(store, q)
        mask = None if store.visible is None else store.visible[:, :, None, : self.used]
        return attend(q, store.k[:, :, : self.used], store.v[:, :, : self.used], mask)

    def _turn(self, layer: int) -> None:
        """Bring `k` to this chunk's positions, from the stored un-rotated keys."""
        store, s = self.layers[layer], self.slot_tokens
        for at, rotation in self.turns:
            store.k[:, :, at] = rotate(store.raw[:, :, at], rotation)
        for i, p in self.top_turns:
            at, origin = slice(i * s, i * s + s), self.origins[layer]
            time = origin.frame[:, :, at]
            rotation = self.rope.tokens(time if p is None else torch.full_like(time, p), origin.place[:, :, at])
            store.k[:, :, at] = rotate(store.raw[:, :, at], rotation)

    # ---- compression ----------------------------------------------------------------------------------------------

    def _compress(self, layer: int, c: Compress, q: Tensor, k: Tensor, k_raw: Tensor, v: Tensor) -> None:
        """Choose this layer's tokens and pack them behind the sink, the chunk's own (k, k_raw, v) among them."""
        policy, store, origins, s = self.compression, self.layers[layer], self.origins[layer], self.slot_tokens
        assert policy is not None
        start, past = self.layout.start, self.before * s
        origins.write(past, range(start, start + self.chunk_frames), s)
        keys = torch.cat([store.k[:, :, :past], k], 2)
        scores = policy.scorer.score(self._scoring_queries(store, q), keys, key=layer * 1_000_003 + start)
        if not policy.per_head:
            scores = scores.sum(1, keepdim=True)
        first, last, count = c.sink * s, keys.shape[2] - c.recent * s, c.top * s
        candidates, reuse = scores[:, :, first:last], origins.reuse[:, :, first:last]
        if policy.reuse_limit is not None:
            candidates = candidates.masked_fill(reuse >= policy.reuse_limit, float("-inf"))
        chosen = candidates.topk(count, dim=2).indices.sort(2).values + first
        if self.selections is not None:
            self.selections.append(Selection(layer, start, chosen, scores))
        store.visible = None
        if policy.reuse_limit is not None and 2 * count > last - first:
            # Fewer new candidates than places: the limit may leave too few, and what is over it must not be seen.
            seen = torch.ones((*chosen.shape[:2], self.capacity * s), dtype=torch.bool, device=self.device)
            seen[:, :, first : first + count] = origins.reuse.gather(2, chosen) < policy.reuse_limit
            store.visible = seen
        origins.reuse.scatter_add_(2, chosen, torch.ones_like(chosen))
        tail = torch.arange(last, keys.shape[2], device=self.device).expand(*chosen.shape[:2], -1)
        keep = torch.cat([chosen, tail], 2)
        at = slice(first, first + keep.shape[2])
        index = keep[..., None].expand(self.batch, k.shape[1], -1, k.shape[3])
        for buffer, new in ((store.k, k), (store.raw, k_raw), (store.v, v)):
            buffer[:, :, at] = torch.cat([buffer[:, :, :past], new], 2).gather(2, index)
        for values in (origins.frame, origins.place, origins.reuse):
            values[:, :, at] = values.gather(2, keep)

    def _scoring_queries(self, store: Layer, q: Tensor) -> Tensor:
        """Rotated queries that score: of the chunk, of the clean past among the recent frames, or both."""
        assert self.compression is not None
        which, past = self.compression.queries, store.past_queries
        q = q[:, :, -self.compression.recent_frames * self.slot_tokens :]
        if which == "denoising" or past is None:
            return q
        return past if which == "past" else torch.cat([past, q], 2)

    def remember_queries(self, store: Layer, q: Tensor) -> None:
        assert self.compression is not None
        keep = (self.compression.recent_frames - self.chunk_frames) * self.slot_tokens
        if keep <= 0:
            return
        if q.shape[2] < keep and store.past_queries is not None:
            q = torch.cat([store.past_queries, q], 2)
        store.past_queries = q[:, :, -keep:].clone()

    # ---- for parity and figures -----------------------------------------------------------------------------------

    def keys(self, layer: int, rotated: bool = True) -> Tensor:
        """The keys of `layer` as the current chunk reads them, past in temporal order, then chunk: [B, T, H, D].

        rotated=False: without rotary embedding, as stored.
        """
        store = self.layers[layer]
        tokens = self.token_index([*self.storage, *self.own])
        return (store.k if rotated else store.raw)[:, :, tokens].transpose(1, 2)

    def token_index(self, slots: list[int]) -> Tensor:
        """The tokens of these buffer slots, in their order: int64 [len(slots) * S]."""
        first = torch.tensor(slots, dtype=torch.int64, device=self.device)[:, None] * self.slot_tokens
        return (first + torch.arange(self.slot_tokens, device=self.device)).flatten()
