"""The heart: chunk-wise few-step generation with a KV cache (Self Forcing and its kin).

For every chunk: start from noise; at each level predict the clean chunk and, but for the last level, mix it with fresh
noise down to the next; then one clean pass at timestep 0 commits the chunk's keys and values to the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

from deepforcing.cache.passes import Cache, CacheMemory
from deepforcing.rollout.noise import Noise
from deepforcing.rollout.schedule import Schedule
from deepforcing.wan.transformer import CausalWan, Memory, TextMemory

Watch = Callable[[int, Tensor, Tensor], None]
"""Called after every pass with (first latent frame, timesteps [B, F], raw prediction)."""

Forward = Callable[[Tensor, Tensor, TextMemory, Memory], Tensor]

Steps = Callable[[Tensor, Tensor, TextMemory, CacheMemory, int], Tensor]
"""A denoising pass that is not the model's own: (x, t, text, memory, number of the step in its chunk) -> raw prediction."""

OnSwitch = Literal["nothing", "recache", "recache_sink"]
"""What happens to the cache when the prompt changes: it stays; all but the sink is computed again; the sink as well."""


@dataclass(frozen=True)
class Chunk:
    """One finished chunk. start: its first latent frame. latents: [B, F, C, Y, X]. tokens: keys attended per query,
    on average over layers and heads. stored: bytes that the cache holds for one video. made: on a GPU, the event after which
    the latents are there; the commit comes later."""

    start: int
    latents: Tensor
    tokens: float
    stored: int
    made: torch.cuda.Event | None = None


def made(latents: Tensor) -> torch.cuda.Event | None:
    """The moment on the GPU's current stream; None on a CPU."""
    if not latents.is_cuda:
        return None
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record()
    return event


def clean(model: CausalWan, noisy: Tensor, prediction: Tensor, sigma: float) -> Tensor:
    """x0 from the model's prediction; flow models in float64 (x0 = xt - sigma * flow), cast back."""
    if model.config.prediction == "x0":
        return prediction
    return (noisy.double() - sigma * prediction.double()).to(prediction.dtype)


def mix(x0: Tensor, noise: Tensor, sigma: float) -> Tensor:
    """(1 - sigma) * x0 + sigma * noise, in float32, in the noise's dtype."""
    return ((1 - sigma) * x0.float() + sigma * noise.float()).to(noise.dtype)


def pass_of(model: CausalWan, steady: Forward | None) -> Callable[[Tensor, Tensor, TextMemory, CacheMemory], Tensor]:
    """The model's forward, and the compiled one, where there is one, for the passes that it fits."""

    def run(x: Tensor, t: Tensor, text: TextMemory, memory: CacheMemory) -> Tensor:
        forward: Forward = model if steady is None or not memory.steady else steady
        return forward(x, t, text, memory)

    return run


