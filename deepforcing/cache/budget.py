"""A policy set to a budget: how many latent frames its denoising passes read.

Policies are only comparable at equal budgets. Every retention has its own rule, a method beside its sizes:

    def budget(self, frames: int, chunk_frames: int) -> dict[str, int]

says which of its keys, set to what, make every denoising pass of a long video read `frames` latent frames, the chunk
included; it keeps the shares that the parts have in the retention as it is, and raises ValueError where it
has no such keys. What it says is checked here against the plans themselves, so a rule cannot promise what it does not hold.

"Every pass", so the mean and the most are the same number: a policy that reads N and N + chunk in turn (Deep Forcing's preset
reads 16 and 19) would otherwise be above its budget half of the time, or below it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from deepforcing.cache.ahead import long_video, plans
from deepforcing.cache.policy import CachePolicy, Retention


def frames_read(retention: Retention, chunk_frames: int) -> tuple[int, ...]:
    """Latent frames that denoising passes of a long video come to read, the chunk included: the different numbers, ascending.
    Heads in bands: of all of their rules together."""
    if retention.capacity(chunk_frames) is None:
        raise ValueError("it reads the whole video")
    rules: tuple[Retention, ...] = getattr(retention, "rules", (retention,))
    return tuple(sorted({count for rule in rules for count in _counts(rule, chunk_frames)}))


def _counts(retention: Retention, chunk_frames: int) -> set[int]:
    every = [
        (plan.count if plan.reads is None else len(plan.reads)) + chunk_frames
        for _, plan in plans(retention, chunk_frames, 2 * long_video(retention, chunk_frames))
    ]
    return set(every[len(every) // 2 :])


def keys_at(policy: CachePolicy, frames: int, chunk_frames: int) -> dict[str, int]:
    """The retention's keys that differ from the policy's own and set it to a budget of `frames` latent frames.

    Raises ValueError with the reason where it has no rule, or none that fits.
    """
    rule: Callable[[int, int], dict[str, int]] | None = getattr(policy.retention, "budget", None)
    if rule is None:
        raise ValueError(f"{type(policy.retention).__name__} has no rule that sets it to a number of frames read")
    keys = rule(frames, chunk_frames)
    retention: Any = policy.retention
    sized: Retention = replace(retention, **keys)
    sized.check(chunk_frames)
    found = frames_read(sized, chunk_frames)
    if found != (frames,):
        raise ValueError(f"its passes would read {' and '.join(map(str, found))} latent frames, not {frames}")
    return {key: value for key, value in keys.items() if getattr(retention, key) != value}


def share(part: int, whole: int, frames: int) -> int:
    """`part` of `whole`, of so many frames; halves are rounded up."""
    return (2 * part * frames + whole) // (2 * whole)
