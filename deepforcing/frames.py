"""From a decoder's numbers to 8 bit frames, on the device that made them, and to the CPU without waiting.

Shapes: B videos, N frames, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from deepforcing.rollout.chunkwise import Chunk
from deepforcing.stopwatch import Laps

if TYPE_CHECKING:
    from deepforcing.yuv import Frames


def levels(pixels: Tensor) -> Tensor:
    """Float pixels [N, 3, H, W] in 0..1, clipped to it, as uint8 [N, H, W, 3]. What is not finite gives any value."""
    pixels = pixels.detach()
    if pixels.device.type != "cpu":
        return pixels.float().mul(255).clamp_(0, 255).round_().byte().permute(0, 2, 3, 1).contiguous()
    n, _, height, width = pixels.shape
    # Frame by frame: what is in between stays in the processor's cache, which is several times as fast.
    out = torch.empty((n, height, width, 3), dtype=torch.uint8)
    one, plane = torch.empty((3, height, width)), torch.empty((3, height, width), dtype=torch.uint8)
    for to, frame in zip(out, pixels.float(), strict=True):
        torch.mul(frame, 255, out=one)
        plane.copy_(one.clamp_(0, 255).round_())
        to.copy_(plane.permute(1, 2, 0))
    return out


def finite(pixels: Tensor) -> Tensor:
    """Whether there is neither NaN nor Inf: bool, on the pixels' device. aminmax shows both, in far less time."""
    low, high = torch.aminmax(pixels.detach())
    return low.isfinite() & high.isfinite()


@dataclass
class OnTheWay:
    """One chunk's frames while a GPU may still be at them; on the CPU they are there at once.

    frames: uint8 [B, N, H, W, 3]; finite: bool [B]; latents: [B, F, C, Y, X]; all on the CPU, valid after `wait`.
    """

    frames: Tensor
    finite: Tensor
    latents: Tensor
    copied: Any = None  # a torch.cuda.Event

    def wait(self) -> None:
        if self.copied is not None:
            self.copied.synchronize()


def sent(pixels: Tensor, latents: Tensor) -> OnTheWay:
    """Float pixels [B, N, 3, H, W] and their latents [B, F, C, Y, X], on the current stream, to pinned memory."""
    frames = torch.stack([levels(own) for own in pixels])
    good = torch.stack([finite(own) for own in pixels])
    if pixels.device.type != "cuda":
        return OnTheWay(frames.cpu(), good.cpu(), latents.cpu())
    things = (frames, good, latents)
    held = [torch.empty(x.shape, dtype=x.dtype, pin_memory=True).copy_(x, non_blocking=True) for x in things]
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record()
    return OnTheWay(held[0], held[1], held[2], copied)


@dataclass(frozen=True)
class PixelChunk:
    """One video's chunk. frames: uint8 [N, H, W, 3] on the CPU, as they are written. seconds: of "denoise", "commit",
    "decode", which on a GPU may run beside each other; in a batch an equal share of what all its videos took. tokens,
    stored: as chunkwise.Chunk has them. latents: [F, C, Y, X] on the CPU, in the run's dtype."""

    start: int
    frames: Frames
    tokens: float
    stored: int
    seconds: dict[str, float]
    latents: Tensor


class NonFiniteError(ArithmeticError):
    """A chunk holds NaN or Inf."""


def handed_over(videos: Sequence[tuple[str, str, int]], chunk: Chunk, way: OnTheWay, laps: Laps) -> list[PixelChunk]:
    """A chunk when it is on the CPU, a part for each video. Raises NonFiniteError."""
    way.wait()
    for (_, prompt_id, seed), good in zip(videos, way.finite.tolist(), strict=True):
        if not good:
            raise NonFiniteError(
                f"chunk at latent frame {chunk.start} holds NaN or Inf (prompt {prompt_id}, seed {seed}); "
                "the checkpoint or the dtype is at fault: try dtype=float32 or another checkpoint"
            )
    seconds = {part: value / len(videos) for part, value in laps.seconds().items()}
    return [
        PixelChunk(chunk.start, own.numpy(), chunk.tokens, chunk.stored, seconds, latents)
        for own, latents in zip(way.frames, way.latents, strict=True)
    ]
