"""Random weights for VBench's networks, in the layouts and places in which the vbench package reads them.

Each function takes the directory that VBENCH_CACHE_DIR is to name. Scores of such networks mean nothing, but they depend
on every pixel and are the same in ours and in the package.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from benchmarks.vbench.small import shrink
from deepforcing.torchvision_cpu import make_importable
from eval.metrics import DIMENSIONS
from eval.networks.package import vbench_module
from eval.networks.weights import clip_package

make_importable()

CLIP_FILES = {"clip_b32": ("ViT-B-32.pt", 512, 32), "clip_l14": ("ViT-L-14.pt", 768, 14)}  # output width, patch
CLIP_SIZES = {"clip_b32": (12, 768), "clip_l14": (24, 1024)}  # layers and width of the published networks
GAIN = {True: 100.0, False: 1e-3}  # of RAFT's flows
VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"
VIDEO_WIDTH, TEXT_WIDTH, VIDEO_OUTPUT = 128, 64, 48  # of the small ViCLIP: 2 heads and 1
SMALL_DINO = """
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
# DINO's own source is a repository that nobody has offline. timm's network has the same layers, here with the plain
# attention that DINO has, and resizes its embedding of places as DINO does. What is left of a side after whole patches, which
# DINO's convolution skips, is cut off beforehand: timm refuses it.
FULL_DINO = """
import timm
import torch

dependencies = ["torch", "timm"]

def dino_vitb16(pretrained=True, **_):
    torch.manual_seed(7)
    timm.layers.set_fused_attn(False)
    network = timm.create_model("vit_base_patch16_224", num_classes=0, dynamic_img_size=True).eval()

    class Whole(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, x):
            return self.network(x[..., : x.shape[-2] // 16 * 16, : x.shape[-1] // 16 * 16])

    return Whole().eval()
"""


def write_all(cache: Path, full: bool, names: Collection[str], moves: bool = True) -> None:
    """The files behind names of eval.networks.weights.FILES; full: in the sizes of the published ones (3 GB, about a minute).

    moves: whether RAFT's flows are beyond the threshold or below it, for any frames.

    RAFT, AMT-S and MUSIQ are what their modules give: small ones after vbench.small.shrink.
    """
    for name, (layers, width) in CLIP_SIZES.items():
        if name in names:
            write_clip(cache, name, *((layers, width) if full else (2, 128)))
    for name, writer in {"aesthetic_head": write_aesthetic_head, "musiq": write_musiq, "amt": write_amt}.items():
        if name in names:
            writer(cache)
    if "raft" in names:
        write_raft(cache, GAIN[moves])
    if "dino" in names:
        write_dino(cache, FULL_DINO if full else SMALL_DINO)
    write_vocabulary(cache)  # the package looks for it whatever it does
    if "viclip" in names:
        with _quick():
            write_viclip(cache, viclip_module(cache, full).ViCLIP(tokenizer=object(), pretrain=None))


def randomise(network: nn.Module, gain: float = 1.0) -> nn.Module:
    """Weights that pass their input on, which the usual initial values may not."""
    generator = torch.Generator().manual_seed(1234)
    for name, p in network.named_parameters():
        if p.ndim > 1:
            p.data.normal_(0, gain / math.sqrt(p[0].numel()), generator=generator)
        elif name.endswith("bias"):
            p.data.normal_(0, 0.02, generator=generator)
    return network


