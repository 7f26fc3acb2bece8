"""MUSIQ (Ke et al. 2021) trained on SPAQ, as pyiqa has it, many frames at a time."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eval.measure.batch import Batch
from eval.networks import backend
from eval.networks.batches import FRAMES_ON_GPU, room
from eval.networks.checkpoint import read_state
from eval.networks.files import fill, packages
from eval.networks.linears import pack
from eval.networks.preprocess import bilinear_layout, musiq_input
from eval.networks.weights import required

PATCH = 32  # pixels, a side
LONGEST = (224, 384)  # pixels, the long side of the two smaller sizes; the third is the image's own
GRID = 10  # places a side that are told apart
PATCHES = 128  # that go through the convolutions together on a CPU: what fits its cache
PATCH_BYTES = 2**16  # of one after the first convolution
FRAMES_AT_ONCE = 8  # ... on a CPU; on a GPU as many as are decoded at once


@functools.cache
def musiq(path: Path, device: torch.device) -> nn.Module:
    """The network, from a plain state dict. Raises ValueError if the weights are unfit."""
    with packages():
        from pyiqa.archs.musiq_arch import MUSIQ
    network: nn.Module = MUSIQ(pretrained=False)
    fill(network, {name.removeprefix("module."): value for name, value in read_state(path).items()}, path)
    return network.to(device).eval().requires_grad_(False)


def load_musiq(device: torch.device) -> nn.Module:
    """The network, once per process. Raises ValueError if its weights are absent or unfit."""
    place_index()
    return pack(musiq(required("musiq"), device))


@functools.cache
def place_index() -> Callable[..., Any]:
    """pyiqa's numbers of a picture's places. Imported once: what silences an import's warnings is one for all threads."""
    with packages():
        from pyiqa.data.multiscale_trans_util import get_hashed_spatial_pos_emb_index
    return get_hashed_spatial_pos_emb_index  # type: ignore[no-any-return]


def patches(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Images [b, 3, h, w] in 0..1 -> patches [b, S, 3, 32, 32] in -1..1 at three sizes, their places and scales [S].

    pyiqa pads the two smaller sizes to as many patches as a square image would have, and masks those in the attention.
    A masked patch gets exactly no weight (exp(-1000) is 0 in float32), so leaving them out moves no score.
    """
    images = (images.contiguous() - 0.5) * 2
    b, _, height, width = images.shape
    found, places, scales = [], [], []
    for scale, longest in enumerate((*LONGEST, max(height, width))):
        resized = images
        if scale < len(LONGEST):
            ratio = longest / max(height, width)
            size = round(height * ratio), round(width * ratio)
            resized = F.interpolate(images, size, mode="bicubic", align_corners=False)
        rows, columns = (-length % PATCH for length in resized.shape[2:])
        resized = F.pad(resized, [columns // 2, columns - columns // 2, rows // 2, rows - rows // 2])
        high, wide = (length // PATCH for length in resized.shape[2:])
        cells = resized.reshape(b, 3, high, PATCH, wide, PATCH).permute(0, 2, 4, 1, 3, 5)
        found.append(cells.reshape(b, high * wide, 3, PATCH, PATCH))
        places.append(place_index()(GRID, high, wide)[0])
        scales.append(torch.full((found[-1].shape[1],), float(scale)))
    return torch.cat(found, 1), torch.cat(places).to(images.device), torch.cat(scales).to(images.device)


def score(network: Any, images: Tensor) -> Tensor:
    """Quality [b] of images [b, 3, h, w] in 0..1, through the parts of pyiqa's network, without masks."""
    return backend.run(backend.compiled(quality_of(network)), *patches(images))


@functools.cache
def quality_of(network: nn.Module) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """`quality` of one network: the same object for the same network."""
    return functools.partial(quality, network)


def quality(network: Any, pictures: Tensor, places: Tensor, scales: Tensor) -> Tensor:
    """Quality [b] from what `patches` gives."""

    def embed(part: Tensor) -> Tensor:
        part = network.gn_root(network.conv_root(part)).contiguous(memory_format=torch.channels_last)
        part = network.block1(
            network.root_pool(part).contiguous()
        )  # on a CPU the pooling alone is faster this way round
        return torch.as_tensor(network.embedding(part.movedim(1, -1).flatten(1)))  # channels last, as TensorFlow has it

    on_cpu = pictures.device.type == "cpu"
    parts = torch.split(pictures.flatten(0, 1), PATCHES if on_cpu else room(pictures.device) // PATCH_BYTES)
    x = torch.cat([embed(part) for part in parts]).view(len(pictures), len(places), -1)
    encoder = network.transformer_encoder
    x = encoder.scaleembed_input(encoder.posembed_input(x, places), scales)
    x = torch.cat([encoder.cls.expand(len(pictures), -1, -1), x], dim=1)
    for block in encoder.transformer.values():
        x = block(x, None)
    return torch.as_tensor(network.head(encoder.encoder_norm(x)[:, 0]))[:, 0]


def musiq_scores(batch: Batch, device: torch.device) -> Tensor:
    """Quality of each frame [b], float32, about 0..100. Computed once."""

    @torch.inference_mode()
    def compute() -> Tensor:
        network, images = load_musiq(device), musiq_input(batch.floats_on(device, bilinear_layout(device)))
        at_once = FRAMES_AT_ONCE if device.type == "cpu" else FRAMES_ON_GPU
        return torch.cat([score(network, backend.filled(p, at_once))[: len(p)] for p in torch.split(images, at_once)])

    return batch.kept(("musiq_scores", device), compute)
