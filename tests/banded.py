"""Drives caches whose heads are in bands: five heads in three layers, random queries, keys and values."""

from __future__ import annotations

from zlib import crc32

import torch
from torch import Tensor

from deepforcing.cache.bands import HeadBands
from deepforcing.wan.config import WanConfig

CONFIG = WanConfig(dim=70, num_heads=5, num_layers=3)
GRID, S, CHUNK, H, LAYERS = (2, 3), 6, 3, 5, 3


def draw(video: int, chunk: int, name: str, layer: int) -> Tensor:
    """q, k, v: [3, H, L, D]. The heads' queries differ in strength, so that their attention differs in shape."""
    generator = torch.Generator().manual_seed(crc32(f"{video}/{chunk}/{name}/{layer}".encode()))
    qkv = torch.randn(3, H, CHUNK * S, 14, generator=generator)
    qkv[0] *= torch.linspace(0.5, 3, H)[
        torch.randperm(H, generator=torch.Generator().manual_seed(video + layer)), None, None
    ]
    return qkv


def outputs(cache: HeadBands, videos: tuple[int, ...], chunks: int = 7) -> list[list[Tensor]]:
    """[chunks][passes * layers] of [B, H, L, D]."""
    out = []
    for chunk in range(chunks):
        cache.begin(chunk * CHUNK)
        out.append([])
        for i, name in enumerate(("noisy", "less noisy", "clean")):
            memory = cache.commit() if name == "clean" else cache.denoise(i)
            for layer in range(LAYERS):
                q, k, v = torch.stack([draw(video, chunk, name, layer) for video in videos], 1)
                out[-1].append(memory.attend(layer, q, k, v))
    return out
