"""Random weights in the layout of the published files, and small videos, for the VBench dimensions of motion and text."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from eval.batch import Batch
from eval.networks.package import vbench_module
from eval.weights import clip_package

VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"
VIDEO_WIDTH, TEXT_WIDTH = 128, 64  # of the small ViCLIP: 2 heads and 1


def raft_weights(cache: Path) -> None:
    """raft-things.pth, with random flows on either side of the threshold."""
    torch.manual_seed(0)
    settings = argparse.Namespace(small=False, mixed_precision=False, alternate_corr=False)
    model = vbench_module("third_party.RAFT.core.raft").RAFT(settings)
    for encoder in (model.fnet, model.cnet):
        encoder.conv2.weight.data *= 2  # the random flow then follows the content more
    model.update_block.flow_head.conv2.bias.data.zero_()
    model.update_block.flow_head.conv2.weight.data *= 0.095  # about the threshold of 128 px
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
    place = cache / "raft_model" / "models" / "raft-things.pth"
    place.parent.mkdir(parents=True)
    torch.save({f"module.{name}": tensor for name, tensor in model.state_dict().items()}, place)


def amt_weights(cache: Path) -> None:
    """amt-s.pth, with what else a training run saves."""
    torch.manual_seed(1)
    model = vbench_module("third_party.amt.networks.AMT-S").Model()
    place = cache / "amt_model" / "amt-s.pth"
    place.parent.mkdir(parents=True)
    torch.save({"epoch": 300, "state_dict": model.state_dict(), "config": argparse.Namespace(lr=2e-4)}, place)


def viclip_weights(cache: Path, model: Any) -> Path:
    """ViClip-InternVid-10M-FLT.pth of a model, with values where the package leaves memory as it finds it."""
    torch.manual_seed(2)
    for parameter in (model.vision_encoder.proj, model.text_encoder.text_projection):
        torch.nn.init.normal_(parameter, std=0.1)
    for encoder in (model.vision_encoder, model.text_encoder):
        torch.nn.init.normal_(encoder.positional_embedding, std=0.1)
    torch.nn.init.normal_(model.vision_encoder.temporal_positional_embedding, std=0.1)
    place = cache / "ViCLIP" / "ViClip-InternVid-10M-FLT.pth"
    place.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": model.state_dict()}, place)
    return place


def vocabulary(cache: Path) -> Path:
    place = cache / "ViCLIP" / VOCABULARY
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(clip_package() / VOCABULARY, place)
    return place


def moving(frames: int, height: int, width: int, speed: float, seed: int = 0) -> NDArray[np.uint8]:
    """A texture that slides by `speed` px a frame and a disc that crosses it, uint8 [N, H, W, 3]."""
    rng = np.random.default_rng(seed)
    large = rng.integers(0, 256, (height // 8 + 20, width // 8 + 60, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    large = cv2.GaussianBlur(large, (0, 0), 2)
    found = []
    for index in range(frames):
        down, right = int(index * speed / 2) % 120, int(index * speed) % 400
        frame = large[down : down + height, right : right + width].copy()
        cv2.circle(frame, (int(20 + 2 * speed * index) % width, height // 2), height // 6, (220, 30, 30), -1)
        found.append(frame)
    return np.stack(found)


def write(path: Path, frames: NDArray[np.uint8], fps: int) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def batches(path: Path, cuts: tuple[int, ...] = (32,)) -> Iterator[tuple[Batch, int]]:
    """A video's batches and where each starts; their lengths are `cuts`, over and over."""
    with av.open(str(path)) as container:
        decoded = list(container.decode(video=0))
    start, turn = 0, 0
    while start < len(decoded):
        length = cuts[turn % len(cuts)]
        yield Batch(decoded[start : start + length]), start
        start, turn = start + length, turn + 1
