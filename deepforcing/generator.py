"""From a cheap description to streaming pixels.

A `GeneratorSpec` is a frozen value: hashable, printable, checked before any weight is read. `.build(device)` loads the
weights and gives a `Generator`, whose `generate` yields pixel chunks as they are finished.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from deepforcing import backend, script
from deepforcing.cache.observe import Watch
from deepforcing.cache.policy import CachePolicy
from deepforcing.frames import OnTheWay, PixelChunk, handed_over, sent
from deepforcing.geometry import Geometry
from deepforcing.identity import plain
from deepforcing.limits import check_numbers
from deepforcing.lossy.exact import Exact, use
from deepforcing.rollout.chunkwise import Chunk
from deepforcing.rollout.noise import RELEASE_SEED, KeyedNoise, Noise
from deepforcing.rollout.rules import Chunkwise, Codec, Job, Rule
from deepforcing.rollout.schedule import Schedule
from deepforcing.stopwatch import Laps, Stopwatch
from deepforcing.wan.config import WanConfig
from deepforcing.wan.kernels import ATTENTION, AttentionKernel
from deepforcing.wan.transformer import Backend, CausalWan

if TYPE_CHECKING:
    from deepforcing.yuv import Frames

ENGINE = 1  # part of every run's identity: raise it when the same settings give other pixels than before
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
NOISES = ("keyed", "upstream", "release")


class Model(Codec, Protocol):
    """Loaded weights and what stands around them."""

    wan: CausalWan

    def embed(self, prompts: list[str]) -> Tensor:
        """Text embeddings [B, text_len, text_dim]."""
        ...


class ModelSpec(Protocol):
    """Which weights, without loading them."""

    @property
    def name(self) -> str: ...
    @property
    def config(self) -> WanConfig: ...
    @property
    def geometry(self) -> Geometry: ...
    @property
    def pixel_scale(self) -> int: ...
    @property
    def world(self) -> str | None: ...
    @property
    def train_frames(self) -> int: ...
    def check_prompt(self, prompt: str) -> None: ...
    def check(self) -> None:
        """Raise ValueError when the checkpoint is missing or is not this model's. Reads headers only."""
        ...

    def identity(self) -> dict[str, Any]:
        """What of the model changes pixels: name and sha256 of the checkpoint."""
        ...

    def decoding(self) -> dict[str, Any]:
        """What of the identity belongs to the decoder."""
        ...

    def decoders(
        self, device: torch.device, dtype: torch.dtype, compiled: bool = False
    ) -> Callable[[], Callable[[Tensor], Tensor]]:
        """A decoder for each video (Codec.decoder), without the transformer. compiled: as a compiled backend's."""
        ...

    def notes(self) -> list[str]:
        """What is to be told before a run, a line each."""
        ...

    def prepare(self, prompts: Sequence[str], device: torch.device) -> None:
        """What is done once for all prompts before `build`, such as running a large text encoder."""
        ...

    def build(self, device: torch.device, dtype: torch.dtype) -> Model: ...


