"""Read this first: what a cache policy is.

While a chunk is denoised, self-attention sees the chunk itself and a cache of earlier tokens. A policy answers two
independent questions about that cache:

RETENTION   what is stored, and which of it is read (retention.py: whole frames; compression.py: single tokens;
            memrope.py: merged tokens ...);
ALIGNMENT   at which temporal position each slot is read (alignment.py). Rows, columns and values never change.

The unit is the SLOT: as many tokens as one latent frame has. A slot holds one frame, or tokens that were chosen from
several, or merged. The past is a list of slots in temporal order, sink first; the current chunk follows it and is
always read at its own absolute frames, so an alignment moves the past towards the chunk and never the chunk.

At the start of every chunk the retention is shown the past (`View`) and answers with a `Plan`: what stays, what is made
anew (`Content`), what is read. `CachePolicy` is a small frozen value; kv.py executes it and holds all state, one
KVCache per video batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import Tensor

from deepforcing.cache.storage import Dense, Room, Store
from deepforcing.wan.config import WanConfig
from deepforcing.wan.rope import TABLE_FRAMES

if TYPE_CHECKING:
    from deepforcing.cache.observe import Seen, Watch
    from deepforcing.cache.passes import Cache
    from deepforcing.wan.rope import Rope

Kind = Literal["denoise", "commit"]
"""A chunk's passes: those at the noise levels, and the clean one that stores its keys and values."""


@dataclass(frozen=True)
class Slot:
    """One frame's worth of cached tokens. role: what the retention calls it ("sink", "tail", "top", ...). frame: the
    latent frame they are; None when they come from several."""

    role: str
    frame: int | None


@dataclass(frozen=True)
class View:
    """All that a decision may look at, at the start of a chunk: Python values, and what the policy itself noted.

    slots: the past in temporal order. start: first latent frame of the current chunk. first_drop, last_drop: the
    `start` of the first and of the latest chunk at which anything was dropped, None before that. frames: latent frames
    denoised together (a joint window spans several chunks; chunk otherwise). chunk: latent frames that a commit stores.
    switched: this chunk is the first of a new prompt; cut: which follows a cut. notes: what the retention's `watch` has kept
    of this video.
    """

    slots: tuple[Slot, ...]
    start: int
    first_drop: int | None = None
    last_drop: int | None = None
    frames: int = 3
    chunk: int = 3
    switched: bool = False
    cut: bool = False
    notes: Mapping[str, Any] = field(default_factory=dict)


class Alignment(Protocol):
    """Temporal positions for the past: one per slot; None means that each token keeps the frame it came from."""

    @property
    def relative(self) -> bool:
        """True when the distances between chunk and past stay bounded however long the video is."""

    def positions(self, view: View) -> list[int | None]:
        """view.slots are those that are read.

        An alignment that never moves a slot from its own frame may say so with a class attribute `turns = False`:
        un-rotated keys are then not stored; `cuts = True`: it has a rule for View.cut. With a method `chunk_shift(view)`
        the chunk's own keys lie so many positions away from its queries; `token_shift(frames, view)`: see OneShift.
        """
        ...


@dataclass(frozen=True)
class Tokens:
    """New content of slots, L tokens in slot order. keys (un-rotated), values: [B, H, L, D].

    origin: int64 [3, B, G, L], where single tokens come from: latent frame, index within it, how often they have been
    chosen; None for content that is turned as a whole frame. visible: bool [B, G, L]; None: all are. gap: float32
    [B, G, L], where Needs.gap. More tokens than the slots hold stand in for the chunk's own first ones in this one pass.
    """

    keys: Tensor
    values: Tensor
    origin: Tensor | None = None
    visible: Tensor | None = None
    gap: Tensor | None = None


class Past(Protocol):
    """One layer's cache as content is made from it. Indices are those of View.slots."""

    layer: int
    view: View
    slot_tokens: int
    rope: Rope
    notes: dict[str, Any]
    """Of this video and layer, kept as long as the video is made."""
    shared: dict[str, Any]
    """Of this chunk, for all layers (layer 0 comes first)."""

    def keys(self, slots: range, turned: bool = True) -> Tensor:
        """[B, H, len(slots) * S, D], as last read (see Needs.reads), or un-rotated."""

    def values(self, slots: range) -> Tensor: ...
    def origin(self, slots: range) -> Tensor:
        """int64 [3, B, G, len(slots) * S]: frame, place, reuse of single tokens. Needs.origins only."""

    def gap(self, slots: range) -> Tensor:
        """float32 [B, G, len(slots) * S]: denoising gaps of single tokens. Needs.gap only."""

    @property
    def queries(self) -> Tensor | None:
        """Rotated queries of the latest past frames, as many as Needs.queries says: [B, H, L, D]."""


