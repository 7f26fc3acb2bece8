"""What a retention will do in a long video, told by going through its plans without making one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from deepforcing.cache.policy import Alignment, Plan, Retention, Slot, View


def plans(retention: Retention, chunk_frames: int, frames: int) -> Iterator[tuple[View, Plan]]:
    """Chunk by chunk, of a video of so many latent frames. What a retention has noted of a real one is missing."""
    slots: tuple[Slot, ...] = ()
    for start in range(0, frames, chunk_frames):
        view = View(slots, start, frames=chunk_frames, chunk=chunk_frames)
        plan = retention.plan(view)
        yield view, plan
        slots = (*stored(view, plan), *(Slot(retention.role(f), f) for f in range(start, start + chunk_frames)))


def stored(view: View, plan: Plan) -> list[Slot]:
    return [s for item in plan.stored for s in ((view.slots[item],) if isinstance(item, int) else item.slots)]


def most_slots(retention: Retention, chunk_frames: int, total_frames: int, commit_frames: int | None) -> int:
    """Slots that a video of this length needs, current chunk included, and with frames that are dropped while a commit
    pass may still read them, which reads the newest `commit_frames`."""
    capacity, newest = retention.capacity(chunk_frames), commit_frames or 0
    if capacity is None:
        return total_frames
    if capacity < total_frames and not newest:
        return capacity
    dropped: list[int] = []
    most = min(capacity, total_frames)
    for view, plan in plans(retention, chunk_frames, min(total_frames, 3 * (capacity + newest) + chunk_frames)):
        for asked in (retention.plan(replace(view, switched=True)), plan):  # a prompt may change at any chunk
            kept = {item for item in asked.stored if isinstance(item, int)}
            gone = [s.frame for i, s in enumerate(view.slots) if i not in kept and s.frame is not None]
            still_read = [f for f in (*dropped, *gone) if f >= view.start + chunk_frames - newest]
            most = max(most, asked.count + len(still_read) + chunk_frames)
        dropped = still_read
    return most


def reads_all(retention: Retention, chunk_frames: int, total_frames: int) -> bool:
    """Whether denoising of a video of this length reads all that is stored."""
    every = plans(retention, chunk_frames, min(long_video(retention, chunk_frames), total_frames))
    return all(plan.reads is None for _, plan in every)


def makes_content(retention: Retention, chunk_frames: int, total_frames: int) -> bool:
    """Whether slots are ever made anew in a video of this length."""
    every = plans(retention, chunk_frames, min(long_video(retention, chunk_frames), total_frames))
    return any(not isinstance(item, int) for _, plan in every for item in plan.stored)


def waits_for_queries(retention: Retention, chunk_frames: int) -> bool:
    """Whether slots are ever made from what a chunk's first pass computes."""
    every = plans(retention, chunk_frames, long_video(retention, chunk_frames))
    return any(not isinstance(item, int) and item.waits for _, plan in every for item in plan.stored)


def check_positions(retention: Retention, alignment: Alignment, chunk_frames: int, total_frames: int) -> None:
    """Raise ValueError where a video of this length reads a slot that is no single frame and that the alignment gives no
    position. (The length also bounds the work: it is quadratic in a window, whatever number that is.)"""
    if retention.needs(chunk_frames).origins:  # its tokens then have frames of their own
        recent = getattr(retention, "recent_frames", chunk_frames)
        if recent < chunk_frames and hasattr(alignment, "token_shift"):
            raise ValueError(
                f"cache.alignment=one_shift: recent_frames={recent} must hold the chunk of {chunk_frames} latent frames"
            )
        return
    for view, plan in plans(retention, chunk_frames, min(long_video(retention, chunk_frames), total_frames)):
        slots = stored(view, plan)
        read = slots if plan.reads is None else [slots[i] for i in plan.reads]
        for slot, position in zip(read, alignment.positions(replace(view, slots=tuple(read))), strict=True):
            if slot.frame is None and position is None:
                raise ValueError(
                    f"cache.alignment: {type(alignment).__name__} gives {slot.role!r} slots no position, and they are no "
                    "single frames that had one: use cache.alignment=slot, which numbers all slots"
                )


def long_video(retention: Retention, chunk_frames: int) -> int:
    """Latent frames after which a retention does what it will go on doing."""
    return 2 * (retention.capacity(chunk_frames) or 0) + 4 * chunk_frames