@dataclass(frozen=True)
class GeneratorSpec:
    """A published rollout rule on a model under a cache policy. chunk_frames: latent frames per chunk.

    rule: how chunks follow each other (rollout/rules.py). backend: how passes are computed (backend.py);
    attention: by which of a GPU's kernels (wan/kernels.py). lossy: what is left out to be faster (lossy/exact.py).
    noise: "keyed" (a sample depends on nothing but its seed and prompt), or "upstream", the published systems' order of
    draws for one video, for comparing with them (see rollout/noise.py), or "release", the same from the seed of Deep
    Forcing's release: every prompt has the same noise. There a sample's seed k stands for the release's k-th process
    (it adds the process's number to its seed), so seed 0 gives the published videos' noise.
    """

    name: str
    model: ModelSpec
    cache: CachePolicy
    schedule: Schedule = field(default_factory=Schedule)
    chunk_frames: int = 3
    dtype: str = "float32"
    noise: str = "keyed"
    rule: Rule = field(default_factory=Chunkwise)
    backend: Backend = "plain"
    attention: AttentionKernel = "torch"
    lossy: Exact = field(default_factory=Exact)

    def __post_init__(self) -> None:
        if self.backend not in backend.BACKENDS:
            raise ValueError(f"backend={self.backend!r} must be one of {', '.join(backend.BACKENDS)}")
        if self.attention not in ATTENTION:
            raise ValueError(f"attention={self.attention!r} must be one of {', '.join(ATTENTION)}")
        if self.noise not in NOISES:
            raise ValueError(f"noise={self.noise!r} must be one of {', '.join(NOISES)}")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype={self.dtype!r} must be one of {', '.join(DTYPES)}")
        if self.chunk_frames < 1:
            raise ValueError(f"chunk_frames={self.chunk_frames} must be at least 1")
        for part in (self.chunk_frames, self.cache, self.rule, self.lossy):
            check_numbers(part, "chunk_frames")

    def latent_frames(self, seconds: float) -> int:
        return self.model.geometry.latent_frames(seconds, self.chunk_frames)

    def check_sizes(self, total_frames: int) -> None:
        """Rule, cache, model sizes and length. Raises ValueError."""
        self.rule.check(self.cache, self.schedule, self.chunk_frames, total_frames)
        self.cache.check_model(self.model.config, self.model.geometry.tokens_per_frame)
        self.lossy.check(self)
        if self.noise == "upstream" and self.rule.upstream_noise is None:
            raise ValueError(f"noise=upstream is not implemented for generator {self.name}; use noise=keyed")
        if self.noise == "release" and not isinstance(self.rule, Chunkwise):
            raise ValueError(
                f"noise=release is drawn chunk after chunk, as Deep Forcing's release does; generator {self.name} follows "
                "another order: use noise=keyed"
            )

    def check(self, total_frames: int) -> None:
        """Everything that can be known to fail before weights are loaded. Raises ValueError."""
        self.check_sizes(total_frames)
        self.model.check()

    def check_start(self) -> None:
        """Whether videos can begin with given frames at all (see clip.py for which). Raises ValueError."""
        if self.rule.refuses_start is not None:
            raise ValueError(
                f"generator {self.name} cannot start from given frames: {self.rule.refuses_start}; use a chunk-wise "
                "generator such as self_forcing or longlive"
            )

    def check_batch(self, batch: int) -> None:
        """Whether so many videos can share a pass. Raises ValueError."""
        if batch > 1 and self.noise != "keyed":
            raise ValueError(
                f"noise={self.noise} is drawn for one video at a time, so batch={batch} does not fit it: use batch=1 or "
                "noise=keyed"
            )
        if batch > 1 and self.lossy.alone:
            raise ValueError(
                f"lossy={self.lossy.name} decides for all videos of a pass, so batch={batch} does not fit it: use batch=1"
            )

    def check_device(self, device: torch.device) -> None:
        """Whether the backend and the lossy option can work there. Raises ValueError in one line."""
        backend.check(self.backend, device, DTYPES[self.dtype])
        self.lossy.check_device(device, DTYPES[self.dtype])

    def cues(self, prompt: str, total_frames: int) -> dict[int, str]:
        """The prompt, or those of a schedule (script.py), by the latent frame from which on each holds.

        Raises ValueError for a schedule that does not fit the video or the rule, and for prompts the model cannot draw.
        """
        cues = script.parse(prompt)
        if len(cues) > 1 and not self.rule.takes_schedules:
            raise ValueError(
                f"generator {self.name} denoises several chunks at once, so the prompt cannot change at a chunk: "
                "give it one prompt per video, or a chunk-wise generator such as longlive the schedule"
            )
        if len(cues) > 1:
            self.rule.check_schedule(self.cache, self.chunk_frames, total_frames)
        for cue in cues:
            self.model.check_prompt(cue.text)
        if any(cue.cut for cue in cues) and not getattr(self.cache.aligned, "cuts", False):
            raise ValueError(
                f"cache {self.cache.name or 'policy'!r} has no rule for a cut, [#]: leave it out, or use cache=infinity_rope"
            )
        return script.chunk_starts(cues, self.model.geometry, self.chunk_frames, total_frames)

    def cuts(self, prompt: str, total_frames: int) -> frozenset[int]:
        """The latent frames of `cues` at which the video cuts."""
        starts = self.cues(prompt, total_frames)
        return frozenset(start for start, cue in zip(starts, script.parse(prompt), strict=True) if cue.cut)

    def identity(self, total_frames: int, start_from: str | None = None, device: str = "cpu") -> dict[str, Any]:
        """What changes pixels, as plain JSON values; not names or places. start_from: sha256 of the given clip.

        device: its type; it counts only where the noise is drawn on it, and is then another noise altogether.
        """
        given: dict[str, Any] = {} if start_from is None else {"start_from": start_from}
        if self.noise != "keyed":
            given["noise_drawn_on"] = device
        if self.backend != "plain":
            given["backend"] = self.backend
        if self.attention != "torch":
            given["attention"] = self.attention
        if self.lossy != Exact():
            given["lossy"] = self.lossy
        return {
            "engine": ENGINE,
            "rule": plain(self.rule),
            "schedule": plain(self.schedule),
            "chunk_frames": self.chunk_frames,
            **{name: plain(part) for name, part in self.cache.identity().items()},
            "model": self.model.identity(),
            "dtype": self.dtype,
            "latent_frames": total_frames,
            "noise": self.noise,
            **{name: plain(part) for name, part in given.items()},
        }

    def build(self, device: torch.device) -> Generator:
        return Generator(self, self.model.build(device, DTYPES[self.dtype]), device)


