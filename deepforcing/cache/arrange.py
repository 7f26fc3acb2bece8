"""Where slots lie in the buffers: pure bookkeeping in Python ints, once per chunk.

What denoising reads forms a prefix of the buffers, past and chunk together, so that a read is a slice. Slots that stay
keep their place where they can; the rest fills holes in temporal order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from deepforcing.cache.policy import Plan


@dataclass(frozen=True)
class Arrangement:
    """places: the buffer slot of every stored slot. extra: of every slot that only the commit reads. own: of the chunk.
    moves: (from, to) of whole slots, to be done all at once."""

    places: list[int]
    extra: list[int]
    own: list[int]
    moves: list[tuple[int, int]]


def arrange(
    stored: Sequence[int | None],
    reads: set[int],
    extra: Sequence[int],
    own_frames: int,
    capacity: int,
) -> Arrangement:
    """stored: where each stored slot lies now, None where its content is yet to be made. reads: indices of those that
    denoising reads. extra: where the slots lie that only the commit reads.
    """
    prefix = len(reads) + own_frames
    places: dict[int, int] = {
        i: w for i, w in enumerate(stored) if w is not None and (w < prefix) == (i in reads)
    }  # fmt: skip
    extra_places = [w if w >= prefix else None for w in extra]
    taken = {*places.values(), *(w for w in extra_places if w is not None)}
    inside, outside = free(range(prefix), taken), free(range(prefix, capacity), taken)
    for i in range(len(stored)):
        if i not in places:
            places[i] = next(inside if i in reads else outside)
    chunk = [next(inside) for _ in range(own_frames)]
    to_extra = [next(outside) if w is None else w for w in extra_places]
    moves = [(w, places[i]) for i, w in enumerate(stored) if w is not None and w != places[i]]
    moves += [(w, to) for w, to in zip(extra, to_extra, strict=True) if w != to]
    return Arrangement([places[i] for i in range(len(stored))], to_extra, chunk, moves)


def arrange_joint(
    stored: Sequence[int | None], extra: Sequence[int], own_frames: int, capacity: int, own: Sequence[int] | None = None
) -> Arrangement:
    """For a joint window, whose own keys and values are not stored and whose past is gathered: nothing need move.

    own: where its first chunk already lies, if it does."""
    taken = {*(w for w in stored if w is not None), *extra, *(own or ())}
    holes = free(range(capacity), taken)
    places = [next(holes) if w is None else w for w in stored]
    chunk = list(own) if own else [next(holes) for _ in range(own_frames)]
    return Arrangement(places, list(extra), chunk, [])


def check_plan(plan: Plan, name: str, held: int, own_frames: int, capacity: int) -> None:
    """A retention's mistakes, named; costs nothing beside a chunk. name: the retention's. held: slots that it was shown."""
    kept = [item for item in plan.stored if isinstance(item, int)]
    if kept != sorted(set(kept)) or not set(kept) <= set(range(held)):
        raise ValueError(f"{name}.plan stores {kept}: give ascending indices into the {held} slots")
    count = plan.count
    if count + own_frames > capacity:
        raise ValueError(
            f"{name}.plan keeps {count} slots, which with the chunk's {own_frames} exceed its capacity of {capacity}"
        )
    reads = list(range(count) if plan.reads is None else plan.reads)
    if reads != sorted(set(reads)) or not set(reads) <= set(range(count)):
        raise ValueError(f"{name}.plan reads {reads}: give ascending indices into the {count} slots it stores")
    if plan.sees is not None and len(plan.sees) != own_frames:
        raise ValueError(f"{name}.plan says what {len(plan.sees)} frames see; the chunk has {own_frames}")


def free(places: range, taken: set[int]) -> Iterator[int]:
    return iter([i for i in places if i not in taken])
