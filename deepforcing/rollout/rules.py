"""Rollout rules as values: how the chunks of one video are made, from a loaded model to pixels.

A rule says which lengths and cache policies it can work with before any weight is read. `Chunkwise` takes every policy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, get_args

import torch
from torch import Tensor

from deepforcing.cache.ahead import makes_content, reads_all
from deepforcing.cache.bands import BandedPolicy
from deepforcing.cache.observe import Watch
from deepforcing.cache.passes import Cache
from deepforcing.cache.policy import CachePolicy
from deepforcing.geometry import Geometry
from deepforcing.rollout.chunkwise import Chunk, Forward, OnSwitch, Steps, chunkwise
from deepforcing.rollout.noise import Noise, UpstreamNoise
from deepforcing.rollout.rolling import UpstreamRollingNoise, check_length, rolling
from deepforcing.rollout.schedule import Schedule
from deepforcing.wan.kernels import computed
from deepforcing.wan.rope import TABLE_FRAMES
from deepforcing.wan.transformer import CausalWan, TextMemory


class Codec(Protocol):
    """Latents <-> pixels in 0..1."""

    def decoder(self) -> Callable[[Tensor], Tensor]:
        """A decoder for one video, fed chunk after chunk: latents [B, F, C, Y, X] -> pixels [B, N, 3, H, W]."""
        ...

    def encode(self, pixels: Tensor) -> Tensor:
        """A video's first frames, [B, 4(n-1)+1, 3, H, W], as latents [B, n, C, Y, X]."""
        ...


@dataclass(frozen=True, eq=False)
class Job:
    """One batch of videos to make. texts: prompts, one row per video, by the latent frame of the chunk from which on each
    holds, 0 among them.

    codec: None gives latents alone, for timing. clock: told "denoise", "commit", "decode" when such a stretch ends, and
    "wait" when a decoder's stream begins after one in which it had nothing to do. stream: a CUDA stream to decode on, beside
    the denoising; None: decoding follows it. steady, steps, clean_pass: see chunkwise.
    initial: given latents [B, n, C, Y, X] that the videos begin with, whole chunks of them; goes_on: an earlier rollout made
    them. cuts: which of the later prompts follow a cut. watch: an observer of every pass (cache/observe.py).
    """

    model: CausalWan
    codec: Codec | None
    texts: Mapping[int, TextMemory]
    policy: CachePolicy
    schedule: Schedule
    chunk_frames: int
    total_frames: int
    geometry: Geometry
    noise: Noise
    dtype: torch.dtype
    device: torch.device
    clock: Callable[[str], None]
    initial: Tensor | None = None
    cuts: frozenset[int] = frozenset()
    watch: Watch | None = None
    goes_on: bool = False
    stream: torch.cuda.Stream | None = None
    steady: Forward | None = None
    steps: Steps | None = None
    clean_pass: bool = True

    @property
    def batch(self) -> int:
        return self.texts[0].keys[0].shape[0]

    @property
    def latent_size(self) -> tuple[int, int]:
        return self.geometry.latent_height, self.geometry.latent_width

    def new_cache(self, total_frames: int) -> Cache:
        return self.policy.new_cache(
            self.model.config,
            self.geometry.grid,
            self.chunk_frames,
            total_frames,
            self.batch,
            self.dtype,
            self.device,
            self.watch,
        )

    def decoded(self, chunks: Iterable[Chunk]) -> Iterator[tuple[Chunk, Tensor | None]]:
        """Each chunk with its pixels [B, N, 3, H, W], float32, not clamped, where and on the stream that they were made.
        Every video has a decoder of its own: its memory does not grow with the batch, and its pixels do not depend on it."""
        decoders = [] if self.codec is None else [self.codec.decoder() for _ in range(self.batch)]
        for chunk in computed(chunks, self.model.kernels):
            one = chunk.latents.chunk(self.batch)
            with self.beside(chunk):
                pixels = torch.cat([d(x).float() for d, x in zip(decoders, one, strict=True)]) if decoders else None
                self.clock("decode")
            yield chunk, pixels

    @contextmanager
    def beside(self, chunk: Chunk) -> Iterator[None]:
        """On the decoder's stream, as soon as the chunk's latents are made; its commit pass may still run."""
        if self.stream is None:
            yield
            return
        with torch.cuda.stream(self.stream):
            if chunk.made is not None:
                self.stream.wait_event(chunk.made)
            chunk.latents.record_stream(self.stream)
            self.clock("wait")
            yield


