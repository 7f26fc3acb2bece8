"""CausVid's long videos: rollouts of 21 latent frames, each beginning with the end of the one before.

Inside a rollout every chunk attends to all before it; positions restart with each rollout, so nothing drops out of a cache
and there is no length limit. A rollout begins with `overlap` given latent frames: the last of the one before, of which the
first is encoded again from its one pixel frame, because a codec treats a video's first frame by itself.
Source: CausVid. Shift 8; 3 steps that are not warped ([1000, 757, 522]), or 4 warped ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from deepforcing.cache.passes import Cache
from deepforcing.cache.policy import CachePolicy
from deepforcing.cache.retention import KeepAll, SinkWindow
from deepforcing.generator import GeneratorSpec, ModelSpec
from deepforcing.rollout.chunkwise import Chunk, chunkwise
from deepforcing.rollout.noise import Noise
from deepforcing.rollout.rules import Job, Rule
from deepforcing.rollout.schedule import Schedule
from deepforcing.wan.kernels import computed
from deepforcing.wan.transformer import CausalWan, TextMemory


@torch.no_grad()
def overlapping(
    model: CausalWan,
    texts: Mapping[int, TextMemory],
    new_cache: Callable[[int], Cache],
    schedule: Schedule,
    noise: Callable[[int], Noise],
    total_frames: int,
    latent_size: tuple[int, int],
    first_latent: Callable[[int], Tensor],
    rollout_frames: int = 21,
    overlap: int = 3,
    clock: Callable[[str], None] | None = None,
) -> Iterator[tuple[int, Chunk]]:
    """Yields (rollout, chunk) with frames counted from the rollout's beginning, the given chunks of its overlap included.

    texts: prompts by the latent frame of the whole video from which on each holds. new_cache: an empty cache for so many
    frames. noise: of a rollout. first_latent: [B, 1, C, Y, X], the first given frame of rollout 1, 2, ...
    """
    stride = rollout_frames - overlap
    tail = torch.empty(0)
    for r, begin in enumerate(range(0, max(total_frames - overlap, 1), stride)):
        here = {max(0, frame - begin): text for frame, text in sorted(texts.items()) if frame < begin + rollout_frames}
        length = min(rollout_frames, total_frames - begin)
        latents = []
        for chunk in chunkwise(
            model,
            here.pop(0),
            new_cache(length),
            schedule,
            noise(r),
            length,
            latent_size,
            None if r == 0 else torch.cat([first_latent(r).to(tail), tail[:, 1:]], 1),
            clock=clock,
            switches={frame: text for frame, text in here.items() if frame < length},
        ):
            latents.append(chunk.latents)
            yield r, chunk
        tail = torch.cat(latents, 1)[:, -overlap:]


class From:
    """The noise of a rollout that begins at latent frame `begin` of the video."""

    def __init__(self, noise: Noise, begin: int) -> None:
        self.noise, self.begin = noise, begin

    def initial(self, start: int, shape: tuple[int, ...]) -> Tensor:
        return self.noise.initial(self.begin + start, shape)

    def renoise(self, start: int, step: int, shape: tuple[int, ...]) -> Tensor:
        return self.noise.renoise(self.begin + start, step, shape)


@dataclass(frozen=True)
class Overlapping(Rule):
    """The rule. Sizes in latent frames.

    As published, but for the end: the last rollout is cut to the wanted length and keeps its overlap, of which the
    original drops the pixels there too.
    """

    rollout_frames: int = 21
    overlap: int = 3
    takes_schedules: ClassVar[bool] = True
    decodes_beside: ClassVar[bool] = False
    upstream_noise: ClassVar[None] = None
    one_decoder: ClassVar[bool] = False
    refuses_start: ClassVar[str] = "its rollouts overlap, and each begins with the end of one that it made itself"

    def check(self, policy: CachePolicy, schedule: Schedule, chunk_frames: int, total_frames: int) -> None:
        """Raises ValueError."""
        if not isinstance(policy.retention, KeepAll):
            raise ValueError(
                f"causvid starts anew every {self.rollout_frames} latent frames and drops nothing in between, so cache "
                f"{policy.name or 'policy'!r} has nothing to decide: use cache=keep_all, or give these weights to a "
                "chunk-wise generator such as generator=self_forcing"
            )
        for name, size in (("rollout_frames", self.rollout_frames), ("overlap", self.overlap)):
            if size < 1 or size % chunk_frames:
                raise ValueError(
                    f"{name}={size} must be a positive multiple of the chunk, {chunk_frames} latent frames"
                )
        if self.overlap >= self.rollout_frames:
            raise ValueError(f"overlap={self.overlap} must be below rollout_frames={self.rollout_frames}")
        policy.check(chunk_frames, min(total_frames, self.rollout_frames))

    def cached(self, policy: CachePolicy, chunk_frames: int) -> CachePolicy:
        """Every rollout has a cache of its own, which holds no more than the rollout."""
        return replace(policy, retention=SinkWindow(self.rollout_frames))

    def generate(self, job: Job) -> Iterator[tuple[Chunk, Tensor | None]]:
        """Every rollout has a decoder of its own. Where two overlap, the later one's pixels are shown."""
        stride = self.rollout_frames - self.overlap
        ending: list[Tensor] = []  # latents, then pixels, of a rollout's overlap with the next
        pixels_of: list[Tensor] = []
        lead = (
            job.geometry.temporal_stride - 1
        )  # pixel frames of the overlap's first latent that stay the earlier rollout's

        def first_latent(rollout: int) -> Tensor:
            if job.codec is None:
                return ending[0][:, :1]
            return job.codec.encode(pixels_of[0][:, lead : lead + 1].clamp(0, 1)).to(job.dtype)

        decode: Callable[[Tensor], Tensor] | None = None
        carried: Tensor | None = None
        made = overlapping(
            job.model,
            job.texts,
            job.new_cache,
            job.schedule,
            lambda r: From(job.noise, r * stride),
            job.total_frames,
            job.latent_size,
            first_latent,
            self.rollout_frames,
            self.overlap,
            job.clock,
        )
        for r, chunk in computed(made, job.model.kernels):
            if chunk.start == 0:
                carried = pixels_of[0][:, :lead] if pixels_of else None
                decode = None if job.codec is None else job.codec.decoder()
                ending, pixels_of = [], []
            pixels = None if decode is None else decode(chunk.latents).float()
            job.clock("decode")  # on the denoising's stream: the next rollout begins with an encoded frame of this one
            if chunk.start >= stride and r * stride + self.rollout_frames < job.total_frames:
                ending.append(chunk.latents)
                if pixels is not None:
                    pixels_of.append(pixels)
                continue
            if pixels is not None:
                pixels = pixels if carried is None else torch.cat([carried, pixels], 1)
                carried = None
            yield replace(chunk, start=r * stride + chunk.start), pixels


def causvid(
    model: ModelSpec,
    cache: CachePolicy,
    name: str = "causvid",
    chunk_frames: int = 3,
    steps: tuple[int, ...] = (1000, 757, 522),
    warp: bool = False,
    rollout_frames: int = 21,
    overlap: int = 3,
    dtype: str = "float32",
    noise: str = "keyed",
) -> GeneratorSpec:
    """The published inference rule; cache must keep everything."""
    schedule = Schedule(tuple(steps), 8.0, warp)
    return GeneratorSpec(name, model, cache, schedule, chunk_frames, dtype, noise, Overlapping(rollout_frames, overlap))