@dataclass(frozen=True)
class Pass:
    """What the layer computed for the chunk in its first pass: [B, H, L, D] each; queries and keys rotated, raw_* not."""

    queries: Tensor
    keys: Tensor
    values: Tensor
    raw_queries: Tensor
    raw_keys: Tensor


class Content(Protocol):
    """Slots whose tokens are made at the start of a chunk."""

    @property
    def slots(self) -> tuple[Slot, ...]: ...
    @property
    def waits(self) -> bool:
        """True: made in the chunk's first pass, whose queries and keys it needs. False: made before it."""

    def make(self, past: Past, chunk: Pass | None) -> tuple[Tokens, Any]:
        """The tokens, and what an observer may want to know of the choice (None: nothing). chunk: None before the pass."""


@dataclass(frozen=True)
class Plan:
    """stored: the past from now on, in temporal order: an index into View.slots stays as it is; a Content is made anew
    from what View.slots hold. reads: indices into the slots so stored that denoising passes read; None: all of them.
    sees: which of them each of the chunk's frames sees, where frames differ; `reads` is then what any of them sees."""

    stored: tuple[int | Content, ...]
    reads: tuple[int, ...] | None = None
    sees: tuple[tuple[int, ...], ...] | None = None

    def __post_init__(self) -> None:
        if self.sees is not None:
            object.__setattr__(self, "reads", tuple(sorted({i for frame in self.sees for i in frame})))

    @property
    def count(self) -> int:
        """Slots that are stored."""
        return sum(1 if isinstance(item, int) else len(item.slots) for item in self.stored)


@dataclass(frozen=True)
class Needs:
    """What the engine has to keep for a retention.

    raw: un-rotated keys, whatever the alignment. origins: where single tokens come from. per_head: origins per head.
    queries: rotated queries of so many latest latent frames; every_pass: of all passes, not only commits.
    watches: `Retention.watch` is told of the passes; watched_frames: of chunks that begin before this latent frame, so that
    later passes can be steady; None: of all. reads: denoising reads so many slots at most, the chunk included, and the keys
    of no more need be kept turned; None: all that are stored. gap: every token keeps how far its clean prediction so many
    denoising steps before the last was from the outcome (gaps.py); None: nothing of the denoising is kept.
    """

    raw: bool = False
    origins: bool = False
    per_head: bool = False
    queries: int = 0
    every_pass: bool = False
    watches: bool = False
    watched_frames: int | None = None
    reads: int | None = None
    gap: int | None = None


class Retention(Protocol):
    """What is stored and read. Sizes in latent frames. A method `budget` sets it to a number of frames read (budget.py)."""

    def check(self, chunk_frames: int) -> None:
        """Raise ValueError when the sizes cannot work with this chunk length."""
        return None

    def check_model(self, config: WanConfig, slot_tokens: int) -> None:
        """Raise ValueError when the rule cannot work with a model's layers and heads, or tokens per frame."""
        return None

    def capacity(self, chunk_frames: int) -> int | None:
        """Slots that the cache needs at most, current chunk included; None: the whole video."""
        ...

    def role(self, frame: int) -> str:
        """What a frame is called when it becomes part of the past."""
        return "tail"

    def needs(self, chunk_frames: int) -> Needs:
        return Needs()

    def plan(self, view: View) -> Plan:
        """At the start of a chunk. view.slots are those of the latest plan and the chunk since."""
        ...

    def watch(self, seen: Seen, notes: dict[str, Any]) -> None:
        """Told of every pass of every layer where Needs.watches; what it keeps in `notes` comes back in View.notes."""
        return None


class Bias(Protocol):
    """A number per cached slot, added to the attention logits of denoising passes."""

    def logits(self, view: View, step: int) -> list[float]:
        """One per slot of view.slots (those that are read). step: 0-based denoising step; the chunk itself has 0."""
        ...


