"""The KV cache: executes a CachePolicy for one batch of videos.

Life of a chunk: `begin(start)`; any number of denoising passes, each with `denoise(step)` as the transformer's memory; one
clean pass with `commit()`, which stores the chunk. What is stored and read and where is settled once, at `begin`, in
Python ints; no pass reads anything back from the device.

Work that differs from chunk to chunk (making content, moving slots, turning keys) happens in `begin` and `commit`, or,
where content waits for the chunk's queries, in the first pass. All other passes (passes.py) do the same on tensors of
fixed shape and place, so that they can be compiled or captured: `memory.steady` says so.

Keys are stored without rotary embedding and turned from there whenever their temporal position changes, so re-alignment
adds no rounding however often it happens. Denoising reads a prefix of the buffers without a copy (arrange.py). Storage
order is not temporal order: attention does not care, and a new frame overwrites a slot that was freed for it.

All state is created here, so nothing leaks from one video to the next.

Shapes: B batch, H heads, D head dim, S tokens per frame (slot), T tokens, L query tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from deepforcing.cache.arrange import arrange, arrange_joint, check_plan
from deepforcing.cache.gaps import Gaps
from deepforcing.cache.observe import Seen, Watch
from deepforcing.cache.passes import First, Steady, hold
from deepforcing.cache.past import LayerPast
from deepforcing.cache.policy import CachePolicy, Content, Pass, Plan, Slot, View
from deepforcing.cache.storage import tensor_bytes
from deepforcing.wan.config import WanConfig
from deepforcing.wan.rope import Rope, rotate

if TYPE_CHECKING:
    from deepforcing.cache.switch import Recompute

Positions = list[int | None]


@dataclass
class Pending:
    """What this chunk asks of every layer before its first read: contents with their buffer slots, then moves (from, to),
    then turns (neighbouring buffer slots, their positions). rotations: of turns by whole frames, the same for all layers."""

    contents: list[tuple[Content, list[int]]]
    moves: list[tuple[int, int]]
    turns: list[tuple[list[int], Positions]]
    rotations: dict[int, Tensor] = field(default_factory=dict)


class KVCache:
    """One batch of videos under one policy.

    total_frames: length of the video in latent frames, the capacity of policies that keep everything. heads: of every
    layer, where the cache is for a band of the model's. watch: told of every layer of every pass (observe.py).
    """

    def __init__(
        self, policy: CachePolicy, config: WanConfig, grid: tuple[int, int], chunk_frames: int, total_frames: int,
        batch: int = 1, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu",
        watch: Watch | None = None, heads: Sequence[int] | None = None,
    ) -> None:  # fmt: skip
        policy.check(chunk_frames, total_frames)
        policy.check_model(config, grid[0] * grid[1])
        self.policy, self.chunk_frames, self.batch = policy, chunk_frames, batch
        self.device = torch.device(device)
        self.rope = Rope(config.rope_split, grid, self.device)
        self.slot_tokens = grid[0] * grid[1]
        room = policy.room(config, self.slot_tokens, chunk_frames, total_frames, batch)
        room = room if heads is None else replace(room, heads=tuple(heads))
        self.capacity, self.needs, self.turns_keys = room.slots, room.needs, room.raw
        self.active = [layer for layer, count in enumerate(room.heads) if count]
        self.layers = policy.store.layers(room, dtype, self.device)
        self.gaps = None if self.needs.gap is None else Gaps(self, self.needs.gap, grid)
        self.notes: dict[str, Any] = {}  # the retention's, for this video
        self.watchers: list[Watch] = [] if watch is None else [watch]
        if self.needs.watches:
            self.watchers.append(self._note)
        self.layer_notes: list[dict[str, Any]] = [{} for _ in self.layers]
        self.shared: dict[str, Any] = {}  # contents', for this chunk
        self.told: dict[int, tuple[Any, ...]] = {}  # layer -> what contents made before a pass tell observers in it
        self.view = View((), 0, frames=chunk_frames, chunk=chunk_frames, notes=self.notes)
        self.slots: list[Slot] = []  # the past in temporal order
        self.places: list[int] = []  # the buffer slot of each
        self.extra: list[tuple[Slot, int]] = []  # frames that only commit passes still read, and their buffer slots
        self.own: list[int] = []  # buffer slots of the current chunk
        self.before: list[int] = []  # places of the slots that this chunk's plan was asked about
        self.rendered: dict[int, int | None] = {}  # buffer slot -> temporal position at which `k` now holds it
        self.scattered: set[int] = set()  # buffer slots whose tokens have places of their own
        self.read: tuple[list[Slot], list[int], Positions] = ([], [], [])  # by denoising: slots, places, positions
        self.pending = Pending([], [], [])
        self.waiting: set[int] = set()  # layers that have yet to run what is pending
        self.joint, self.chunk_shift = False, 0
        self.own_frames: list[int] = []  # buffer slots of which denoising reads every token by its own frame
        # Buffer slots of the past by the chunk's frames, where these differ.
        self.seen_by: list[list[int]] | None = None
        self._denoise, self._commit = Steady(self, "denoise"), Steady(self, "commit")

    # ---- once per chunk -------------------------------------------------------------------------------------------

    def begin(self, start: int, frames: int | None = None, switched: bool = False, cut: bool = False) -> None:
        """Settle everything for the chunk whose first latent frame is `start`.

        frames: of a joint window, so many latent frames that are denoised together from there on, read and not stored;
        None: the chunk. switched: the prompt is a new one; cut: and follows a cut. The same start again, for a window
        that moved on over an unfinished chunk, only plans again.
        """
        until = self.needs.watched_frames
        if until is not None and start >= until and self._note in self.watchers:
            self.watchers.remove(self._note)
        again = bool(self.own) and start == self.view.start
        if not again:
            self.absorb()
        self.joint, last = frames is not None, self.view
        frames = self.chunk_frames if frames is None else frames
        asked = replace(last, slots=tuple(self.slots), start=start, frames=frames, switched=switched, cut=cut)
        plan = self.policy.retention.plan(asked)
        check_plan(plan, asked, self.policy.retention, self.capacity, self.needs.reads)
        self.asked, self.before, self.shared = asked, self.places, {}
        dropping = self._store(plan, start, self.own if again else None)
        first_drop = start if dropping and last.first_drop is None else last.first_drop
        slots = tuple(self.slots)
        self.view = replace(asked, slots=slots, first_drop=first_drop, last_drop=start if dropping else last.last_drop)
        reads = range(len(slots)) if plan.reads is None else plan.reads
        read, places = [slots[i] for i in reads], [self.places[i] for i in reads]
        self.seen_by = None if plan.sees is None else [[self.places[i] for i in frame] for frame in plan.sees]
        seen = replace(self.view, slots=tuple(read))
        positions, shift = self.policy.aligned.positions(seen), getattr(self.policy.aligned, "chunk_shift", None)
        self.chunk_shift = 0 if shift is None else shift(seen)
        self.read = read, places, [s.frame if p is None else p for s, p in zip(read, positions, strict=True)]
        self.own_frames = [at for at, p in zip(places, self.read[2], strict=True) if p is None]
        self._turn_to(places, self.read[2])
        if any(content.waits for content, _ in self.pending.contents):
            self.waiting = set(self.active)
        else:
            self._run_pending()
        self._settle(self._denoise, frames, self.tokens(places) if self.joint else None, *self.read)

    def _store(self, plan: Plan, start: int, own: list[int] | None) -> bool:
        """Give every slot of the plan its place in the buffers. Whether anything was dropped."""
        slots: list[Slot] = []
        held: list[int | None] = []
        contents: list[tuple[Content, int]] = []
        for item in plan.stored:
            if isinstance(item, int):
                slots.append(self.slots[item])
                held.append(self.places[item])
            else:
                contents.append((item, len(slots)))
                slots += item.slots
                held += [None] * len(item.slots)
        kept = set(held)
        dropped = [(slot, at) for slot, at in zip(self.slots, self.places, strict=True) if at not in kept]
        extra = [(s, at) for s, at in (*self.extra, *dropped) if self.commits_read(s, start)]
        reads = set(range(len(slots)) if plan.reads is None else plan.reads)
        extra_places = [at for _, at in extra]
        if self.joint:
            to = arrange_joint(held, extra_places, self.chunk_frames, self.capacity, own)
        else:
            to = arrange(held, reads, extra_places, self.chunk_frames, self.capacity)
        moved = dict(to.moves)
        made = [(content, to.places[first : first + len(content.slots)]) for content, first in contents]
        stay = {at for at in (*held, *extra_places) if at is not None} - set(moved)
        known = stay if self.needs.reads is not None else stay | set(moved)  # else keys as read do not move along
        self.rendered = {moved.get(at, at): p for at, p in self.rendered.items() if at in known}
        self.scattered = {moved.get(at, at) for at in self.scattered if at in stay or at in moved}
        self.slots, self.places, self.own = slots, to.places, to.own
        self.extra = [(s, at) for (s, _), at in zip(extra, to.extra, strict=True)]
        self.pending = Pending(made, to.moves, [])
        return bool(dropped)

    def commits_read(self, slot: Slot, start: int) -> bool:
        """Whether this chunk's commit pass, or a later one, reads a slot that denoising has no more use for."""
        newest = self.policy.commit_frames
        return newest is not None and slot.frame is not None and slot.frame >= start + self.chunk_frames - newest

    def absorb(self) -> None:
        """The chunk just finished becomes part of the past."""
        start, role = self.view.start, self.policy.retention.role
        frames = range(start, start + len(self.own))
        self.slots, self.places = [*self.slots, *(Slot(role(f), f) for f in frames)], [*self.places, *self.own]
        self.rendered.update((at, frame + self.chunk_shift) for at, frame in zip(self.own, frames, strict=True))
        self.own = []
        for layer in self.layers:
            layer.settle()

    def _settle(
        self, kind: Steady, frames: int, index: Tensor | None, read: list[Slot], places: list[int], positions: Positions
    ) -> None:
        """Bring a kind of pass up to this chunk."""
        start = self.view.start
        chunk = range(start, start + frames)
        turned = self.rope.frames(chunk)
        keys = self.rope.frames([f + self.chunk_shift for f in chunk]) if self.chunk_shift else turned
        kind.settle(start, self.tokens(self.own), turned, keys, index, (len(read) + frames) * self.slot_tokens)
        by_frame = None if index is not None or self.seen_by is None else self.seen_by
        kind.split(None if by_frame is None else [self.tokens([*at, *self.own]) for at in by_frame])
        found = {at: (slot, p) for at, slot, p in zip(places, read, positions, strict=True)}
        own = {at: (Slot("chunk", f), f + self.chunk_shift) for at, f in zip(self.own, chunk, strict=False)}
        if index is None:
            order = [(found | own)[at] for at in range(len(read) + frames)]
        else:
            order = [*found.values(), *((Slot("chunk", f), f + self.chunk_shift) for f in chunk)]
        kind.slots, kind.positions = tuple(s for s, _ in order), tuple(p for _, p in order)

    @property
    def attended_tokens(self) -> float:
        """Keys that each query of the current chunk sees while it is denoised; the mean where its frames differ."""
        return self._denoise.attended

    @property
    def held(self) -> int:
        """Bytes that are stored for all videos of the batch, with what contents keep of them."""
        gaps = 0 if self.gaps is None else tensor_bytes(self.gaps.newest)
        return sum(layer.held for layer in self.layers) + tensor_bytes(self.layer_notes) + gaps

    # ---- passes ---------------------------------------------------------------------------------------------------

    def denoise(self, step: int = 0) -> Steady | First:
        """The transformer's memory for the chunk's denoising pass `step`."""
        self._denoise.step = step
        self._denoise.bias = self._bias(step)
        return First(self, self._denoise) if self.waiting else self._denoise

    def commit(self) -> Steady | First:
        """The memory of the clean pass, which stores the chunk: its un-rotated keys and its values as they are then."""
        newest, frames = self.policy.commit_frames, self.chunk_frames
        if self.gaps is not None:
            self.gaps.check_told()
        if newest is None and not self.joint:
            self._settle(self._commit, frames, None, *self.read)
        else:
            oldest = 0 if newest is None else self.view.start + frames - newest
            stored = [*zip(self.slots, self.places, strict=True), *self.extra]
            # A frame may be stored twice, at two places to be read at: its copies are equal.
            frames_at = {s.frame: (s.frame, at, s) for s, at in reversed(stored) if s.frame is not None}
            past = sorted(item for frame, item in frames_at.items() if frame >= oldest)
            places, positions = [at for _, at, _ in past], [p for p, _, _ in past]
            self._turn_to(places, [*positions])
            if not self.waiting:
                self._run_pending()
            self._settle(self._commit, frames, self.tokens(places), [s for *_, s in past], places, [*positions])
        return First(self, self._commit) if self.waiting else self._commit

    def recompute(self, keep_sink: bool) -> Recompute:
        """The memory of a pass that computes the cached frames again, after a chunk (switch.py)."""
        from deepforcing.cache.switch import Recompute

        return Recompute(self, keep_sink)

    def _bias(self, step: int) -> Tensor | None:
        """What the policy adds to the logits of the keys that denoising reads: [1, 1, 1, T], in their order."""
        if self.policy.bias is None:
            return None
        slots, places, _ = self.read
        of_slots = self.policy.bias.logits(replace(self.view, slots=tuple(slots)), step)
        at = dict(zip(places, of_slots, strict=True))
        order = places if self.joint else range(len(places) + self.chunk_frames)
        values = [at.get(i, 0.0) for i in order] + [0.0] * (self.view.frames if self.joint else 0)
        tokens = torch.tensor(values, dtype=self.layers[0].dtype).repeat_interleave(self.slot_tokens)
        return hold(self._denoise.bias, tokens[None, None, None].to(self.device, non_blocking=True))

    def _note(self, seen: Seen) -> None:
        self.policy.retention.watch(seen, self.notes)

    # ---- what differs from chunk to chunk ---------------------------------------------------------------------------

    def _turn_to(self, places: list[int], positions: Positions) -> None:
        """Plan the turns of what lies elsewhere than where it will be read; neighbouring whole frames in one go."""
        if not self.turns_keys:
            return
        made = {at for _, slots in self.pending.contents for at in slots}
        turns = self.pending.turns
        for at, p in sorted(zip(places, positions, strict=True), key=lambda turn: turn[0]):
            if at in self.rendered and self.rendered[at] == p:
                continue
            self.rendered[at] = p
            alone = made | self.scattered
            if turns and turns[-1][0][-1] + 1 == at and not {at, at - 1} & alone:
                turns[-1][0].append(at)
                turns[-1][1].append(p)
            else:
                turns.append(([at], [p]))

    def _run_pending(self) -> None:
        if self.pending == Pending([], [], []):
            return
        self.waiting = set(self.active)
        for layer in self.active:
            told, _ = self.prepare(layer, None)
            if told and self.watchers:
                self.told[layer] = told

    def prepare(self, layer: int, chunk: Pass | None) -> tuple[tuple[Any, ...], tuple[Tensor, Tensor] | None]:
        """Run what is pending for one layer. Gives what its contents tell an observer, and keys and values that stand in
        for the chunk's first ones in this pass (policy.Tokens)."""
        self.waiting.discard(layer)
        pending, store, s = self.pending, self.layers[layer], self.slot_tokens
        past = LayerPast(self, layer)
        made = [(*content.make(past, chunk), at) for content, at in pending.contents]
        if pending.moves:
            store.move(self.tokens(at for at, _ in pending.moves), self.tokens(to for _, to in pending.moves))
        spill: tuple[Tensor, Tensor] | None = None
        for tokens, _, at in made:
            store.fill(self.tokens(at), tokens)
            if tokens.origin is not None:
                self.scattered |= set(at)
                over = slice(len(at) * s, None)
                if tokens.keys.shape[2] > len(at) * s:
                    frame, place, _ = tokens.origin[..., over]
                    spill = rotate(tokens.keys[:, :, over], self.rope.tokens(frame, place)), tokens.values[:, :, over]
        for n, (places, positions) in enumerate(pending.turns):
            turned, p = slice(places[0] * s, places[-1] * s + s), positions[0]
            if places[0] in self.scattered and store.origin is not None:
                store.turn(turned, self.rope.tokens(past.read_at(turned, p), store.origin[1][..., turned]))
            else:
                if n not in pending.rotations:
                    pending.rotations[n] = self.rope.frames([0 if p is None else p for p in positions])
                store.turn(turned, pending.rotations[n])
        if not self.waiting:
            self.pending = Pending([], [], [])
        return tuple(says for _, says, _ in made if says is not None), spill

    def tokens(self, slots: Iterable[int]) -> Tensor:
        """The tokens of these buffer slots, in their order: int64 [len(slots) * S]."""
        first = torch.tensor(list(slots), dtype=torch.int64)[:, None] * self.slot_tokens
        return (first + torch.arange(self.slot_tokens)).flatten().to(self.device, non_blocking=True)

    def keys(self, layer: int, rotated: bool = True) -> Tensor:
        """For parity and figures: the stored keys of `layer`, past in temporal order, then chunk: [B, T, H, D]. rotated: as
        last read; otherwise without rotary embedding (only where the policy keeps those)."""
        store = self.layers[layer]
        buffer = store.k if rotated else store.raw
        if buffer is None:
            raise ValueError("this policy never turns its keys, so un-rotated ones are not stored")
        if rotated and self.needs.reads is not None:
            raise ValueError("this policy stores more than it reads, and keeps keys as read only of what it does read")
        order = list(self.places)
        if self.extra:  # frames between the sink and the rest
            sinks = sum(slot.role == "sink" for slot in self.slots)
            order[sinks:sinks] = [at for _, at in sorted(self.extra, key=lambda item: item[0].frame or 0)]
        return buffer[:, :, self.tokens([*order, *self.own])].transpose(1, 2)
