"""One video as a few numbers per chunk: what can be known of a real rollout without knowing its pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from deepforcing.generator import Generator
from deepforcing.stopwatch import Stopwatch

LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Numbers:
    """Of a chunk. start: its first latent frame. finite: latents and pixels. mean, deviation: of the latents as the transformer
    makes them. contrast: deviation of the luma, 0..1. smoothness: correlation of neighbouring pixels: .9 and more in natural
    video, 0 in noise. inside, joint: mean change of luma into the first frames of latent frames inside of the chunk, and
    into the chunk; NaN where there is none. Frames between those are left out: a decoder has a rhythm of its own."""

    start: int
    finite: bool
    mean: float
    deviation: float
    contrast: float
    smoothness: float
    inside: float
    joint: float

    def record(self) -> dict[str, Any]:
        """For JSON: null for NaN and infinities."""
        return {
            k: (round(v, 6) if math.isfinite(v) else None) if isinstance(v, float) else v
            for k, v in asdict(self).items()
        }


def observe(
    generator: Generator, prompt: tuple[str, str, int], total_frames: int, chunks: int | None = None
) -> tuple[list[Numbers], Tensor]:
    """Numbers of the chunks, and the first chunk's latents [F, C, Y, X], float32 on the CPU.

    prompt: text, id, seed. chunks: stop after so many of the video's. What is infinite becomes a number here, not an error.
    """
    found, latents = [], []
    for numbers, of in watched(generator, prompt, total_frames, chunks):
        found.append(numbers)
        latents.append(of)
    return found, latents[0]


@torch.inference_mode()
def watched(
    generator: Generator, prompt: tuple[str, str, int], total_frames: int, chunks: int | None
) -> Iterator[tuple[Numbers, Tensor]]:
    job = generator.job(*prompt, total_frames, Stopwatch(generator.device))
    stride = generator.spec.model.geometry.temporal_stride
    before: Tensor | None = None
    for chunk, pixels in islice(generator.spec.rule.generate(job), chunks):
        assert pixels is not None
        latents, frames = chunk.latents[0].float(), pixels[0].float()
        y = luma(frames.clamp(0, 1))
        changes = (y[1:] - y[:-1]).abs().mean((1, 2))
        firsts = [n for n in range(len(y) % stride, len(y), stride) if n > 0]
        inside = float(changes[[n - 1 for n in firsts]].mean()) if firsts else math.nan
        joint = math.nan if before is None else float((y[0] - before).abs().mean())
        finite = bool(torch.isfinite(latents).all() and torch.isfinite(frames).all())
        contrast = float(y.std((1, 2)).mean())
        yield (
            Numbers(
                chunk.start, finite, float(latents.mean()), float(latents.std()), contrast, smoothness(y), inside, joint
            ),
            latents.cpu().clone(),
        )
        before = y[-1]


def luma(pixels: Tensor) -> Tensor:
    """[N, 3, H, W] -> [N, H, W]."""
    return (pixels * pixels.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1)


def smoothness(y: Tensor) -> float:
    """Correlation of neighbours in [N, H, W], mean of those beside and below. NaN for flat pictures."""
    centred = y - y.mean((1, 2), keepdim=True)
    beside = (centred[:, :, 1:] * centred[:, :, :-1]).mean() + (centred[:, 1:] * centred[:, :-1]).mean()
    return float(beside / 2 / centred.square().mean())


def distance(a: Tensor, b: Tensor) -> float:
    """|a - b| / |b|, NaN included."""
    return float((a - b).norm() / b.norm())
