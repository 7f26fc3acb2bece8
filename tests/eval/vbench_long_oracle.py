"""The vbench2_beta_long package itself at work: run as a program, `python vbench_long_oracle.py JOB.json`, and imported
for what its networks are.

Beside it stand modules that it imports and that these runs have no use for (scene detection, moviepy), a write_video as
torchvision had it until 0.25, and networks of a few thousand random weights in place of DINOv2 and DreamSim.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from torch import Tensor, nn

from deepforcing.torchvision_cpu import make_importable
from eval.reencode import _assembly

make_importable()

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
    return module("dreamsim", dreamsim=lambda pretrained, cache_dir, device="cpu": (Embedder(), None))


def write_dinov2(torch_home: Path) -> None:
    """A repository with DINOv2's entry point, and its checkpoint, where torch.hub keeps them."""
    repository = torch_home / "hub" / "facebookresearch_dinov2_main"
    repository.mkdir(parents=True)
    (repository / "hubconf.py").write_text(DINOV2_REPOSITORY)
    torch.manual_seed(11)
    network = torch.hub.load(str(repository), "dinov2_vitb14", source="local", pretrained=False)
    (torch_home / "hub" / "checkpoints").mkdir(exist_ok=True)
    torch.save(network.state_dict(), torch_home / "hub" / "checkpoints" / "dinov2_vitb14_pretrain.pth")


def module(name: str, **content: Any) -> types.ModuleType:
    made = types.ModuleType(name)
    vars(made).update(content)
    return made


def write_video(filename: str, video_array: Any, fps: int) -> None:
    frames = torch.as_tensor(video_array, dtype=torch.uint8).numpy()
    with av.open(filename, mode="w") as container:
        # x264 kept off AVX-512, where it does not repeat itself (eval/reencode.py); the rest is as it was.
        stream = container.add_stream("libx264", rate=fps, options=_assembly())
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        for image in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def install(torch_home: Path) -> None:
    """Everything that the package imports and cannot find here."""
    nothing = dict.fromkeys(("open_video", "SceneManager", "split_video_ffmpeg"))
    sys.modules["scenedetect"] = module("scenedetect", **nothing)
    sys.modules["scenedetect.detectors"] = module("scenedetect.detectors", ContentDetector=None)
    sys.modules["scenedetect.video_splitter"] = module("scenedetect.video_splitter", split_video_ffmpeg=None)
    sys.modules["moviepy"] = module("moviepy")
    sys.modules["moviepy.editor"] = module("moviepy.editor", VideoFileClip=None)
    sys.modules["dreamsim"] = dreamsim_module()
    import torchvision.io

    torchvision.io.write_video = write_video
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
    import vbench
    from vbench2_beta_long import VBenchLong

    info = str(Path(vbench.__file__).parent / "VBench_full_info.json")
    configs, out = Path(job["configs"]), job["out"]
    results: dict[str, Any] = {}
    for key, (dimension, dev, extractor) in job["runs"].items():
        VBenchLong(torch.device("cpu"), info, out).evaluate(
            videos_path=job["videos"],
            name=key,
            dimension_list=[dimension],
            local=True,
            mode="long_custom_input",
            use_semantic_splitting=False,
            clip_length_config=str(configs / "clip_length_mix.yaml"),
            dev_flag=dev,
            sb_clip2clip_feat_extractor=extractor,
            bg_clip2clip_feat_extractor=extractor,
            w_inclip=1.0,
            w_clip2clip=0.0,
            slow_fast_eval_config=str(configs / "slow_fast_params.yaml"),
            sb_mapping_file_path=str(configs / "subject_mapping_table.yaml"),
            bg_mapping_file_path=str(configs / "background_mapping_table.yaml"),
            num_of_samples_per_prompt=5,
            static_filter_flag=False,
            imaging_quality_preprocessing_mode="longer",
        )
        results[key] = json.loads((Path(out) / f"{key}_eval_results.json").read_text())[dimension]
    results["split"] = split(job["lengths"], job["rates"])
    return results


if __name__ == "__main__":
    path = Path(sys.argv[1])
    found = main(json.loads(path.read_text()))
    path.with_suffix(".results.json").write_text(json.dumps(found))