def save(content: dict[str, Any], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


def save_torchscript(state: dict[str, Tensor], path: Path) -> Path:
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
    return path


def write_clip(cache: Path, name: str, layers: int = 2, width: int = 128) -> Path:
    """CLIP in half precision with a minimal text tower; 12 and 768 (B/32), or 24 and 1024 (L/14), are the real sizes."""
    from clip.model import CLIP

    file, output, patch = CLIP_FILES[name]
    torch.manual_seed(patch)
    network = CLIP(output, 224, layers, width, patch, 77, 64, 64, 1, 1)
    network.visual.positional_embedding.data.mul_(0.3)  # so that features depend on the picture more than on nothing
    state = {key: value.half() for key, value in network.state_dict().items()}
    return save_torchscript(state, cache / "clip_model" / file)


def write_aesthetic_head(cache: Path) -> None:
    torch.manual_seed(3)
    head = nn.Linear(768, 1)
    head.weight.data.mul_(100)
    save(head.state_dict(), cache / "aesthetic_model" / "emb_reader" / "sa_0_4_vit_l_14_linear.pth")


def write_musiq(cache: Path) -> None:
    from pyiqa.archs.musiq_arch import MUSIQ

    network = randomise(MUSIQ(pretrained=False))
    head = network.get_submodule("head")
    head.get_parameter("weight").data.mul_(10)
    head.get_parameter("bias").data.fill_(60.0)
    save(network.state_dict(), cache / "pyiqa_model" / "musiq_spaq_ckpt-358bb6af.pth")


def write_dino(cache: Path, source: str = SMALL_DINO, downloads: bool = False) -> Path:
    """A repository with DINO's entry point, and the empty file that vbench wants to see beside it.

    downloads: whether the small one asks torch.hub for a checkpoint, as DINO's own does; else it makes its weights.
    """
    repository = cache / "dino_model" / "facebookresearch_dino_main"
    repository.mkdir(parents=True, exist_ok=True)
    (repository / "hubconf.py").write_text(source.replace("DOWNLOADS", str(downloads)))
    (cache / "dino_model" / "dino_vitbase16_pretrain.pth").touch()
    return repository


def write_raft(cache: Path, gain: float = 0.095) -> None:
    """raft-things.pth. gain: of the random flows, here about the threshold at a short side of 128 px."""
    torch.manual_seed(0)
    settings = argparse.Namespace(small=False, mixed_precision=False, alternate_corr=False)
    model = vbench_module("third_party.RAFT.core.raft").RAFT(settings)
    for encoder in (model.fnet, model.cnet):
        encoder.conv2.weight.data *= 2  # the random flow then follows the content more
    model.update_block.flow_head.conv2.bias.data.zero_()
    model.update_block.flow_head.conv2.weight.data *= gain
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.get_buffer("running_mean").normal_(0, 0.1)
            layer.get_buffer("running_var").uniform_(0.5, 1.5)
    state = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    save(state, cache / "raft_model" / "models" / "raft-things.pth")


def write_amt(cache: Path, **beside: Any) -> None:
    """amt-s.pth; beside: what else the file is to hold."""
    torch.manual_seed(1)
    model = vbench_module("third_party.amt.networks.AMT-S").Model()
    save({"state_dict": model.state_dict(), **beside}, cache / "amt_model" / "amt-s.pth")


def write_viclip(cache: Path, model: Any) -> Path:
    """ViClip-InternVid-10M-FLT.pth of a model, with values where the package leaves memory as it finds it."""
    torch.manual_seed(2)
    for parameter in (model.vision_encoder.proj, model.text_encoder.text_projection):
        nn.init.normal_(parameter, std=0.1)
    for encoder in (model.vision_encoder, model.text_encoder):
        nn.init.normal_(encoder.positional_embedding, std=0.1)
    nn.init.normal_(model.vision_encoder.temporal_positional_embedding, std=0.1)
    return save({"model": model.state_dict()}, cache / "ViCLIP" / "ViClip-InternVid-10M-FLT.pth")


def write_vocabulary(cache: Path) -> Path:
    """The vocabulary that comes with the clip package, where ViCLIP's is looked for."""
    place = cache / "ViCLIP" / VOCABULARY
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(clip_package() / VOCABULARY, place)
    return place


def viclip_module(cache: Path, full: bool) -> Any:
    """The package's ViCLIP module; unless `full`, it builds a small network from now on: see small_viclip."""
    from eval.networks import viclip

    viclip._modules(cache / "ViCLIP" / VOCABULARY)
    module = vbench_module("third_party.ViCLIP.viclip")
    if not full:
        for name, builder in small_viclip().items():
            setattr(module, name, builder)
    return module


def small_viclip() -> dict[str, Any]:
    """What stands in the package's ViCLIP module for the builders of its two encoders: two layers each."""
    vision, words = (vbench_module(f"third_party.ViCLIP.viclip_{name}") for name in ("vision", "text"))

    def small_video(**_: object) -> Any:
        sizes = (VIDEO_WIDTH, 2, VIDEO_WIDTH // 64)
        return vision.VisionTransformer(224, 14, *sizes, output_dim=VIDEO_OUTPUT, checkpoint_num=2).eval()

    def small_text(**settings: Any) -> Any:
        small = {"transformer_width": TEXT_WIDTH, "transformer_heads": 1, "transformer_layers": 2}
        return words.clip_text_l14(**settings | small | {"embed_dim": VIDEO_OUTPUT})

    return {"clip_joint_l14": small_video, "clip_text_l14": small_text}


@contextmanager
def _quick() -> Iterator[None]:
    """Around the making of large networks: one normal draw for what the usual initial values take minutes for."""

    def draw(tensor: Tensor, *_: Any, **__: Any) -> Tensor:
        return tensor.data.normal_(0, 0.03)

    with mock.patch.multiple(
        nn.init, trunc_normal_=draw, kaiming_uniform_=draw, xavier_uniform_=draw, uniform_=draw
    ), torch.no_grad():  # fmt: skip
        yield


if __name__ == "__main__":
    job = json.loads(Path(sys.argv[1]).read_text())
    if job["networks"] == "small":
        shrink()
    wanted = {name for each in DIMENSIONS if each.name in job["dimensions"] for name in each.weights}
    write_all(Path(job["cache"]), job["networks"] == "full", wanted, job["moves"])
