"""The embedded world's codec, in place of a VAE: fixed, linear, orthogonal, hence exactly invertible.

Four frames of 2 x 2 pixels x 3 colours become 48 latent channels: a colour rotation (grey, red-blue, green-magenta), a
2 x 2 DCT in space and a 4-point DCT in time, then a fixed mean and scale per channel. As with the Wan VAE, n latent
frames are 4(n-1)+1 pixel frames: the first latent holds frame 0 alone (the three frames before it are dropped at
decoding; at encoding they are copies of it, or the true ones where they are known).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

STRIDE_SPACE = 2
STRIDE_TIME = 4
CHANNELS = 3 * STRIDE_SPACE**2 * STRIDE_TIME


def dct_matrix(n: int) -> Tensor:
    """Orthonormal DCT-II, rows are frequencies, [n, n]."""
    k = torch.arange(n, dtype=torch.float64)
    matrix = torch.cos(math.pi / n * (k[None] + 0.5) * k[:, None]) * math.sqrt(2 / n)
    matrix[0] /= math.sqrt(2)
    return matrix


def basis() -> Tensor:
    """Orthonormal analysis matrix [48 channels, 48 inputs], inputs ordered (frame, colour, row, column)."""
    colour = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]], dtype=torch.float64)
    colour = colour / colour.norm(dim=1, keepdim=True)
    space, time = dct_matrix(STRIDE_SPACE), dct_matrix(STRIDE_TIME)
    return torch.einsum("wt,dc,ky,lx->wdkltcyx", time, colour, space, space).reshape(CHANNELS, CHANNELS).float()


class TinyCodec(nn.Module):
    """mean, scale: [48] per latent channel, part of the checkpoint."""

    mean: Tensor
    scale: Tensor
    basis: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(CHANNELS))
        self.register_buffer("scale", torch.ones(CHANNELS))
        self.register_buffer("basis", basis(), persistent=False)

    def encode(self, video: Tensor, before: Tensor | None = None) -> Tensor:
        """[B, 4(n-1)+1, 3, Y, X] in 0..1 -> latents [B, n, 48, Y/2, X/2].

        before: the three frames that precede the video, [B, 3, 3, Y, X]; copies of its first frame when not given.
        """
        if (video.shape[1] - 1) % STRIDE_TIME:
            raise ValueError(f"{video.shape[1]} frames are not 4(n-1)+1: give 1, 5, 9, 13 ... frames")
        lead = STRIDE_TIME - 1
        video = torch.cat([video[:, :1].expand(-1, lead, -1, -1, -1) if before is None else before, video], 1)
        b, n, c, y, x = video.shape
        s = STRIDE_SPACE
        groups = video.reshape(b, n // STRIDE_TIME, STRIDE_TIME, c, y // s, s, x // s, s).permute(
            0, 1, 4, 6, 2, 3, 5, 7
        )
        latents = (
            groups.reshape(b, n // STRIDE_TIME, y // s, x // s, CHANNELS) @ self.basis.T - self.mean
        ) / self.scale
        return latents.permute(0, 1, 4, 2, 3)

    def decode(self, latents: Tensor, first: bool = True) -> Tensor:
        """Latents [B, n, 48, Y, X] -> pixels [B, 4(n-1)+1 or 4n, 3, 2Y, 2X], not clamped.

        first: the latents begin the video, so their first frame is one pixel frame. Chunks decode independently.
        """
        b, n, _, y, x = latents.shape
        s = STRIDE_SPACE
        groups = (latents.permute(0, 1, 3, 4, 2) * self.scale + self.mean) @ self.basis
        video = groups.reshape(b, n, y, x, STRIDE_TIME, 3, s, s).permute(0, 1, 4, 5, 2, 6, 3, 7)
        video = video.reshape(b, n * STRIDE_TIME, 3, y * s, x * s)
        return video[:, STRIDE_TIME - 1 :] if first else video
