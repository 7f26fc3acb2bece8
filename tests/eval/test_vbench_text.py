"""Overall consistency against the vbench package itself: same files, same random weights."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from vbench_motion_files import moving, score, write, write_viclip, write_vocabulary

from benchmarks.vbench.weights import small_viclip
from eval.measure.metric import ClipInfo
from eval.metrics.vbench.overall_consistency import OverallConsistency, chosen
from eval.networks import viclip
from eval.networks.package import vbench_module

CPU = torch.device("cpu")
PROMPT = "A red ball rolls over the grass &amp; a dog runs after it; " * 4  # more than 30 tokens


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """$VBENCH_CACHE_DIR with random weights."""
    place = tmp_path_factory.mktemp("vbench_cache")
    write_vocabulary(place)
    return place


@pytest.fixture
def weights(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VBENCH_CACHE_DIR", str(cache))
    return cache


def small_package(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The package's ViCLIP module, building a small network."""
    viclip._modules(Path(os.environ["VBENCH_CACHE_DIR"], "ViCLIP", "bpe_simple_vocab_16e6.txt.gz"))
    module = vbench_module("third_party.ViCLIP.viclip")
    for name, builder in small_viclip().items():
        monkeypatch.setattr(module, name, builder)
    return module


def check_overall(module: Any, cache: Path, videos: list[tuple[Path, ClipInfo, tuple[int, ...]]]) -> None:
    torch.manual_seed(3)
    path = write_viclip(cache, module.ViCLIP(tokenizer=object(), pretrain=None))
    model = module.ViCLIP(tokenizer=object(), pretrain=str(path))
    package = vbench_module("overall_consistency")
    for video, clip, cuts in videos:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            listed = [{"prompt": clip.prompt, "video_list": [str(video)]}]
            expected, _ = package.overall_consistency(model, listed, None, CPU)
        found = score(OverallConsistency(), video, clip, cuts)
        assert found == pytest.approx(expected, abs=1e-6)
        assert abs(found) > 1e-3


def test_overall_consistency(weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    videos = []
    for index, (frames, height, width, cuts) in enumerate(
        [(32, 64, 96, (32,)), (37, 250, 226, (5,)), (5, 96, 64, (2,)), (1, 224, 224, (32,)), (9, 72, 160, (1,))]
    ):
        video = write(tmp_path / f"{index}.mp4", moving(frames, height, width, 3, seed=index), 16)
        prompt = (PROMPT, "a dog", "", "a dog", "Ein Hund läuft")[index]
        videos.append((video, ClipInfo(frames, 16, height, width, prompt), cuts))
    check_overall(small_package(monkeypatch), weights, videos)


@pytest.mark.slow
def test_overall_consistency_at_full_size(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = tmp_path / "full"
    write_vocabulary(full)
    monkeypatch.setenv("VBENCH_CACHE_DIR", str(full))
    viclip._modules(full / "ViCLIP" / "bpe_simple_vocab_16e6.txt.gz")
    video = write(tmp_path / "v.mp4", moving(16, 128, 192, 3), 16)
    clip = ClipInfo(16, 16, 128, 192, "a prompt of the full size")
    check_overall(vbench_module("third_party.ViCLIP.viclip"), full, [(video, clip, (32,))])


@pytest.mark.parametrize("frames", [1, 2, 7, 8, 9, 15, 16, 31, 32, 33, 100, 957])
def test_the_frames_that_viclip_sees(frames: int) -> None:
    expected = vbench_module("utils").get_frame_indices(8, frames, sample="middle")
    found = chosen(frames)
    assert found + [found[-1]] * (8 - len(found)) == [int(index) for index in expected]


@pytest.mark.slow
def test_importing_viclip_fetches_nothing(tmp_path: Path) -> None:
    """The vocabulary is not where the package looks for it: the clip package's is used, and no command runs."""
    code = (
        "import subprocess\n"
        "from eval.networks import viclip\n"
        "from eval.networks.weights import required\n"
        "def refuse(*command, **_): raise SystemExit(f'ran {command}')\n"
        "subprocess.Popen.__init__ = refuse\n"
        "_, text = viclip._modules(required('viclip_vocabulary'))\n"
        "print(text._Tokenizer().encode('a dog'))\n"
    )
    environment = os.environ | {"VBENCH_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.getcwd()}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "[320, 1929]\n", done.stderr
    assert done.stderr == ""  # nor does the package's logging or a warning of its imports come through
