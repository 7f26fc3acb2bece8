"""MUSIQ (Ke et al. 2021) trained on SPAQ, as pyiqa has it, many frames at a time."""

from __future__ import annotations

import functools
from pathlib import Path

import torch
from torch import Tensor, nn

import eval.torchvision_cpu  # noqa: F401 (before pyiqa imports torchvision)
from eval.batch import Batch
from eval.networks.files import fill, packages, read_state
from eval.preprocess import musiq_input
from eval.weights import required

AT_ONCE = 8  # frames: at 480 x 832 their tokens take 150 MB after the first convolution


@functools.cache
def musiq(path: Path, device: torch.device) -> nn.Module:
    """The network, from a plain state dict. It takes `tokens`, not images. Raises ValueError if the weights are unfit."""
    with packages():
        from pyiqa.archs.musiq_arch import MUSIQ
    network: nn.Module = MUSIQ(pretrained=False)
    fill(network, {name.removeprefix("module."): value for name, value in read_state(path).items()}, path)
    network.to(device).eval().requires_grad_(False)
    network.training = True  # of the outermost module alone: pyiqa's then expects tokens; its parts stay in eval mode
    return network


def load_musiq(device: torch.device) -> nn.Module:
    """The network, once per process. Raises ValueError if its weights are absent or unfit."""
    return musiq(required("musiq"), device)


def tokens(images: Tensor) -> Tensor:
    """Images [b, 3, h, w] in 0..1 -> [b, S, 32 * 32 * 3 + 3]: patches at three sizes, each with its place and scale.

    pyiqa pads the two smaller sizes to as many patches as a square image would have, and masks those in the attention.
    A masked token gets exactly no weight (exp(-1000) is 0 in float32), so leaving them out moves no score.
    """
    with packages():
        from pyiqa.data.multiscale_trans_util import get_multiscale_patches
    padded: Tensor = get_multiscale_patches(
        (images - 0.5) * 2,
        patch_size=32,
        patch_stride=32,
        hse_grid_size=10,
        longer_side_lengths=[224, 384],
        max_seq_len_from_original_res=-1,
    )
    return padded[:, padded[0, :, -1] > 0]


def musiq_scores(batch: Batch, device: torch.device) -> Tensor:
    """Quality of each frame [b], float32, about 0..100. Computed once."""

    @torch.inference_mode()
    def compute() -> Tensor:
        network = load_musiq(device)
        images = musiq_input(batch.floats_on(device))
        return torch.cat([network(tokens(part))[:, 0] for part in images.split(AT_ONCE)])

    return batch.kept(("musiq_scores", device), compute)
