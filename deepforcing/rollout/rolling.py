"""Joint rolling window with progressive noise (Rolling Forcing): one pass denoises as many chunks as there are steps.

The window holds a chunk at every noise level, the oldest the cleanest. Every pass brings each of them down one level; then
the oldest is finished, a clean pass commits it, and a chunk of pure noise enters at the other end. At both ends of the
video the window is shorter. Steady state: one pass over the window and one over a chunk for every chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from deepforcing.cache.passes import Cache
from deepforcing.rollout.chunkwise import Chunk, Forward, clean, made, mix, pass_of
from deepforcing.rollout.noise import Noise, UpstreamNoise
from deepforcing.rollout.schedule import Schedule
from deepforcing.wan.transformer import CausalWan, TextMemory


def check_length(schedule: Schedule, chunk_frames: int, total_frames: int) -> None:
    """Raise ValueError for a video that is shorter than the window. (The original repeats its last steps there.)"""
    window = len(schedule.steps)
    if total_frames < window * chunk_frames:
        raise ValueError(
            f"{total_frames} latent frames are less than one rolling window: with {window} steps it spans {window} chunks, "
            f"so the shortest video is {window * chunk_frames} latent frames"
        )


@torch.no_grad()
def rolling(
    model: CausalWan,
    text: TextMemory,
    cache: Cache,
    schedule: Schedule,
    noise: Noise,
    total_frames: int,
    latent_size: tuple[int, int],
    clock: Callable[[str], None] | None = None,
    steady: Forward | None = None,
) -> Iterator[Chunk]:
    """Generate `total_frames` latent frames, yielding each chunk once its commit pass has run.

    The arguments are chunkwise()'s. Window w holds the chunks b = w - steps + 1 ... w that exist; chunk b is at step w - b.
    """
    weight = model.patch_embedding.weight
    frames, batch = cache.chunk_frames, cache.batch
    check_length(schedule, frames, total_frames)
    if total_frames % frames:
        raise ValueError(f"{total_frames} total latent frames must be a multiple of the chunk, {frames}")
    chunks, steps = total_frames // frames, len(schedule.steps)
    shape = (batch, frames, model.config.in_dim, *latent_size)
    sigmas = schedule.sigmas
    times = [torch.full((batch, frames), t, dtype=torch.float32, device=weight.device) for t in schedule.timesteps]
    zero = torch.zeros_like(times[0])

    run = pass_of(model, steady)
    noisy: dict[int, Tensor] = {}  # chunks in the window
    for w in range(chunks + steps - 1):
        window = range(max(0, w - steps + 1), min(w, chunks - 1) + 1)
        if w < chunks:
            noisy[w] = noise.initial(w * frames, shape)
        first = window.start
        cache.begin(first * frames, len(window) * frames)
        tokens = cache.attended_tokens
        noisy_window = torch.cat([noisy[b] for b in window], 1)
        prediction = run(noisy_window, torch.cat([times[w - b] for b in window], 1), text, cache.denoise())
        x0 = {
            b: clean(model, noisy[b], part, sigmas[w - b])
            for b, part in zip(window, prediction.chunk(len(window), 1), strict=True)
        }
        for b in window:
            if w - b + 1 < steps:
                noisy[b] = mix(x0[b], noise.renoise(b * frames, w - b, shape), sigmas[w - b + 1])
        if clock is not None:
            clock("denoise")
        there = made(x0[first])
        # The first chunk is in every window until it is finished, and is committed as often, as published.
        run(x0[first], zero, text, cache.commit())
        if clock is not None:
            clock("commit")
        if w - first + 1 == steps:
            del noisy[first]
            yield Chunk(first * frames, x0[first], tokens, cache.held // batch, there)


class UpstreamRollingNoise(UpstreamNoise):
    """The published order: for every chunk that stays, a draw for the whole window, of which its own part is used."""

    def __init__(
        self,
        seed: int,
        shape: tuple[int, ...],
        steps: int,
        chunk_frames: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(seed, shape, 0, dtype, device)
        self.steps, self.chunks = steps, shape[1] // chunk_frames

    def renoise(self, start: int, step: int, shape: tuple[int, ...]) -> Tensor:
        frames = shape[1]
        chunk = start // frames
        w = chunk + step
        window = range(max(0, w - self.steps + 1), min(w, self.chunks - 1) + 1)
        drawn = super().renoise(start, step, (shape[0], len(window) * frames, *shape[2:]))
        return drawn[:, (chunk - window.start) * frames :][:, :frames]