@torch.no_grad()
def chunkwise(
    model: CausalWan,
    text: TextMemory,
    cache: Cache,
    schedule: Schedule,
    noise: Noise,
    total_frames: int,
    latent_size: tuple[int, int],
    initial: Tensor | None = None,
    watch: Watch | None = None,
    clock: Callable[[str], None] | None = None,
    switches: Mapping[int, TextMemory] = MappingProxyType({}),
    on_switch: OnSwitch = "nothing",
    steady: Forward | None = None,
    cuts: Container[int] = (),
    goes_on: bool = False,
    steps: Steps | None = None,
    clean_pass: bool = True,
) -> Iterator[Chunk]:
    """Generate `total_frames` latent frames, yielding each chunk once its commit pass has run.

    text: one row per video. latent_size: (Y, X). initial: given clean latents [B, F0, C, Y, X] to continue from (F0 a
    multiple of the chunk); they are committed chunk by chunk and yielded first, and count among total_frames. The schedule's
    list for the first chunk is for the first one made, as published. A policy that chooses tokens by queries sees given
    chunks in their clean pass only; one that keeps denoising gaps has them re-noised and denoised once more. goes_on: `initial`
    is what an earlier rollout made, first chunk and all, so that list is behind it.
    watch: observes every pass. clock: told "denoise" and "commit" when such a stretch ends (the bench measures there).
    switches: later prompts by the first latent frame of the chunk from which on each holds; what comes before is not
    re-noised or decoded again. on_switch: see OnSwitch; a recache counts as "denoise".
    cuts: those of the switches that follow a cut, for policies that have a rule for it.
    steady: the model's forward, compiled, for the passes that do the same at every chunk; None: the model for all.
    steps: the denoising passes of chunks that are made, where they are not the model's own (lossy/). clean_pass: False: the
    last denoising pass commits such a chunk, with the keys and values that it had then.
    The model sees float32 timesteps; everything else runs in its own dtype.
    """
    weight = model.patch_embedding.weight
    frames, batch = cache.chunk_frames, cache.batch
    shape = (batch, frames, model.config.in_dim, *latent_size)
    given = 0 if initial is None else initial.shape[1]
    if given % frames or total_frames % frames:
        raise ValueError(
            f"{given} given and {total_frames} total latent frames must be multiples of the chunk, {frames}"
        )

    def levels(first_chunk: bool) -> list[tuple[float, Tensor]]:
        times = schedule.timesteps_of(first_chunk)
        full = [torch.full((batch, frames), t, dtype=torch.float32, device=weight.device) for t in times]
        return list(zip(schedule.sigmas_of(first_chunk), full, strict=True))

    first_levels, later_levels = levels(True), levels(False)
    zero = torch.zeros((batch, frames), dtype=torch.float32, device=weight.device)
    late = [s for s in switches if s % frames or not 0 < s < total_frames]
    if late:
        raise ValueError(f"prompts change at latent frames {late}, which begin no later chunk of {frames}")

    forward = pass_of(model, steady)

    def run(start: int, x: Tensor, t: Tensor, memory: CacheMemory, step: int | None = None) -> Tensor:
        own = steps is None or step is None
        prediction = forward(x, t, text, memory) if own else steps(x, t, text, memory, step)  # type: ignore[misc, arg-type]
        if watch is not None:
            watch(start, t, prediction)
        return prediction

    gaps = cache.gaps
    recent = torch.empty((batch, 0, *shape[2:]), dtype=weight.dtype, device=weight.device)
    for start in range(0, total_frames, frames):
        if start in switches:
            text = switches[start]
            if on_switch != "nothing":
                again = cache.recompute(keep_sink=on_switch == "recache")
                past = recent[:, -len(again.frames) :]
                run(again.frames.start, past, zero[:, :1].expand(-1, past.shape[1]), again)
        cache.begin(start, switched=start in switches, cut=start in cuts)
        if initial is not None and start < given:
            x0 = initial[:, start : start + frames].to(weight.dtype)
            if gaps is not None:
                i = len(later_levels) - 1 - gaps.before_last
                sigma, t = later_levels[i]
                x = mix(x0, noise.renoise(start, i - 1, shape), sigma)
                gaps.tell(clean(model, x, run(start, x, t, cache.denoise(i)), sigma), x0)
        else:
            levels_here = first_levels if start == (0 if goes_on else given) else later_levels
            last = len(levels_here) - 1
            x = noise.initial(start, shape)
            for i, (sigma, t) in enumerate(levels_here):
                memory = cache.denoise(i) if i < last or clean_pass else cache.commit()
                x0 = clean(model, x, run(start, x, t, memory, i), sigma)
                if gaps is not None and i == last - gaps.before_last:
                    early = x0
                if i < last:
                    x = mix(x0, noise.renoise(start, i, shape), levels_here[i + 1][0])
            if gaps is not None:
                gaps.tell(early, x0)
        if clock is not None:
            clock("denoise")
        there = made(x0)
        if clean_pass or start < given:
            run(start, x0, zero, cache.commit())
        if switches and on_switch != "nothing":
            recent = torch.cat([recent, x0], 1)[:, -cache.capacity :]
        if clock is not None:
            clock("commit")
        yield Chunk(start, x0, cache.attended_tokens, cache.held // batch, there)
