"""The Wan2.1 VAE: diffusers' AutoencoderKLWan under the published latent normalisation, fed chunk after chunk.

The model's latents are (z - mean) / std of the encoder's means. Decoding goes latent frame by latent frame; every causal
convolution keeps its last two input frames, so a video decoded in chunks equals the same video decoded whole, and memory
does not grow with its length. The first latent frame gives one pixel frame, every later one four.

Files under the names of the original (Wan2.1_VAE.pth) and of diffusers load alike. diffusers is imported when a VAE is
built, not before.

Shapes: B videos, F latent frames, N pixel frames, C latent channels, Y and X latent height and width.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deepforcing.torchvision_cpu import make_importable
from deepforcing.wan.containers import open_checkpoint
from deepforcing.wan.recognise import looks_like
from deepforcing.wan.weights import load_strict

MEAN = (
    -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
    0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
)  # fmt: skip
STD = (
    2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
    3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
)  # fmt: skip
TEMPORAL_STRIDE = 4
PUBLISHED: dict[str, Any] = {
    "base_dim": 96,
    "z_dim": 16,
    "dim_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_scales": [],
    "temperal_downsample": [False, True, True],  # diffusers spells it so
    "dropout": 0.0,
    "latents_mean": list(MEAN),
    "latents_std": list(STD),
}


class WanVAE:
    """A VAE on a device. vae: an AutoencoderKLWan. channels_last: memory layout of its weights and activations."""

    def __init__(self, vae: nn.Module, channels_last: bool = False) -> None:
        vae.eval().requires_grad_(False)
        self.vae: Any = vae
        self.decode_one: Callable[..., Tensor] = vae.decoder  # type: ignore[assignment]
        self.layout = torch.channels_last_3d if channels_last else torch.contiguous_format
        if channels_last:
            layouts = {5: torch.channels_last_3d, 4: torch.channels_last}
            for p in vae.parameters():
                p.data = p.data.contiguous(memory_format=layouts.get(p.ndim, torch.contiguous_format))
        parameter = next(vae.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        if parks(self.device):  # only given clips need the encoder
            self.encoder_to(torch.device("cpu"))
        config: Any = vae.config
        # In float32 whatever the VAE runs in; the published bfloat16 runs round both vectors first.
        self.mean, self.std = (
            torch.tensor(list(v), dtype=torch.float32, device=self.device)[:, None, None, None]
            for v in (config.latents_mean, config.latents_std)
        )

    @property
    def channels(self) -> int:
        return int(self.mean.shape[0])

    @torch.no_grad()
    def encode(self, video: Tensor) -> Tensor:
        """[B, N, 3, H, W] in 0..1, N = 4(F-1)+1 (one frame: an image) -> normalised latents [B, F, C, Y, X], float32.

        Raises ValueError for another number of frames or sizes that are no multiple of 8.
        """
        n, height, width = video.shape[1], *video.shape[3:]
        if (n - 1) % TEMPORAL_STRIDE:
            raise ValueError(f"{n} frames are not 4(n-1)+1: give 1, 5, 9, 13 ... frames")
        stride = 2 ** (len(self.vae.config.dim_mult) - 1)
        if height % stride or width % stride:
            raise ValueError(f"{height} x {width} pixels are no multiples of {stride}: resize or crop the clip first")
        return self._normalised(self.means(2 * video.transpose(1, 2) - 1)).transpose(1, 2)

    def means(self, video_BCNHW: Tensor) -> Tensor:
        """The encoder's means before normalisation, [B, C, F, Y, X] float32; pixels in -1..1."""
        x = video_BCNHW.to(self.device, self.dtype, memory_format=self.layout)
        self.encoder_to(self.device)
        try:
            means: Tensor = self.vae.encode(x).latent_dist.mode()
        finally:
            if parks(self.device):
                self.encoder_to(torch.device("cpu"))
        return means.float()

    def encoder_to(self, device: torch.device) -> None:
        for part in (self.vae.encoder, self.vae.quant_conv):
            part.to(device)

    def compile(self) -> WanVAE:
        """The decoder by torch.compile, when it first decodes. It takes latent frame by latent frame, so it is three graphs,
        of the first, the second and all later ones, whatever the chunks."""
        self.decode_one = torch.compile(self.vae.decoder, fullgraph=True, dynamic=False)
        return self

    def _normalised(self, means_BCFYX: Tensor) -> Tensor:
        return (means_BCFYX - self.mean) / self.std

    def decoder(self) -> Callable[[Tensor], Tensor]:
        """A decoder for one batch of videos: normalised latents [B, F, C, Y, X] -> [B, N, 3, H, W], about 0..1."""
        stream = self.stream()
        return lambda latents: (stream(latents.transpose(1, 2)).transpose(1, 2) + 1) / 2

    def stream(self) -> Callable[[Tensor], Tensor]:
        """The same in the original's layout and range: [B, C, F, Y, X] -> [B, 3, N, H, W], about -1..1, not clamped."""
        memory: list[Any] = [None] * self._decoder_convolutions()
        begun = False

        @torch.no_grad()
        def decode(latents_BCFYX: Tensor) -> Tensor:
            nonlocal begun
            z = latents_BCFYX.to(self.device, torch.float32) * self.std + self.mean
            z = self.vae.post_quant_conv(z.to(self.dtype, memory_format=self.layout))
            frames = []
            for i in range(z.shape[2]):
                # Contiguous, or chunks of another length would be other graphs.
                one = z[:, :, i : i + 1].contiguous(memory_format=self.layout)
                # diffusers' decoder takes the convolutions' memories as a list and a counter that it advances.
                frames.append(self.decode_one(one, feat_cache=memory, feat_idx=[0], first_chunk=not begun))
                begun = True
            return torch.cat(frames, 2)

        return decode

    def _decoder_convolutions(self) -> int:
        from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d

        return sum(isinstance(m, WanCausalConv3d) for m in self.vae.decoder.modules())


