"""Read this first: what a cache policy is.

While a chunk is denoised, self-attention sees the chunk itself and a cache of earlier tokens. A policy answers two
independent questions about that cache:

RETENTION   which tokens stay when there is no room for all (retention.py: whole frames; compression.py: single tokens);
ALIGNMENT   at which temporal position each kept token is read (alignment.py). Rows, columns and values never change.

The unit is the SLOT: as many tokens as one latent frame has. A slot holds one frame, or, after a compression, the
chosen tokens of several. The past is a list of slots in temporal order, sink first; the current chunk follows it and is
always read at its own absolute frames, so an alignment moves the past towards the chunk and never the chunk.

`CachePolicy` is a small frozen value. kv.py executes it and holds all state, one KVCache per video batch.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from deepforcing.cache.scorers import Scorer
from deepforcing.wan.rope import TABLE_FRAMES


@dataclass(frozen=True)
class Slot:
    """One frame's worth of cached tokens. frame: the latent frame they are, None when they come from several ("top")."""

    role: Literal["sink", "top", "tail"]
    frame: int | None


@dataclass(frozen=True)
class Layout:
    """The past at the start of a chunk, after retention.

    slots: in temporal order. start: first latent frame of the current chunk. first_drop, last_drop: the `start` of the
    first and of the latest chunk at which anything was dropped, None before that.
    """

    slots: tuple[Slot, ...]
    start: int
    first_drop: int | None = None
    last_drop: int | None = None


class Alignment(Protocol):
    """Temporal positions for the past: one per slot; None means that each token keeps the frame it came from."""

    @property
    def relative(self) -> bool:
        """True when the distances between chunk and past stay bounded however long the video is."""
        ...

    def positions(self, layout: Layout) -> list[int | None]: ...


@dataclass(frozen=True)
class Compress:
    """Keep `sink` + `top` + `recent` slots; `top` of them filled with the best tokens of all between (per layer).

    recent counts the current chunk's own frames too.
    """

    sink: int
    top: int
    recent: int


class Retention(Protocol):
    """Which slots stay. Sizes in latent frames."""

    def check(self, chunk_frames: int) -> None:
        """Raise ValueError when the sizes cannot work with this chunk length."""
        ...

    def capacity(self, chunk_frames: int) -> int | None:
        """Slots that the cache needs, current chunk included; None: the whole video."""
        ...

    def role(self, frame: int) -> Literal["sink", "tail"]: ...

    def decide(self, slots: tuple[Slot, ...], chunk_frames: int) -> tuple[int, ...] | Compress:
        """At the start of a chunk: the indices of the past slots that stay, in order, or a compression."""
        ...


@runtime_checkable
class TokenRetention(Retention, Protocol):
    """A retention that may answer with Compress; fields as in compression.ParticipativeCompression."""

    @property
    def recent_frames(self) -> int: ...
    @property
    def queries(self) -> str: ...
    @property
    def scorer(self) -> Scorer: ...
    @property
    def per_head(self) -> bool: ...
    @property
    def reuse_limit(self) -> int | None: ...
    @property
    def every_pass(self) -> bool: ...


@dataclass(frozen=True)
class CachePolicy:
    """retention x alignment, under the name that tables show.

    alignment: a name from alignment.py ("absolute", "sink", "unified", "slot"), a dotted path to
    an Alignment of your own, or the object itself.
    """

    retention: Retention
    alignment: Alignment | str = "absolute"
    name: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.alignment, str):
            object.__setattr__(self, "alignment", find_alignment(self.alignment))

    @property
    def aligned(self) -> Alignment:
        assert not isinstance(self.alignment, str)
        return self.alignment

    def max_frames(self, chunk_frames: int) -> int | None:
        """Latent frames of the longest video, in whole chunks; None when there is no limit.

        The published models' rotary table has 1024 positions; whatever reads at absolute positions ends there.
        """
        capacity = self.retention.capacity(chunk_frames)
        if self.aligned.relative and capacity is not None:
            full = tuple(Slot(self.retention.role(f), f) for f in range(capacity))
            chooses = isinstance(self.retention.decide(full, chunk_frames), Compress)
            # Chosen tokens that keep their own frames fall ever further behind.
            if not (chooses and self.aligned.positions(Layout((Slot("top", None),), chunk_frames)) == [None]):
                return None
        return TABLE_FRAMES // chunk_frames * chunk_frames

    def check(self, chunk_frames: int, total_frames: int) -> None:
        """Raise ValueError, before any work, for sizes or a length that cannot work."""
        self.retention.check(chunk_frames)
        limit = self.max_frames(chunk_frames)
        if limit is not None and total_frames > limit:
            raise ValueError(
                f"{total_frames} latent frames need absolute temporal positions past the model's rotary table of "
                f"{TABLE_FRAMES}: with cache {self.name or 'policy'!r} the longest video is {limit} latent frames; "
                "policies that re-align positions have no limit (cache=deep_sink, cache=deep_forcing, or a window "
                "with cache.alignment=slot)"
            )


def find_alignment(name: str) -> Alignment:
    """The alignment called `name` (see CachePolicy). Raises ValueError that lists the known ones."""
    from deepforcing.cache import alignment

    module, _, attribute = name.rpartition(".")
    if module:
        try:
            found: Alignment | Callable[[], Alignment] = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise ValueError(f"cache.alignment={name!r} cannot be imported: {error}") from error
        made = found() if isinstance(found, type) else found
        if not (hasattr(made, "relative") and hasattr(made, "positions")):
            raise ValueError(f"cache.alignment={name!r} is no Alignment: it needs `relative` and `positions(layout)`")
        return made
    known: dict[str, Alignment] = alignment.NAMED
    if name not in known:
        raise ValueError(f"cache.alignment={name!r} is unknown; choose one of {', '.join(known)}")
    return known[name]
