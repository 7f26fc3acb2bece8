"""The vbench2_beta_long package itself at work: run as a program, `python vbench_long_oracle.py JOB.json`, and imported
for what its networks are.

What it cannot find here is stood in for by benchmarks.vbench.package, DINOv2 and DreamSim by networks of a few thousand
random weights.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.vbench import package

DINOV2_REPOSITORY = """
import torch

dependencies = ["torch"]

def dinov2_vitb14(pretrained=True):
    assert not pretrained
    return torch.nn.Sequential(torch.nn.Conv2d(3, 24, 14, 14), torch.nn.GELU(), torch.nn.AdaptiveAvgPool2d(4),
                               torch.nn.Flatten())
"""


class Embedder(nn.Module):
    """In place of DreamSim's ensemble."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 24, 16, 16)
        with torch.random.fork_rng():
            torch.manual_seed(5)
            self.patches.reset_parameters()
        self.requires_grad_(False)

    def embed(self, images: Tensor) -> Tensor:
        return nn.functional.gelu(self.patches(images)).unflatten(-1, (7, 2)).mean((2, 4)).flatten(1)


def dreamsim_module() -> types.ModuleType:
    return package.module("dreamsim", dreamsim=lambda pretrained, cache_dir, device="cpu": (Embedder(), None))


def write_dinov2(torch_home: Path) -> None:
    """A repository with DINOv2's entry point, and its checkpoint, where torch.hub keeps them."""
    repository = torch_home / "hub" / "facebookresearch_dinov2_main"
    repository.mkdir(parents=True)
    (repository / "hubconf.py").write_text(DINOV2_REPOSITORY)
    torch.manual_seed(11)
    network = torch.hub.load(str(repository), "dinov2_vitb14", source="local", pretrained=False)
    (torch_home / "hub" / "checkpoints").mkdir(exist_ok=True)
    torch.save(network.state_dict(), torch_home / "hub" / "checkpoints" / "dinov2_vitb14_pretrain.pth")


def install(torch_home: Path) -> None:
    """Everything that the package imports and cannot find here."""
    package.install(dreamsim_module())
    load = torch.hub.load

    def local(repo_or_dir: str, model: str, **options: Any) -> Any:
        if repo_or_dir != "facebookresearch/dinov2":
            return load(repo_or_dir, model, **options)
        network = load(
            str(torch_home / "hub" / "facebookresearch_dinov2_main"), model, source="local", pretrained=False
        )
        network.load_state_dict(torch.load(torch_home / "hub" / "checkpoints" / "dinov2_vitb14_pretrain.pth"))
        return network

    torch.hub.load = local


def split(lengths: list[int], rates: list[float]) -> list[list[Any]]:
    """[frames, fps, [[first, last + 1, fps of the file] of each clip]] by the package's splitter."""
    from vbench2_beta_long import utils

    found = []
    for fps in rates:
        utils.VideoReader = lambda *_, fps=fps, **__: types.SimpleNamespace(get_avg_fps=lambda: fps)
        for n in lengths:
            clips: list[list[int]] = []
            utils.load_video = lambda *_, n=n, **__: torch.arange(n).view(n, 1, 1, 1)
            utils.write_video = lambda _, frames, fps, clips=clips: clips.append(
                [int(frames[0]), int(frames[-1]) + 1, fps]
            )
            utils.split_video_into_clips("a-0.mp4", "/tmp", 2)
            found.append([n, fps, clips])
    return found


def main(job: dict[str, Any]) -> dict[str, Any]:
    install(Path(job["torch_home"]))
    results: dict[str, Any] = {}
    for key, (dimension, dev, extractor) in job["runs"].items():
        results[key] = package.evaluate(
            job["videos"], job["out"], Path(job["configs"]), key, dimension, torch.device("cpu"), dev, extractor
        )
    results["split"] = split(job["lengths"], job["rates"])
    return results


if __name__ == "__main__":
    path = Path(sys.argv[1])
    found = main(json.loads(path.read_text()))
    path.with_suffix(".results.json").write_text(json.dumps(found))
