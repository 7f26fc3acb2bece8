"""A tiny decoder for Wan2.1 latents in TAEHV's layout: pixels for a fraction of the VAE's time and memory, of lower quality.

Written from the facts of the published implementation (github.com/madebyollin/taehv, MIT). The input is the transformer's
latents as they are, normalised: no mean and no standard deviation is applied. x becomes 3 tanh(x / 3), then, with C latent
channels and the tensors' names in the file:

    decoder.1                 3 x 3 convolution C -> 256, ReLU
    three stages of width w = 256, 128, 64:
      decoder.3,4,5 ...       memory blocks: ReLU(x + c4(ReLU(c2(ReLU(c0([x, x of the frame before])))))), 3 x 3 each
      (6 ...)                 every pixel becomes 2 x 2 equal ones
      decoder.7 ...           growth: 1 x 1 convolution w -> g w without bias, read as g frames, the earlier first; g = 1, 2, 2
      decoder.8 ...           3 x 3 convolution w -> the next stage's width (the last: 64 -> 64) without bias
    ReLU, decoder.22          3 x 3 convolution 64 -> 3: RGB in 0..1

The frame before the first is zeros. One latent frame makes four frames; the first three of a video are dropped, so that n
latent frames give 4(n-1)+1 as with the VAE. Convolutions look at one frame, the memory blocks at the one before: nothing
else connects frames, so nine feature maps are all that a stream carries.

Shapes: B videos, F latent frames, T frames, N pixel frames, C channels, Y and X latent height and width.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deepforcing.wan.containers import open_checkpoint
from deepforcing.wan.recognise import looks_like
from deepforcing.wan.weights import check_fits, load_strict, sha256_of_all

WIDTHS = (256, 128, 64, 64)  # of the three stages, and after them
GROWTH = (1, 2, 2)  # frames out of one
DROPPED = 3  # frames at the start of a video: 1 * 2 * 2 - 1
ENCODER = re.compile(r"encoder\.\d+\.")  # the file's other half; clips are encoded by the VAE
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}  # the file itself is float16


def _conv(ins: int, outs: int, size: int = 3, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(ins, outs, size, padding=size // 2, bias=bias)


def _each(module: nn.Module, x_BTCYX: Tensor) -> Tensor:
    """A module for pictures on every frame."""
    return torch.unflatten(module(x_BTCYX.flatten(0, 1)), 0, x_BTCYX.shape[:2])


class MemoryBlock(nn.Module):
    """Sees each frame beside the one before it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.ModuleDict({"0": _conv(2 * width, width), "2": _conv(width, width), "4": _conv(width, width)})

    def forward(self, x: Tensor, before: Tensor) -> Tensor:
        """x: [B, T, C, Y, X]; before: the frame before its first, [B, 1, C, Y, X]."""
        past = torch.cat([before, x[:, :-1]], 1)
        h = _each(self.conv["0"], torch.cat([x, past], 2)).relu_()
        h = _each(self.conv["2"], h).relu_()
        return (_each(self.conv["4"], h) + x).relu_()


