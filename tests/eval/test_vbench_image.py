"""VBench's dimensions of single frames against the vbench package itself, on the same files with the same weights."""

from __future__ import annotations

import io
import json
import math
import os
import pickle
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
import vbench_files as files

from eval.batch import Batch
from eval.dimension import ClipInfo, Dimension
from eval.metrics.aesthetic_quality import AestheticQuality
from eval.metrics.background_consistency import BackgroundConsistency
from eval.metrics.imaging_quality import ImagingQuality
from eval.metrics.subject_consistency import SubjectConsistency
from eval.networks.torchscript import read_torchscript

CPU = torch.device("cpu")
DIMENSIONS: dict[str, Dimension] = {
    "subject_consistency": SubjectConsistency(),
    "background_consistency": BackgroundConsistency(),
    "aesthetic_quality": AestheticQuality(),
    "imaging_quality": ImagingQuality(),
}
VIDEOS = {  # frames, height, width, and where batches are cut
    "wide": (9, 64, 96, (1, 2, 5)),
    "tall": (5, 96, 64, (4,)),
    "longer_than_512": (3, 96, 640, (2,)),
    "many": (41, 48, 80, (32, 33)),
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Random weights of all four dimensions, where VBENCH_CACHE_DIR and TORCH_HOME point while the module runs."""
    folder = tmp_path_factory.mktemp("vbench")
    for name in files.CLIP_FILES:
        files.write_clip(folder, name)
    files.write_aesthetic_head(folder)
    files.write_musiq(folder)
    files.write_dino(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VBENCH_CACHE_DIR", str(folder))
        patch.setenv("TORCH_HOME", str(folder / "torch_home"))
        patch.setenv("HOME", str(folder / "home"))
        yield folder


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("videos")
    return {
        name: files.write_video(folder / f"{name}.mp4", n, height, width, seed)
        for seed, (name, (n, height, width, _)) in enumerate(VIDEOS.items())
    }


def package(name: str, paths: Sequence[Path], cache: Path) -> list[float]:
    """Each video's score by the vbench package's own function, its networks loaded as its init_submodules has it."""
    from vbench import aesthetic_quality, background_consistency, imaging_quality, subject_consistency

    information = cache / f"{name}.json"
    record = {"prompt_en": "", "dimension": [name], "video_list": [str(path) for path in paths]}
    information.write_text(json.dumps([record]))
    clip = cache / "clip_model"
    if name == "subject_consistency":
        repository = cache / "dino_model" / "facebookresearch_dino_main"
        dino = {"repo_or_dir": repository, "source": "local", "model": "dino_vitb16", "read_frame": False}
        _, results = subject_consistency.compute_subject_consistency(information, CPU, dino)
    elif name == "background_consistency":
        _, results = background_consistency.compute_background_consistency(
            information, CPU, [str(clip / "ViT-B-32.pt"), False]
        )
    elif name == "aesthetic_quality":
        head = str(cache / "aesthetic_model" / "emb_reader")
        _, results = aesthetic_quality.compute_aesthetic_quality(information, CPU, [str(clip / "ViT-L-14.pt"), head])
    else:
        musiq = {"model_path": str(cache / "pyiqa_model" / "musiq_spaq_ckpt-358bb6af.pth")}
        _, results = imaging_quality.compute_imaging_quality(information, CPU, musiq)
    assert [result["video_path"] for result in results] == [str(path) for path in paths]
    return [float(result["video_results"]) / (100 if name == "imaging_quality" else 1) for result in results]


def decoded(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def ours(dimension: Dimension, path: Path, cuts: Sequence[int] = ()) -> float:
    frames = decoded(path)
    scorer = dimension.start(ClipInfo(len(frames), 8.0, frames[0].height, frames[0].width), CPU)
    edges = [0, *cuts, len(frames)]
    for start, end in zip(edges, edges[1:], strict=False):
        scorer.add(Batch(frames[start:end]), start)
    return scorer.value()


@pytest.mark.parametrize("name", DIMENSIONS)
def test_the_package_gives_the_same_score(name: str, cache: Path, videos: dict[str, Path]) -> None:
    chosen = [key for key in VIDEOS if not (name == "imaging_quality" and key == "many")]  # half a second a frame
    theirs = package(name, [videos[key] for key in chosen], cache)
    found = [ours(DIMENSIONS[name], videos[key], VIDEOS[key][3]) for key in chosen]
    assert found == pytest.approx(theirs, abs=1e-6, rel=0)
    assert np.ptp(theirs) > 1e-4  # the weights do tell videos apart
