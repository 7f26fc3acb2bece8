"""Random weights for VBench's image networks, in the layouts and places in which the vbench package reads them; videos.

One function per network; each takes the directory that VBENCH_CACHE_DIR is to name. Scores of such networks mean
nothing, but they depend on every pixel and are the same in ours and in the package.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from deepforcing.torchvision_cpu import make_importable
from deepforcing.video import VideoWriter

make_importable()

CLIP_FILES = {"clip_b32": ("ViT-B-32.pt", 512, 32), "clip_l14": ("ViT-L-14.pt", 768, 14)}  # output width, patch
DINO_REPOSITORY = """
import torch

dependencies = ["torch"]

def dino_vitb16(pretrained=True, **_):
    torch.manual_seed(7)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 64, 16, 16), torch.nn.GELU(), torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(),
        torch.nn.Linear(256, 768),
    )
    if pretrained and DOWNLOADS:
        network.load_state_dict(torch.hub.load_state_dict_from_url(
            url="https://example.invalid/dino_vitbase16_pretrain.pth", map_location="cpu"), strict=True)
    return network
"""


def randomise(network: nn.Module, gain: float = 1.0) -> nn.Module:
    """Weights that pass their input on, which the usual initial values may not."""
    generator = torch.Generator().manual_seed(1234)
    for name, p in network.named_parameters():
        if p.ndim > 1:
            p.data.normal_(0, gain / math.sqrt(p[0].numel()), generator=generator)
        elif name.endswith("bias"):
            p.data.normal_(0, 0.02, generator=generator)
    return network


def save(state: dict[str, Tensor], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path)


def save_torchscript(state: dict[str, Tensor], path: Path) -> None:
    """A TorchScript archive that holds nothing but these tensors, as nested modules' buffers."""
    root = nn.Module()
    for name, value in state.items():
        owner = root
        *parts, leaf = name.split(".")
        for part in parts:
            if part not in owner._modules:
                owner.add_module(part, nn.Module())
            owner = owner.get_submodule(part)
        owner.register_buffer(leaf, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.jit.save(torch.jit.script(root), path)


def write_clip(cache: Path, name: str, layers: int = 2, width: int = 128) -> Path:
    """CLIP in half precision with a minimal text tower; 12 and 768 (B/32), or 24 and 1024 (L/14), are the real sizes."""
    from clip.model import CLIP

    file, output, patch = CLIP_FILES[name]
    torch.manual_seed(patch)
    network = CLIP(output, 224, layers, width, patch, 77, 64, 64, 1, 1)
    network.visual.positional_embedding.data.mul_(0.3)  # so that features depend on the picture more than on nothing
    state = {key: value.half() for key, value in network.state_dict().items()}
    save_torchscript(state, cache / "clip_model" / file)
    return cache / "clip_model" / file


def write_aesthetic_head(cache: Path) -> None:
    torch.manual_seed(3)
    head = nn.Linear(768, 1)
    head.weight.data.mul_(100)
    save(head.state_dict(), cache / "aesthetic_model" / "emb_reader" / "sa_0_4_vit_l_14_linear.pth")


def write_musiq(cache: Path) -> None:
    """MUSIQ at its real size."""
    from pyiqa.archs.musiq_arch import MUSIQ

    network = randomise(MUSIQ(pretrained=False))
    network.head.weight.data.mul_(10)
    network.head.bias.data.fill_(60.0)
    save(network.state_dict(), cache / "pyiqa_model" / "musiq_spaq_ckpt-358bb6af.pth")


def write_dino(cache: Path, downloads: bool = False) -> Path:
    """A repository with DINO's entry point, and the empty file that vbench wants to see beside it.

    downloads: whether the entry point asks torch.hub for a checkpoint, as DINO's own does; else it makes its weights.
    """
    repository = cache / "dino_model" / "facebookresearch_dino_main"
    repository.mkdir(parents=True, exist_ok=True)
    (repository / "hubconf.py").write_text(DINO_REPOSITORY.replace("DOWNLOADS", str(downloads)))
    (cache / "dino_model" / "dino_vitbase16_pretrain.pth").touch()
    return repository


def write_video(path: Path, frames: int, height: int, width: int, seed: int = 0) -> Path:
    """A texture that moves and changes, with a disc that moves otherwise; 8 frames a second."""
    generator = np.random.default_rng(seed)
    texture = generator.integers(0, 256, (height // 4 + 64, width // 4 + 64, 3)).repeat(4, 0).repeat(4, 1)
    y, x = np.mgrid[:height, :width]
    made = []
    for t in range(frames):
        picture = texture[3 * t % 256 :, 7 * t % 256 :][:height, :width] * (0.6 + 0.4 * math.cos(0.7 * t))
        picture[(y - height / 2) ** 2 + (x - (20 + 6 * t) % width) ** 2 < 18**2] = (220, 30, 30)
        made.append(picture.astype(np.uint8))
    with VideoWriter(path, width, height, fps=8) as video:
        video.write(np.stack(made))
    return path
