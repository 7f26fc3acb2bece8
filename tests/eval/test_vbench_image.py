"""VBench's dimensions of single frames against the vbench package itself, on the same files with the same weights."""

from __future__ import annotations

import itertools
import json
import math
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import vbench_files as files
from vbench_files import DIMENSIONS

from benchmarks.vbench.weights import FULL_DINO
from eval.measure.batch import Batch
from eval.measure.metric import ClipInfo, Metric
from eval.measure.scorers import Consistency
from eval.metrics.time.clip_drift import ClipDrift
from eval.metrics.time.repetition import Repetition
from eval.metrics.vbench.aesthetic_quality import AestheticQuality
from eval.metrics.vbench.background_consistency import BackgroundConsistency
from eval.metrics.vbench.subject_consistency import SubjectConsistency
from eval.networks import clip, musiq
from eval.networks.preprocess import clip_input, dino_input, musiq_input

pytestmark = [  # what the vbench package and the archives that it needs warn of
    pytest.mark.filterwarnings(f"ignore:.*{text}")
    for text in ("pkg_resources", "torch.jit", "Converting a tensor", "Failed to load image")
]
CPU = torch.device("cpu")
VIDEOS = {  # frames, height, width, and where batches are cut
    "wide": (9, 64, 96, (1, 2, 5)),
    "tall": (5, 96, 64, (4,)),
    "longer_than_512": (3, 96, 640, (2,)),
    "many": (41, 48, 80, (32, 33)),
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield from files.image_cache(tmp_path_factory.mktemp("vbench"))


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


def ours(dimension: Metric, path: Path, cuts: Sequence[int] = ()) -> float:
    frames = decoded(path)
    scorer = dimension.start(ClipInfo(len(frames), 8.0, frames[0].height, frames[0].width), CPU)
    edges = [0, *cuts, len(frames)]
    for start, end in itertools.pairwise(edges):
        scorer.add(Batch(frames[start:end]), start)
    return scorer.finish()


@pytest.mark.parametrize("name", DIMENSIONS)
def test_the_package_gives_the_same_score(
    name: str, cache: Path, videos: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(musiq, "FRAMES_AT_ONCE", 3)
    chosen = ["tall", "longer_than_512"] if name == "imaging_quality" else list(VIDEOS)  # MUSIQ is at its real size
    theirs = package(name, [videos[key] for key in chosen], cache)
    found = [ours(DIMENSIONS[name], videos[key], VIDEOS[key][3]) for key in chosen]
    assert found == pytest.approx(theirs, abs=1e-6, rel=0)
    assert np.ptp(theirs) > 1e-4  # the weights do tell videos apart


@pytest.mark.parametrize("name", DIMENSIONS)
def test_where_batches_are_cut_changes_nothing(name: str, cache: Path, videos: dict[str, Path]) -> None:
    whole = ours(DIMENSIONS[name], videos["tall"])
    assert ours(DIMENSIONS[name], videos["tall"], (1, 2, 3, 4)) == pytest.approx(whole, abs=1e-7, rel=0)


def test_negative_similarities_count_as_none(videos: dict[str, Path]) -> None:
    from vbench.subject_consistency import subject_consistency

    def pixels(images: torch.Tensor) -> torch.Tensor:
        return images[:, :, ::16, ::16].flatten(1) + 0.7  # about 0, so that dark frames are opposite to bright ones

    frames = decoded(videos["many"])
    features = torch.nn.functional.normalize(pixels(dino_input(Batch(frames).floats_on(CPU))), dim=-1)
    assert ((features @ features[0]) < -0.1).any()
    scorer = Consistency(lambda batch: pixels(dino_input(batch.floats_on(CPU))))
    for start in range(0, len(frames), 7):
        scorer.add(Batch(frames[start : start + 7]), start)
    _, results = subject_consistency(pixels, [str(videos["many"])], CPU, False)
    assert scorer.finish() == pytest.approx(results[0]["video_results"], abs=1e-6, rel=0)


@pytest.mark.parametrize("name", DIMENSIONS)
def test_clips_that_share_batches(name: str, cache: Path, videos: dict[str, Path]) -> None:
    """Two overlapping clips fed from one pass score as each of them alone does."""
    frames, dimension = decoded(videos["wide"])[:6], DIMENSIONS[name]
    info = ClipInfo(4, 8.0, 64, 96)
    together = [dimension.start(info, CPU) for _ in range(2)]
    for start in (0, 2, 4):
        batch = Batch(frames[start : start + 2])
        for offset, scorer in zip((0, 2), together, strict=True):
            if offset <= start < offset + 4:
                scorer.add(batch, start - offset)
    for offset, scorer in zip((0, 2), together, strict=True):
        alone = dimension.start(info, CPU)
        alone.add(Batch(frames[offset : offset + 4]), 0)
        assert scorer.finish() == pytest.approx(alone.finish(), abs=1e-7, rel=0)


def test_one_frame_has_no_consistency_but_a_quality(cache: Path, videos: dict[str, Path]) -> None:
    frame, info = decoded(videos["wide"])[:1], ClipInfo(1, 8.0, 64, 96)
    for name, dimension in DIMENSIONS.items():
        scorer = dimension.start(info, CPU)
        assert math.isnan(scorer.finish())
        scorer.add(Batch(frame), 0)
        assert math.isnan(scorer.finish()) == name.endswith("consistency")


def test_networks_and_shared_features_are_made_once(
    cache: Path, videos: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert clip.load_clip("clip_b32", CPU) is clip.load_clip("clip_b32", torch.device("cpu"))
    assert musiq.load_musiq(CPU) is musiq.load_musiq(CPU)
    resizes = []
    monkeypatch.setattr(clip, "clip_input", lambda frames: resizes.append(1) or clip_input(frames))
    info, batch = ClipInfo(2, 8.0, 64, 96), Batch(decoded(videos["wide"])[:2])
    for metric in (BackgroundConsistency(), AestheticQuality(), ClipDrift(), Repetition()):
        metric.start(info, CPU).add(batch, 0)
    assert resizes == [1]
    assert clip.clip_features(batch, "clip_b32", CPU) is clip.clip_features(batch, "clip_b32", CPU)
    assert not clip.clip_features(batch, "clip_b32", CPU).requires_grad


def test_preprocessing_is_torchvisions(videos: dict[str, Path]) -> None:
    from vbench.imaging_quality import transform
    from vbench.utils import clip_transform, dino_transform

    for height, width in ((48, 86), (300, 224), (513, 700), (224, 224), (601, 7)):
        frames = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(width)) * 255
        if width > 7:  # the package enlarges this one to 19238 x 224
            assert torch.equal(clip_input(frames), clip_transform(224)(frames))
            assert torch.equal(dino_input(frames), dino_transform(224)(frames))
            last = frames.contiguous(memory_format=torch.channels_last)  # as bilinear_layout may have it
            assert torch.equal(dino_input(last), dino_input(frames))
            assert torch.equal(musiq_input(last), musiq_input(frames))
        assert torch.equal(musiq_input(frames), transform(frames, "longer"))


def test_dino_takes_its_checkpoint_as_torch_hub_does(
    tmp_path: Path, videos: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VBENCH_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    repository = files.write_dino(tmp_path, downloads=True)
    with pytest.raises(ValueError, match=r"DINO ViT-B/16 is not at .*experiments\.weights metrics"):
        ours(SubjectConsistency(), videos["wide"])
    network = torch.hub.load(str(repository), "dino_vitb16", source="local", pretrained=False)
    files.randomise(network, 2.0)
    checkpoint = tmp_path / "torch" / "hub" / "checkpoints" / "dino_vitbase16_pretrain.pth"
    files.save(network.state_dict(), checkpoint)
    theirs = package("subject_consistency", [videos["wide"]], tmp_path)
    assert ours(SubjectConsistency(), videos["wide"]) == pytest.approx(theirs[0], abs=1e-6, rel=0)
    (tmp_path / "dino_model" / "dino_vitbase16_pretrain.pth").unlink()
    shutil.move(checkpoint, tmp_path / "dino_model" / "dino_vitbase16_pretrain.pth")  # not where torch.hub looks
    assert ours(SubjectConsistency(), videos["wide"]) == pytest.approx(theirs[0], abs=1e-6, rel=0)


def test_a_clips_feature_is_the_mean_of_unit_features(cache: Path, videos: dict[str, Path]) -> None:
    frames = decoded(videos["wide"])
    scorer = ClipDrift().start(ClipInfo(len(frames), 8.0, 64, 96), CPU)
    for start, end in ((0, 2), (2, len(frames))):
        scorer.add(Batch(frames[start:end]), start)
    features = clip.clip_features(Batch(frames), "clip_b32", CPU).double().numpy()
    expected = (features / np.linalg.norm(features, axis=1, keepdims=True)).mean(0)
    np.testing.assert_allclose(scorer.finish(), expected, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["background_consistency", "aesthetic_quality"])
def test_full_size_towers(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CLIP at its real sizes; MUSIQ always is."""
    monkeypatch.setenv("VBENCH_CACHE_DIR", str(tmp_path))
    layers, width, weights = (12, 768, "clip_b32") if name == "background_consistency" else (24, 1024, "clip_l14")
    files.write_clip(tmp_path, weights, layers, width)
    files.write_aesthetic_head(tmp_path)
    video = files.write_video(tmp_path / "video.mp4", 4, 120, 208)
    assert ours(DIMENSIONS[name], video, (3,)) == pytest.approx(package(name, [video], tmp_path)[0], abs=1e-6, rel=0)


@pytest.mark.slow
def test_full_size_dino(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By timm's layers, which are DINO's: its own source is not distributed with this project or its packages."""
    for name in ("VBENCH_CACHE_DIR", "TORCH_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    files.write_dino(tmp_path, FULL_DINO)
    video = files.write_video(tmp_path / "video.mp4", 5, 120, 208)
    name = "subject_consistency"
    assert ours(DIMENSIONS[name], video, (3,)) == pytest.approx(package(name, [video], tmp_path)[0], abs=1e-6, rel=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", DIMENSIONS)
def test_a_gpu_gives_the_packages_numbers(
    name: str, cache: Path, videos: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the same device: CLIP in half precision on both sides."""
    here = sys.modules[__name__]
    monkeypatch.setattr(here, "CPU", torch.device("cuda"))
    theirs = package(name, [videos["wide"]], cache)[0]
    assert ours(DIMENSIONS[name], videos["wide"], (5,)) == pytest.approx(theirs, abs=2e-4, rel=0)