UpstreamNoiseOf = Callable[[int, tuple[int, ...], int, Schedule, int, torch.dtype, torch.device], Noise]
"""(seed, shape [1, frames to make, C, Y, X], given frames before them, schedule, chunk_frames, dtype, device) -> a
published system's draws for one video."""


class Rule(Protocol):
    @property
    def takes_schedules(self) -> bool:
        """Whether the prompt may change within a video."""
        ...

    @property
    def refuses_start(self) -> str | None:
        """Why a video cannot begin with given frames; None: it can, with whole chunks."""
        ...

    @property
    def one_decoder(self) -> bool:
        """Whether the chunks' latents, decoded one after the other by one decoder, are the video."""
        return True

    @property
    def decodes_beside(self) -> bool:
        """Whether decoding may run on a stream of its own: whether nothing that is denoised waits for pixels."""
        return True

    def check(self, policy: CachePolicy, schedule: Schedule, chunk_frames: int, total_frames: int) -> None:
        """Raise ValueError for a policy or length that this rule cannot work with."""
        ...

    def check_schedule(self, policy: CachePolicy, chunk_frames: int, total_frames: int) -> None:
        """Raise ValueError for a policy with which the prompt cannot change as this rule would have it."""
        return None

    def cached(self, policy: CachePolicy, chunk_frames: int) -> CachePolicy:
        """The policy as this rule runs it."""
        return policy

    def together(self, schedule: Schedule) -> int:
        """Chunks that are denoised in one pass."""
        return 1

    @property
    def upstream_noise(self) -> UpstreamNoiseOf | None:
        """The published order of draws for one video; None where it is not implemented."""
        ...

    def generate(self, job: Job) -> Iterator[tuple[Chunk, Tensor | None]]:
        """Finished chunks and their pixels (see Job.decoded)."""
        ...


@dataclass(frozen=True)
class Chunkwise(Rule):
    """Chunk after chunk (Self Forcing, Causal Forcing, LongLive). on_switch: what a change of prompt does to the cache."""

    on_switch: OnSwitch = "nothing"
    takes_schedules: ClassVar[bool] = True
    refuses_start: ClassVar[None] = None

    def __post_init__(self) -> None:
        if self.on_switch not in get_args(OnSwitch):
            raise ValueError(f"on_switch={self.on_switch!r} must be one of {', '.join(get_args(OnSwitch))}")

    def check(self, policy: CachePolicy, schedule: Schedule, chunk_frames: int, total_frames: int) -> None:
        policy.check(chunk_frames, total_frames)
        gap, steps = policy.retention.needs(chunk_frames).gap, schedule.fewest_steps
        if gap is not None and steps <= gap:
            raise ValueError(
                f"cache {policy.name or 'policy'!r} chooses tokens by their clean prediction before_last={gap} denoising "
                f"step(s) before the last, and this generator makes chunks in {steps}: use one of more steps, or another scorer"
            )

    def check_schedule(self, policy: CachePolicy, chunk_frames: int, total_frames: int) -> None:
        if self.on_switch != "nothing" and not policy.recomputes:
            raise ValueError(
                f"generator.on_switch={self.on_switch} computes the cached frames again, which cache "
                f"{policy.name or 'policy'!r} has no rule for: with a schedule use generator.on_switch=nothing, which leaves "
                "the cache as it is"
            )
        if self.on_switch != "nothing" and not reads_all(policy.retention, chunk_frames, total_frames):
            raise ValueError(
                f"generator.on_switch={self.on_switch} computes the cached frames again, but cache "
                f"{policy.name or 'policy'!r} stores more than it reads: with a schedule use generator.on_switch=nothing, "
                "which leaves the cache as it is"
            )

    @property
    def upstream_noise(self) -> UpstreamNoiseOf:
        return lambda seed, shape, given, schedule, chunk_frames, dtype, device: UpstreamNoise(
            seed, shape, given, dtype, device
        )

    def generate(self, job: Job) -> Iterator[tuple[Chunk, Tensor | None]]:
        text, later = job.texts[0], {start: text for start, text in job.texts.items() if start}
        return job.decoded(
            chunkwise(
                job.model,
                text,
                job.new_cache(job.total_frames),
                job.schedule,
                job.noise,
                job.total_frames,
                job.latent_size,
                job.initial,
                clock=job.clock,
                switches=later,
                on_switch=self.on_switch,
                steady=job.steady,
                cuts=job.cuts,
                goes_on=job.goes_on,
                steps=job.steps,
                clean_pass=job.clean_pass,
            )
        )