@dataclass(frozen=True)
class CachePolicy:
    """retention x alignment, under the name that tables show.

    alignment: a name from alignment.py ("absolute", "sink", "unified", "slot"), a dotted path to
    an Alignment of your own, or the object itself.
    commit_frames: the commit pass reads only the newest so many latent frames, its own chunk included, at their own
    positions and no sink (Commit Forcing, Rolling Forcing); None: what the other passes read.
    store: how keys and values are kept (storage.py). bias: added to the attention logits of cached slots; None: nothing.
    """

    retention: Retention
    alignment: Alignment | str = "absolute"
    name: str = ""
    commit_frames: int | None = None
    store: Store = field(default_factory=Dense)
    bias: Bias | None = None

    def __post_init__(self) -> None:
        if isinstance(self.alignment, str):
            from deepforcing.cache.alignment import find_alignment

            object.__setattr__(self, "alignment", find_alignment(self.alignment))

    @property
    def aligned(self) -> Alignment:
        assert not isinstance(self.alignment, str)
        return self.alignment

    def max_frames(self, chunk_frames: int) -> int | None:
        """Latent frames of the longest video, in whole chunks; None when there is no limit.

        The published models' rotary table has 1024 positions; whatever reads at absolute positions ends there.
        """
        if self.aligned.relative and self.retention.capacity(chunk_frames) is not None:
            # Chosen tokens that keep their own frames fall ever further behind.
            chosen = View((Slot("top", None),), chunk_frames, frames=chunk_frames, chunk=chunk_frames)
            if not (self.retention.needs(chunk_frames).origins and self.aligned.positions(chosen) == [None]):
                return None
        return TABLE_FRAMES // chunk_frames * chunk_frames

    def check(self, chunk_frames: int, total_frames: int) -> None:
        """Raise ValueError, before any work, for sizes or a length that cannot work."""
        from deepforcing.cache.ahead import check_positions

        self.retention.check(chunk_frames)
        if self.commit_frames is not None and self.commit_frames < chunk_frames:
            raise ValueError(
                f"commit_frames={self.commit_frames} must hold the chunk of {chunk_frames} latent frames that is "
                f"committed; use {chunk_frames} (the chunk alone) or more, or null for what the other passes read"
            )
        check_positions(self.retention, self.aligned, chunk_frames, total_frames)
        limit = self.max_frames(chunk_frames)
        if limit is not None and total_frames > limit:
            raise ValueError(
                f"{total_frames} latent frames need absolute temporal positions past the model's rotary table of "
                f"{TABLE_FRAMES}: with cache {self.name or 'policy'!r} the longest video is {limit} latent frames; "
                "policies that re-align positions have no limit (cache=deep_sink, cache=deep_forcing, or a window "
                "with cache.alignment=slot)"
            )

    def check_model(self, config: WanConfig, slot_tokens: int) -> None:
        """Raise ValueError, before any work, for a model that the policy cannot work with."""
        self.retention.check_model(config, slot_tokens)
        self.store.check(config.head_dim, self.keeps_raw(1))

    @property
    def recomputes(self) -> bool:
        """Whether cached frames can be computed again when the prompt changes (switch.py)."""
        return True

    def new_cache(
        self, config: WanConfig, grid: tuple[int, int], chunk_frames: int, total_frames: int, batch: int = 1,
        dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu", watch: Watch | None = None,
    ) -> Cache:  # fmt: skip
        """An empty cache for one batch of videos of so many latent frames. Raises ValueError as check and check_model."""
        from deepforcing.cache.kv import KVCache

        return KVCache(self, config, grid, chunk_frames, total_frames, batch, dtype, device, watch)

    def slots(self, chunk_frames: int, total_frames: int) -> int:
        """Slots that a video of this length needs, current chunk included."""
        from deepforcing.cache.ahead import most_slots

        return most_slots(self.retention, chunk_frames, total_frames, self.commit_frames)

    def room(self, config: WanConfig, slot_tokens: int, chunk_frames: int, total_frames: int, batch: int = 1) -> Room:
        """What a cache for such a video stores."""
        needs = self.retention.needs(chunk_frames)
        if self.commit_frames is not None:  # a commit then reads frames of its own
            needs = replace(needs, reads=None)
        return Room(
            (config.num_heads,) * config.num_layers, config.head_dim, self.slots(chunk_frames, total_frames),
            slot_tokens, needs, self.keeps_raw(chunk_frames), batch,
        )  # fmt: skip

    def bytes(
        self, config: WanConfig, slot_tokens: int, chunk_frames: int, total_frames: int, size: int, batch: int = 1
    ) -> int:
        """Of the cache, on the device. size: bytes of one number of the run's dtype."""
        return self.store.bytes(self.room(config, slot_tokens, chunk_frames, total_frames, batch), size)

    def identity(self) -> dict[str, Any]:
        """The parts that change pixels; those added since the first version only where they are used."""
        later = {"commit_frames": self.commit_frames, "bias": self.bias}
        used = {name: value for name, value in later.items() if value is not None}
        store = {} if self.store == Dense() else {"store": self.store}
        return {"retention": self.retention, "alignment": self.alignment, **used, **store}

    def keeps_raw(self, chunk_frames: int) -> bool:
        """Whether un-rotated keys are stored: where cached keys are ever turned, or content is made from them."""
        return getattr(self.aligned, "turns", True) or self.retention.needs(chunk_frames).raw