class Growth(nn.Module):
    """Makes `frames` frames out of every one."""

    def __init__(self, width: int, frames: int) -> None:
        super().__init__()
        self.frames = frames
        self.conv = _conv(width, frames * width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C, Y, X] -> [B, frames * T, C, Y, X]."""
        return torch.unflatten(_each(self.conv, x), 2, (self.frames, -1)).flatten(1, 2)


class TaehvDecoder(nn.Module):
    """The decoder under the file's names. channels: of the latents. widths: of the stages, and after them."""

    def __init__(self, channels: int = 16, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        layers: dict[str, nn.Module] = {"1": _conv(channels, widths[0])}
        for stage, (width, following, frames) in enumerate(zip(widths, widths[1:], GROWTH, strict=False)):
            first = 3 + 6 * stage
            layers |= {str(first + i): MemoryBlock(width) for i in range(3)}
            layers[str(first + 4)] = Growth(width, frames)
            layers[str(first + 5)] = _conv(width, following, bias=False)
        layers["22"] = _conv(widths[-1], 3)
        self.decoder = nn.ModuleDict(layers)
        self.enlarge = nn.Upsample(scale_factor=2)  # nearest

    def forward(self, x: Tensor, memory: dict[str, Tensor]) -> Tensor:
        """Squashed latents [B, T, C, Y, X] -> [B, 4 T, 3, 8 Y, 8 X], about 0..1, not clamped.

        memory: what the blocks saw last, by name; empty before a video's first frame, brought up to date here.
        """
        x = _each(self.decoder["1"], x).relu_()
        for stage in range(len(GROWTH)):
            first = 3 + 6 * stage
            for name in (str(first + i) for i in range(3)):
                before = memory.get(name)
                memory[name] = x[:, -1:].clone()  # not a view, which would keep all of x
                x = self.decoder[name](x, torch.zeros_like(x[:, :1]) if before is None else before)
            x = self.decoder[str(first + 4)](_each(self.enlarge, x))
            x = _each(self.decoder[str(first + 5)], x)
        return _each(self.decoder["22"], x.relu_())

    def stream(self) -> Callable[[Tensor], Tensor]:
        """A decoder for one batch of videos: normalised latents [B, F, C, Y, X] -> [B, N, 3, H, W], about 0..1.

        Latent frames go one at a time, so that memory depends neither on the chunk nor on the length, and so that any
        split into chunks gives the same bits.
        """
        memory: dict[str, Tensor] = {}
        weight = next(self.parameters())
        dropped = DROPPED

        @torch.no_grad()
        def decode(latents_BFCYX: Tensor) -> Tensor:
            nonlocal dropped
            z = latents_BFCYX.to(weight.device, torch.float32)
            z = (3 * torch.tanh(z / 3)).to(weight.dtype)
            pixels = []
            for i in range(z.shape[1]):
                pixels.append(self(z[:, i : i + 1], memory)[:, dropped:])
                dropped = 0
            return torch.cat(pixels, 1)

        return decode


@dataclass(frozen=True)
class TaehvSpec:
    """Which tiny decoder. path: None: random weights. dtype: a name in DTYPES; None: the run's. channels: of the latents."""

    path: Path | None
    dtype: str | None = None
    channels: int = 16

    def __post_init__(self) -> None:
        if self.dtype is not None and self.dtype not in DTYPES:
            raise ValueError(f"taehv_dtype={self.dtype!r} must be one of {', '.join(DTYPES)}, or null: the run's")

    def check(self) -> None:
        """Everything that `build` would refuse, without reading the weights. Raises ValueError."""
        if self.path is not None:
            _opened(self.path, self.channels, WIDTHS)

    def identity(self) -> dict[str, Any]:
        return {"sha256": "random" if self.path is None else sha256_of_all(self.path), "dtype": self.dtype}

    def build(self, device: torch.device, dtype: torch.dtype) -> TaehvDecoder:
        """dtype: the run's."""
        dtype = dtype if self.dtype is None else DTYPES[self.dtype]
        if self.path is None:
            return random_taehv(self.channels, dtype, device)
        return load_taehv(self.path, dtype, device, self.channels)


def load_taehv(
    path: Path,
    dtype: torch.dtype = torch.float16,
    device: torch.device | str = "cpu",
    channels: int = 16,
    widths: tuple[int, ...] = WIDTHS,
) -> TaehvDecoder:
    """The decoder of a TAEHV file (.pth or .safetensors), in inference mode; the encoder's tensors are left out.

    Raises ValueError in one line, naming what is missing, unexpected or misshapen and what the file looks like instead.
    """
    model, tensors = _opened(path, channels, widths)
    load_strict(model, tensors, f"tiny decoder {path}", dtype, device)
    return model.eval().requires_grad_(False)


def _opened(path: Path, channels: int, widths: tuple[int, ...]) -> tuple[TaehvDecoder, Mapping[str, Tensor]]:
    with torch.device("meta"):
        model = TaehvDecoder(channels, widths)
    contents = open_checkpoint(path)
    tensors = {name: t for name, t in contents.tensors.items() if not ENCODER.match(name)}
    try:
        check_fits(model, tensors, f"tiny decoder {path}")
    except ValueError as error:
        raise ValueError(f"{error}; it looks like {looks_like(contents)}") from None
    return model, tensors


def random_taehv(
    channels: int = 16,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    widths: tuple[int, ...] = WIDTHS,
    seed: int = 0,
) -> TaehvDecoder:
    """One with random weights of a plausible scale: for plumbing and for measuring memory and speed."""
    with torch.device("meta"):
        model = TaehvDecoder(channels, widths)
    model = model.to_empty(device=device)
    generator = torch.Generator(device).manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim == 1:
                p.zero_()
            else:
                p.normal_(0.0, p[0].numel() ** -0.5, generator=generator)
        model.decoder["22"].get_parameter("bias").fill_(0.5)  # grey
    return model.to(dtype).eval().requires_grad_(False)
