"""Sizes of the causal Wan2.1 transformer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from deepforcing.limits import within


@dataclass(frozen=True)
class WanConfig:
    """Hyper-parameters of one transformer; the defaults are Wan2.1-T2V-1.3B.

    dim must be a multiple of 2 * num_heads. patch is (time, height, width) in latent pixels; time is always 1.
    prediction: what the network's output means. Wan predicts the flow (noise - x0); "x0" is the clean latent itself.
    spatial_embedding: (rows, columns) of a learned embedding per spatial token, added after patchifying. Wan has none
    (None): it is for small models, which learn absolute place from rotary embeddings only slowly.
    """

    dim: int = 1536
    ffn_dim: int = 8960
    freq_dim: int = 256
    in_dim: int = 16
    out_dim: int = 16
    num_heads: int = 12
    num_layers: int = 30
    text_dim: int = 4096
    text_len: int = 512
    patch: tuple[int, int, int] = (1, 2, 2)
    eps: float = 1e-6
    prediction: Literal["flow", "x0"] = "flow"
    spatial_embedding: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "patch", tuple(self.patch))
        if self.spatial_embedding is not None:
            object.__setattr__(self, "spatial_embedding", tuple(self.spatial_embedding))
        within(1, 16_384, dim=self.dim, freq_dim=self.freq_dim)
        within(1, 131_072, ffn_dim=self.ffn_dim, text_dim=self.text_dim)
        within(1, 1024, in_dim=self.in_dim, out_dim=self.out_dim, num_heads=self.num_heads, num_layers=self.num_layers)
        within(1, 8192, text_len=self.text_len)
        within(0, 1, eps=self.eps)
        for size in self.patch:
            within(1, 64, patch=size)
        for size in self.spatial_embedding or ():
            within(1, 8192, spatial_embedding=size)
        if self.dim % (2 * self.num_heads):
            raise ValueError(f"dim={self.dim} must be a multiple of 2 * num_heads={2 * self.num_heads}")
        if self.patch[0] != 1:
            raise ValueError(f"patch={self.patch}: a token spans exactly one latent frame, so patch[0] must be 1")
        if self.prediction not in ("flow", "x0"):
            raise ValueError(f"prediction={self.prediction!r} must be 'flow' or 'x0'")

    @property
    def head_dim(self) -> int:
        return self.dim // self.num_heads

    @property
    def rope_split(self) -> tuple[int, int, int]:
        """Complex rotary channels for (time, height, width): 22, 21, 21 for a head of 128."""
        complex_dim = self.head_dim // 2
        spatial = complex_dim // 3
        return complex_dim - 2 * spatial, spatial, spatial
