"""CLIP's image towers (Radford et al. 2021), as the `clip` package has them, without their text towers."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from eval.measure.batch import Batch
from eval.networks.batches import in_parts
from eval.networks.files import fill, packages
from eval.networks.linears import pack
from eval.networks.preprocess import clip_input
from eval.networks.torchscript import read_torchscript
from eval.networks.weights import required

Name = Literal["clip_b32", "clip_l14"]  # of eval.networks.weights.FILES
HEAD = 64  # width of an attention head, in every ViT that OpenAI published


@functools.cache
def clip_tower(path: Path, device: torch.device) -> nn.Module:
    """The image tower of a TorchScript archive; its sizes are those of its tensors.

    As clip.load has it: large weights in half precision, and all of them in float32 on a CPU. Raises ValueError.
    """
    with packages():
        from clip.model import VisionTransformer, convert_weights
    state = read_torchscript(path, "visual.")
    try:
        width, _, patch, _ = state["conv1.weight"].shape
        positions, _ = state["positional_embedding"].shape
        _, output = state["proj"].shape
        heads = width // HEAD
        if not heads or width % HEAD:
            raise ValueError(width)
    except (KeyError, ValueError):
        raise ValueError(f"the weights {path} are not those of a CLIP vision transformer") from None
    blocks = len({name.split(".")[2] for name in state if name.startswith("transformer.resblocks.")})
    side = patch * round((positions - 1) ** 0.5)
    tower: nn.Module = VisionTransformer(side, patch, width, blocks, heads, output)
    convert_weights(tower)
    wanted = tower.state_dict()  # a traced module may carry more tensors than its parameters
    fill(tower, {name: value for name, value in state.items() if name in wanted}, path)
    if device.type == "cpu":
        tower.float()
    return tower.to(device).eval().requires_grad_(False)


def load_clip(name: Name, device: torch.device) -> nn.Module:
    """The tower behind a name of eval.networks.weights.FILES, once per process. Raises ValueError if it is absent or unfit."""
    return pack(clip_tower(required(name), device))


def clip_features(batch: Batch, name: Name, device: torch.device) -> Tensor:
    """Image features [b, D] of a batch, not normalised: float32 on a CPU, half precision on a GPU. Computed once."""

    @torch.inference_mode()
    def compute() -> Tensor:
        tower = load_clip(name, device)
        pixels = batch.kept(("clip_input", device), lambda: clip_input(batch.floats_on(device)))
        return in_parts(tower, pixels.to(tower.get_parameter("conv1.weight").dtype))

    return batch.kept(("clip_features", name, device), compute)
