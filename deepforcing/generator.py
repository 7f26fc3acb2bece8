"""From a cheap description to streaming pixels.

A `GeneratorSpec` is a frozen value: hashable, printable, checked before any weight is read. `.build(device)` loads the
weights and gives a `Generator`, whose `generate` yields pixel chunks as they are finished.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from deepforcing.cache.kv import KVCache
from deepforcing.cache.policy import CachePolicy
from deepforcing.geometry import Geometry
from deepforcing.rollout.chunkwise import chunkwise
from deepforcing.rollout.noise import KeyedNoise, Noise, UpstreamNoise
from deepforcing.rollout.schedule import Schedule
from deepforcing.wan.transformer import CausalWan

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Model(Protocol):
    """Loaded weights and what stands around them."""

    wan: CausalWan

    def embed(self, prompts: list[str]) -> Tensor:
        """Text embeddings [B, text_len, text_dim]."""
        ...

    def decoder(self) -> Callable[[Tensor], Tensor]:
        """A decoder for one video, fed chunk after chunk: latents [B, F, C, Y, X] -> pixels [B, N, 3, H, W], 0..1."""
        ...


class ModelSpec(Protocol):
    """Which weights, without loading them."""

    @property
    def name(self) -> str: ...
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

    def prepare(self, prompts: Sequence[str], device: torch.device) -> None:
        """What is done once for all prompts before `build`, such as running a large text encoder."""
        ...

    def build(self, device: torch.device, dtype: torch.dtype) -> Model: ...


@dataclass(frozen=True)
class PixelChunk:
    """pixels: [N, 3, H, W] float32 in 0..1 on the CPU. seconds: of "denoise", "commit", "decode"."""

    start: int
    pixels: Tensor
    tokens: int
    seconds: dict[str, float]


class NonFiniteError(ArithmeticError):
    """A chunk holds NaN or Inf."""


@dataclass(frozen=True)
class GeneratorSpec:
    """A published rollout rule on a model under a cache policy. chunk_frames: latent frames per chunk.

    noise: "keyed" (a sample depends on nothing but its seed and prompt), or "upstream", the published systems' order of
    draws for one video, for comparing with them (see rollout/noise.py).
    """

    name: str
    model: ModelSpec
    cache: CachePolicy
    schedule: Schedule = field(default_factory=Schedule)
    chunk_frames: int = 3
    dtype: str = "float32"
    noise: str = "keyed"

    def __post_init__(self) -> None:
        if self.noise not in ("keyed", "upstream"):
            raise ValueError(f"noise={self.noise!r} must be 'keyed' or 'upstream'")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype={self.dtype!r} must be one of {', '.join(DTYPES)}")
        if self.chunk_frames < 1:
            raise ValueError(f"chunk_frames={self.chunk_frames} must be at least 1")

    def latent_frames(self, seconds: float) -> int:
        return self.model.geometry.latent_frames(seconds, self.chunk_frames)

    def check(self, total_frames: int) -> None:
        """Everything that can be known to fail before weights are loaded. Raises ValueError."""
        self.cache.check(self.chunk_frames, total_frames)
        self.model.check()

    def identity(self, total_frames: int) -> dict[str, Any]:
        """What changes pixels, as plain JSON values; not device, names or places."""
        return {
            "rule": "chunkwise",
            "schedule": plain(self.schedule),
            "chunk_frames": self.chunk_frames,
            "retention": plain(self.cache.retention),
            "alignment": plain(self.cache.alignment),
            "model": self.model.identity(),
            "dtype": self.dtype,
            "latent_frames": total_frames,
            "noise": self.noise,
        }

    def build(self, device: torch.device) -> Generator:
        return Generator(self, self.model.build(device, DTYPES[self.dtype]), device)


class Generator:
    """A spec with its weights on a device."""

    def __init__(self, spec: GeneratorSpec, model: Model, device: torch.device) -> None:
        self.spec, self.model, self.device = spec, model, device

    @torch.inference_mode()
    def generate(self, prompt: str, prompt_id: str, seed: int, total_frames: int) -> Iterator[PixelChunk]:
        """One video, chunk by chunk; memory does not grow with `total_frames` unless the policy keeps everything.

        Raises NonFiniteError naming the chunk when the model produced NaN or Inf.
        """
        spec, wan = self.spec, self.model.wan
        dtype = DTYPES[spec.dtype]
        geometry = spec.model.geometry
        cache = KVCache(spec.cache, wan.config, geometry.grid, spec.chunk_frames, total_frames, 1, dtype, self.device)
        text = wan.encode_text(self.model.embed([prompt]).to(self.device, dtype))
        size = (geometry.latent_height, geometry.latent_width)
        noise: Noise = KeyedNoise([(seed, prompt_id)], dtype, self.device)
        if spec.noise == "upstream":
            noise = UpstreamNoise(seed, (1, total_frames, wan.config.in_dim, *size), 0, dtype, self.device)
        decode = self.model.decoder()
        clock = Stopwatch(self.device)
        for chunk in chunkwise(wan, text, cache, spec.schedule, noise, total_frames, size, clock=clock.lap):
            pixels = decode(chunk.latents)[0].float().cpu()
            clock.lap("decode")
            if not torch.isfinite(pixels).all():
                raise NonFiniteError(
                    f"chunk at latent frame {chunk.start} holds NaN or Inf (prompt {prompt_id}, seed {seed}); "
                    "the checkpoint or the dtype is at fault: try dtype=float32 or another checkpoint"
                )
            yield PixelChunk(chunk.start, pixels.clamp(0, 1), chunk.tokens, clock.take())


class Stopwatch:
    """Seconds per named stretch. On a GPU each lap waits for the device, once per stretch and never inside a pass."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.laps: dict[str, float] = {}
        self.last = time.perf_counter()

    def lap(self, name: str) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        self.laps[name] = self.laps.get(name, 0.0) + now - self.last
        self.last = now

    def take(self) -> dict[str, float]:
        """The laps since the last call; the time until the next lap counts from its return."""
        laps, self.laps = self.laps, {}
        self.last = time.perf_counter()
        return laps


def plain(value: Any) -> Any:
    """A frozen dataclass as JSON values, with its class name, so that two classes with equal fields differ."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"class": type(value).__qualname__, **fields}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    return repr(value)
