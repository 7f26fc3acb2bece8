"""Where a rollout's Gaussian noise comes from."""

from __future__ import annotations

import hashlib
from typing import Protocol

import torch
from torch import Tensor

RELEASE_SEED = 1356145
"""The one seed of Deep Forcing's release. Its scripts start a process per prompt, so every prompt gets the same draws."""


class Noise(Protocol):
    """Noise for one batch of videos. start: first latent frame of the chunk; shape: [B, F, C, Y, X] of the chunk."""

    def initial(self, start: int, shape: tuple[int, ...]) -> Tensor: ...

    def renoise(self, start: int, step: int, shape: tuple[int, ...]) -> Tensor:
        """Fresh noise to mix into the prediction of denoising step `step` (0-based)."""
        ...


class KeyedNoise:
    """Noise keyed by (seed, prompt, chunk, step), one stream per video.

    A sample depends on nothing else: not on its batch, its shard, earlier prompts or the video's length. Drawn on the CPU
    in float32, so that it is the same for every device and dtype.
    """

    def __init__(
        self, keys: list[tuple[int, str]], dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> None:
        """keys: (seed, prompt id) of every video in the batch."""
        self.keys, self.dtype, self.device = keys, dtype, torch.device(device)

    def _draw(self, start: int, step: int, shape: tuple[int, ...]) -> Tensor:
        draws = []
        for seed, prompt_id in self.keys:
            digest = hashlib.sha256(f"{seed}/{prompt_id}/{start}/{step}".encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
            draws.append(torch.randn(shape[1:], generator=generator))
        noise = torch.stack(draws)
        if self.device.type == "cuda":  # from pageable memory the host would wait for the device
            noise = noise.pin_memory()
        return noise.to(self.device, non_blocking=True).to(self.dtype)

    def initial(self, start: int, shape: tuple[int, ...]) -> Tensor:
        return self._draw(start, -1, shape)

    def renoise(self, start: int, step: int, shape: tuple[int, ...]) -> Tensor:
        return self._draw(start, step, shape)


class UpstreamNoise:
    """The published systems' order: all initial noise in one draw, then one draw per non-last step, chunk by chunk.

    Drawn on the run's device in its dtype from one generator, so a video depends on its length, its batch and the device
    (torch's CUDA draws also on how many multiprocessors that has): for comparing with the originals only. No draw for the
    clean pass. first: latent frames given (continuation), which have no noise.
    """

    def __init__(
        self,
        seed: int,
        shape: tuple[int, ...],
        first: int = 0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        """shape: [B, frames to generate, C, Y, X]."""
        self.generator = torch.Generator(device).manual_seed(seed)
        self.first, self.dtype, self.device = first, dtype, torch.device(device)
        self.all = torch.randn(shape, generator=self.generator, dtype=dtype, device=device)

    def initial(self, start: int, shape: tuple[int, ...]) -> Tensor:
        return self.all[:, start - self.first : start - self.first + shape[1]]

    def renoise(self, start: int, step: int, shape: tuple[int, ...]) -> Tensor:
        flat = (shape[0] * shape[1], *shape[2:])
        return torch.randn(flat, generator=self.generator, dtype=self.dtype, device=self.device).view(shape)