def parks(device: torch.device) -> bool:
    """Whether the encoder waits on the CPU while no clip is encoded: a GPU's memory is for the rollout."""
    return device.type == "cuda"


def load_vae(
    path: Path,
    dtype: torch.dtype = torch.bfloat16,
    device: torch.device | str = "cpu",
    channels_last: bool = False,
    config: Mapping[str, Any] | None = None,
) -> WanVAE:
    """A VAE from a file under either naming; config: diffusers' fields where they are not Wan2.1's.

    Raises ValueError in one line for a file that is not such a VAE.
    """
    contents = open_checkpoint(path)
    vae = _build({**PUBLISHED, **(config or {})}, torch.device("meta"))
    blocks = int(vae.config.num_res_blocks)
    tensors = {diffusers_name(name, blocks): t for name, t in contents.tensors.items()}
    try:
        load_strict(vae, tensors, f"VAE {path}", dtype, device)
    except ValueError as error:
        raise ValueError(f"{error}; it looks like {looks_like(contents)}") from None
    return WanVAE(vae, channels_last)


def random_vae(
    dim: int = 96,
    channels: int = 16,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    channels_last: bool = False,
    seed: int = 0,
) -> WanVAE:
    """A VAE of Wan2.1's structure with random weights, of any width: for plumbing and for measuring memory and speed."""
    mean, std = (list(v[:channels]) for v in (MEAN, STD))
    if channels > len(MEAN):
        mean, std = [0.0] * channels, [1.0] * channels
    config = {**PUBLISHED, "base_dim": dim, "z_dim": channels, "latents_mean": mean, "latents_std": std}
    devices = [torch.cuda.current_device()] if torch.device(device).type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        vae = _build(config, torch.device(device))
    return WanVAE(nn.Module.to(vae, dtype), channels_last)  # diffusers' own `to` warns for nothing


def _build(config: Mapping[str, Any], device: torch.device) -> Any:
    make_importable()
    try:
        from diffusers import AutoencoderKLWan
    except ImportError as error:
        raise ValueError(
            f"the Wan VAE needs the package diffusers ({error}): pip install 'deepforcing[wan]', or make setup"
        ) from None
    make: Any = AutoencoderKLWan  # without types
    with device:
        return make(**config)


RENAMED = (
    (r"^conv1\.", "quant_conv."),
    (r"^conv2\.", "post_quant_conv."),
    (r"^(encoder|decoder)\.conv1\.", r"\1.conv_in."),
    (r"\.head\.0\.", ".norm_out."),
    (r"\.head\.2\.", ".conv_out."),
    (r"\.middle\.0\.", ".mid_block.resnets.0."),
    (r"\.middle\.1\.", ".mid_block.attentions.0."),
    (r"\.middle\.2\.", ".mid_block.resnets.1."),
    (r"\.downsamples\.", ".down_blocks."),
    (r"\.residual\.0\.", ".norm1."),
    (r"\.residual\.2\.", ".conv1."),
    (r"\.residual\.3\.", ".norm2."),
    (r"\.residual\.6\.", ".conv2."),
    (r"\.shortcut\.", ".conv_shortcut."),
)


def diffusers_name(name: str, num_res_blocks: int = 2) -> str:
    """diffusers' name of a tensor of the original VAE; names that are diffusers' already stay."""
    for pattern, new in RENAMED:
        name = re.sub(pattern, new, name)
    match = re.match(r"decoder\.upsamples\.(\d+)\.(.*)", name)
    if match is None:
        return name
    block, part = divmod(int(match[1]), num_res_blocks + 2)
    inside = f"resnets.{part}" if part <= num_res_blocks else "upsamplers.0"
    return f"decoder.up_blocks.{block}.{inside}.{match[2]}"
