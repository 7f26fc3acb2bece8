"""How much GPU memory a rollout will take, before it begins, and what would fit if it does not.

Estimates in bytes from sizes alone. Weights and the KV cache are exact; activations are the largest moment of a block and of
the VAE's last stage, from counting tensors on the meta device; a tenth is added for the allocator.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from deepforcing.generator import DTYPES, GeneratorSpec
from deepforcing.geometry import Geometry
from deepforcing.wan.config import WanConfig
from deepforcing.wan.model import NONE, VAE_DTYPES, WanSpec, encoder_bytes
from deepforcing.wan.taehv import DTYPES as TAEHV_DTYPES
from deepforcing.wan.taehv import TaehvDecoder
from deepforcing.wan.transformer import CausalWan

GB = 1e9
ALLOCATOR = 1.1
CONTEXT = int(0.6 * GB)  # CUDA's own
VAE_PARAMETERS = 127e6  # at width 96; grows with the width squared
VAE_FRAME_COPIES = (
    52  # feature maps of full size and width alive at once; counted on meta tensors: 50.9, 24.6 of them kept
)
TAEHV_FRAME_COPIES = 640  # likewise, maps of one channel: 637.5


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes on the device. vae: that of decoding, and the VAE's weights where it only encodes; taehv: of the tiny decoder.
    encoder: the text encoder's, gone before the rest comes, on the CPU where it does not fit."""

    weights: int
    cache: int
    activations: int
    vae: int
    encoder: int = 0
    taehv: int = 0

    @property
    def peak(self) -> int:
        return int((self.weights + self.cache + self.activations + self.vae + self.taehv) * ALLOCATOR) + CONTEXT

    def __str__(self) -> str:
        parts = {
            "weights": self.weights,
            "KV cache": self.cache,
            "activations": self.activations,
            "VAE": self.vae,
            "tiny decoder": self.taehv,
        }
        listed = " + ".join(f"{name} {size / GB:.1f}" for name, size in parts.items() if size)
        before = f"; the text encoder, before that, {self.encoder / GB:.1f}" if self.encoder else ""
        return f"{self.peak / GB:.1f} GB ({listed}{before})"


def activation_bytes(config: WanConfig, tokens: int, cached_tokens: int, size: int) -> int:
    """The largest moment of one block for `tokens` queries, one layer's keys and values gathered for attention, and its
    cached keys turned in float32. Checked against tensors counted on the meta device (tests/deepforcing/test_memory.py)."""
    block = tokens * (14 * config.dim + 3 * config.ffn_dim) * size
    rotation = 4 * tokens * config.dim * 4 + 2 * cached_tokens * config.dim * 4
    return block + rotation + 2 * (tokens + cached_tokens) * config.dim * size


def vae_bytes(geometry: Geometry, dim: int, size: int, decodes: bool = True) -> int:
    """Weights, and the last stage at full resolution if it decodes."""
    weights = VAE_PARAMETERS * (dim / 96) ** 2 * size
    copies = VAE_FRAME_COPIES if decodes else 0
    return int(weights + copies * geometry.height * geometry.width * dim * size)


def taehv_bytes(geometry: Geometry, channels: int, size: int) -> int:
    """Weights, and the last stage at full resolution."""
    with torch.device("meta"):
        weights = sum(p.numel() for p in TaehvDecoder(channels).parameters())
    return (weights + TAEHV_FRAME_COPIES * geometry.height * geometry.width) * size


def parameters(config: WanConfig) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in CausalWan(config).parameters())