@dataclass(frozen=True)
class Rolling(Rule):
    """Joint rolling window (Rolling Forcing); as many chunks as the schedule has steps. Takes policies by whole frames.

    Ends with the published rotary table of 1024 positions, under every alignment: window and clean pass are absolute.
    """

    takes_schedules: ClassVar[bool] = False
    refuses_start: ClassVar[str] = "its window denoises several chunks at once from the first pass on"

    def check(self, policy: CachePolicy, schedule: Schedule, chunk_frames: int, total_frames: int) -> None:
        window, retention = len(schedule.steps) * chunk_frames, policy.retention
        if isinstance(policy, BandedPolicy):
            raise ValueError(
                f"cache {policy.name or 'policy'!r} keeps bands of heads, chunk by chunk; a rolling window denoises several "
                "chunks at once: use cache=rolling_forcing or another window with or without a sink"
            )
        if retention.needs(chunk_frames).origins:
            raise ValueError(
                f"cache {policy.name or 'policy'!r} chooses single tokens, once per chunk; a rolling window denoises several "
                "chunks at once and reads whole frames: use cache=rolling_forcing or another window with or without a sink"
            )
        retention.check(chunk_frames)
        if makes_content(retention, chunk_frames, total_frames):
            raise ValueError(
                f"cache {policy.name or 'policy'!r} makes slots anew at the start of each chunk; a rolling window denoises "
                "several chunks at once and reads whole frames: use cache=rolling_forcing or another window"
            )
        try:
            retention.check(window)
        except ValueError as error:
            raise ValueError(f"a rolling window denoises {window} latent frames at once: {error}") from None
        check_length(schedule, chunk_frames, total_frames)
        limit = TABLE_FRAMES // chunk_frames * chunk_frames
        if total_frames > limit:
            raise ValueError(
                f"{total_frames} latent frames need positions past the model's rotary table of {TABLE_FRAMES}: "
                f"the longest video of a rolling window is {limit} latent frames"
            )

    def cached(self, policy: CachePolicy, chunk_frames: int) -> CachePolicy:
        """The clean pass reads the window's newest frames at their own positions, whatever denoising reads."""
        if policy.commit_frames is not None:
            return policy
        return replace(policy, commit_frames=policy.retention.capacity(chunk_frames))

    def together(self, schedule: Schedule) -> int:
        return len(schedule.steps)

    @property
    def upstream_noise(self) -> UpstreamNoiseOf:
        return lambda seed, shape, given, schedule, chunk_frames, dtype, device: UpstreamRollingNoise(
            seed, shape, len(schedule.steps), chunk_frames, dtype, device
        )

    def generate(self, job: Job) -> Iterator[tuple[Chunk, Tensor | None]]:
        cache = replace(job, policy=self.cached(job.policy, job.chunk_frames)).new_cache(job.total_frames)
        return job.decoded(
            rolling(
                job.model,
                job.texts[0],
                cache,
                job.schedule,
                job.noise,
                job.total_frames,
                job.latent_size,
                job.clock,
                job.steady,
            )
        )