class Generator:
    """A spec with its weights on a device."""

    def __init__(self, spec: GeneratorSpec, model: Model, device: torch.device) -> None:
        self.spec, self.model, self.device = spec, model, device
        use(model.wan, spec.lossy)
        backend.use(model.wan, spec.backend)
        vae = getattr(model, "vae", None)  # Wan's; other decoders are too small for a compiler
        if spec.backend in ("compiled", "graphs") and vae is not None:
            vae.compile()
        model.wan.kernels = replace(model.wan.kernels, attention=spec.attention)

    def generate(
        self,
        prompt: str,
        prompt_id: str,
        seed: int,
        total_frames: int,
        initial: Tensor | None = None,
        watch: Watch | None = None,
    ) -> Iterator[PixelChunk]:
        """One video, chunk by chunk; see generate_batch."""
        for (chunk,) in self.generate_batch([(prompt, prompt_id, seed)], total_frames, initial, watch):
            yield chunk

    @torch.inference_mode()
    def generate_batch(
        self,
        videos: Sequence[tuple[str, str, int]],
        total_frames: int,
        initial: Tensor | None = None,
        watch: Watch | None = None,
        goes_on: bool = False,
    ) -> Iterator[list[PixelChunk]]:
        """Several videos in one pass, chunk by chunk; memory does not grow with `total_frames` unless the policy keeps
        everything.

        videos: (prompt, prompt id, seed) of each; schedules must change their prompts at the same chunks. What a video shows
        depends on none of the others; its last bits may depend on how many they are. watch: an observer of every pass.
        initial: latents to begin with, [1 or B, n, C, Y, X], from `encode`, or, goes_on, from an earlier rollout; their chunks
        come first, decoded again, and count among total_frames; a prompt schedule's times count from their beginning.
        Raises NonFiniteError naming the chunk when the model produced NaN or Inf.
        """
        clock = Stopwatch(self.device)
        job = self.batch_job(videos, total_frames, clock, initial, watch)
        job = replace(job, steady=backend.steady(self.model.wan), goes_on=goes_on)
        if self.device.type == "cuda" and self.spec.rule.decodes_beside:
            job = replace(job, stream=torch.cuda.Stream(self.device))  # type: ignore[no-untyped-call]
        ahead: tuple[Chunk, OnTheWay, Laps] | None = None
        for chunk, pixels in self.spec.rule.generate(job):
            assert pixels is not None
            with torch.cuda.stream(job.stream):
                now = chunk, sent(pixels, chunk.latents), clock.take()
            if self.device.type != "cuda":
                yield handed_over(videos, *now)
                continue
            # The device has the next chunk to do before anybody waits for this one.
            if ahead is not None:
                yield handed_over(videos, *ahead)
            ahead = now
        if ahead is not None:
            yield handed_over(videos, *ahead)

    @torch.inference_mode()
    def encode(self, frames: Frames) -> Tensor:
        """A clip's frames, uint8 [4(n-1)+1, H, W, 3], as latents [1, n, C, Y, X] for `generate`."""
        pixels = torch.from_numpy(frames).permute(0, 3, 1, 2)[None].float() / 255
        return self.model.encode(pixels).to(self.device, DTYPES[self.spec.dtype])

    def job(
        self,
        prompt: str,
        prompt_id: str,
        seed: int,
        total_frames: int,
        clock: Stopwatch,
        initial: Tensor | None = None,
    ) -> Job:
        """One video as its rule sees it."""
        return self.batch_job([(prompt, prompt_id, seed)], total_frames, clock, initial)

    def batch_job(
        self,
        videos: Sequence[tuple[str, str, int]],
        total_frames: int,
        clock: Stopwatch,
        initial: Tensor | None = None,
        watch: Watch | None = None,
    ) -> Job:
        """Several videos as their rule sees them. See generate_batch. Raises ValueError for videos that cannot share a pass."""
        spec, wan, geometry, dtype = self.spec, self.model.wan, self.spec.model.geometry, DTYPES[self.spec.dtype]
        cues = [spec.cues(prompt, total_frames) for prompt, _, _ in videos]
        cuts = {spec.cuts(prompt, total_frames) for prompt, _, _ in videos}
        if len({tuple(starts) for starts in cues}) > 1 or len(cuts) > 1:
            raise ValueError("prompt schedules that change at different chunks cannot share a batch")
        texts = {
            start: wan.encode_text(self.model.embed([starts[start] for starts in cues]).to(self.device, dtype))
            for start in cues[0]
        }
        noise: Noise = KeyedNoise([(seed, prompt_id) for _, prompt_id, seed in videos], dtype, self.device)
        if spec.noise != "keyed" and spec.rule.upstream_noise is not None:
            spec.check_batch(len(videos))
            seed = videos[0][2]
            given = 0 if initial is None else initial.shape[1]
            seed += RELEASE_SEED if spec.noise == "release" else 0
            shape = (1, total_frames - given, wan.config.in_dim, geometry.latent_height, geometry.latent_width)
            noise = spec.rule.upstream_noise(seed, shape, given, spec.schedule, spec.chunk_frames, dtype, self.device)
        return Job(
            wan, self.model, texts, spec.cache, spec.schedule, spec.chunk_frames, total_frames, geometry,
            noise, dtype, self.device, clock.lap, None if initial is None else initial.expand(len(videos), -1, -1, -1, -1),
            cuts.pop(), watch, steps=spec.lossy.steps(wan), clean_pass=spec.lossy.cleans,
        )  # fmt: skip