def plan_memory(spec: GeneratorSpec, total_frames: int, query_frames: int | None = None, batch: int = 1) -> MemoryPlan:
    """batch: videos in one pass. query_frames: denoised together; None: as the rule does. Needs a Wan model."""
    model = spec.model
    if not isinstance(model, WanSpec):
        raise ValueError(f"model {model.name} has no memory plan")
    size = DTYPES[spec.dtype].itemsize
    s = model.geometry.tokens_per_frame
    queries = (query_frames or spec.rule.together(spec.schedule) * spec.chunk_frames) * s
    policy = spec.rule.cached(spec.cache, spec.chunk_frames)
    cached = policy.slots(spec.chunk_frames, total_frames) * s
    text_keys = 2 * model.config.num_layers * model.config.text_len * model.config.dim * size
    vae_size = size if model.vae_dtype is None else VAE_DTYPES[model.vae_dtype].itemsize
    tiny, text = model.taehv_spec, model.text_spec
    tiny_size = size if model.taehv_dtype is None else TAEHV_DTYPES[model.taehv_dtype].itemsize
    encoder = encoder_bytes(text) if text is not None and text.weights.exists() else 0
    return MemoryPlan(
        weights=parameters(model.config) * size,
        cache=policy.bytes(model.config, s, spec.chunk_frames, total_frames, size, batch) + batch * text_keys,
        activations=batch * activation_bytes(model.config, queries, cached, size),
        vae=0 if model.vae == NONE else vae_bytes(model.geometry, model.vae_dim, vae_size, tiny is None),
        encoder=encoder,
        taehv=0 if tiny is None else taehv_bytes(model.geometry, tiny.channels, tiny_size),
    )


def check_memory(
    spec: GeneratorSpec, total_frames: int, free: int, query_frames: int | None = None, batch: int = 1
) -> None:
    """Raises ValueError, before any work, when `free` bytes will not do; it names the first changes that would."""
    if not isinstance(spec.model, WanSpec):
        return
    plan = plan_memory(spec, total_frames, query_frames, batch)
    if plan.peak <= free:
        return
    smaller = (b for b in (batch // 2, batch // 4, 1) if 0 < b < batch)
    plans = {b: plan_memory(spec, total_frames, query_frames, b).peak for b in smaller}
    fits = [f"batch={b} ({peak / GB:.1f} GB)" for b, peak in plans.items() if peak <= free]
    for change, other, frames in alternatives(spec, total_frames):
        if frames < spec.chunk_frames:
            continue
        needed = plan_memory(other, frames, query_frames, batch).peak
        if needed <= free:
            fits.append(f"{change} ({needed / GB:.1f} GB)")
    hint = f"would fit: {', or '.join(fits[:3])}" if fits else "nothing smaller of this model fits; use a larger GPU"
    raise ValueError(f"this run needs about {plan}, but the GPU has {free / GB:.1f} GB free; {hint}")


def alternatives(spec: GeneratorSpec, total_frames: int) -> Iterator[tuple[str, GeneratorSpec, int]]:
    """Smaller requests, the least change first: (how to ask for it, spec, latent frames)."""
    starts: list[tuple[str, GeneratorSpec]] = [("", spec)]
    if DTYPES[spec.dtype].itemsize > 2:
        half = dataclasses.replace(spec, dtype="bfloat16")
        starts.append(("dtype=bfloat16", half))
        yield "dtype=bfloat16", half, total_frames
    capacity = spec.cache.retention.capacity(spec.chunk_frames)
    for asked, base in starts:
        if capacity is None:
            for share in (0.75, 0.5, 0.25, 0.1):
                frames = int(total_frames * share) // spec.chunk_frames * spec.chunk_frames
                seconds = spec.model.geometry.seconds(max(frames, 1))
                yield f"{asked} seconds={seconds:.0f}".strip(), base, frames
            continue
        for window in range(capacity - spec.chunk_frames, 0, -spec.chunk_frames):
            try:
                retention = dataclasses.replace(base.cache.retention, window_frames=window)  # type: ignore[type-var]
                retention.check(spec.chunk_frames)
            except (ValueError, TypeError):
                break
            smaller = dataclasses.replace(base, cache=dataclasses.replace(base.cache, retention=retention))
            yield f"{asked} cache.retention.window_frames={window}".strip(), smaller, total_frames
