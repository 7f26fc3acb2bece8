"""The VBench dimensions of motion against the vbench package itself: same files, same random weights."""

from __future__ import annotations

import argparse
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from vbench_motion_files import amt_weights, batches, moving, score, write, write_raft

from eval.measure.batch import Batch
from eval.measure.metric import ClipInfo, Metric
from eval.metrics.time.flow_magnitude import FlowMagnitude
from eval.metrics.vbench.dynamic_degree import DynamicDegree, Moves
from eval.metrics.vbench.motion_smoothness import MotionSmoothness
from eval.metrics.vbench.temporal_flickering import TemporalFlickering
from eval.networks import amt, backend, raft
from eval.networks.amt import BothWays
from eval.networks.package import vbench_module

CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """$VBENCH_CACHE_DIR with random weights."""
    place = tmp_path_factory.mktemp("vbench_cache")
    write_raft(place)
    amt_weights(place)
    return place


@pytest.fixture
def weights(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VBENCH_CACHE_DIR", str(cache))
    return cache


def recorded(package: Any) -> list[float]:
    """Makes the package's DynamicDegree note the magnitude of every pair."""
    found: list[float] = []
    measure = package.get_score

    def note(image: Tensor, flow: Tensor) -> float:
        found.append(measure(image, flow))
        return found[-1]

    package.get_score = note
    return found


@pytest.fixture(scope="session")
def package_raft(cache: Path) -> Any:
    path = str(cache / "raft_model" / "models" / "raft-things.pth")
    settings = argparse.Namespace(model=path, small=False, mixed_precision=False, alternate_corr=False)
    return vbench_module("dynamic_degree").DynamicDegree(settings, CPU)


# Frames, height, width, pixels a frame, frames a second.
CLIPS = {
    "one frame": (1, 128, 128, 3, 8),
    "two sampled": (4, 128, 128, 0, 24),
    "padded": (5, 122, 140, 4, 8),
    "every second": (9, 128, 128, 6, 16),
    "portrait": (33, 136, 128, 4, 24),
    "no flow": (3, 64, 96, 3, 8),
}


@pytest.fixture(scope="session")
def dynamics(package_raft: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, bool, list[float]]]:
    """Each clip's file, what the package says of it, and its magnitudes there."""
    place, found = tmp_path_factory.mktemp("dynamics"), {}
    for name, (frames, height, width, speed, fps) in CLIPS.items():
        video = write(place / f"{name}.mp4", moving(frames, height, width, speed), fps)
        magnitudes = recorded(package_raft)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found[name] = (video, package_raft.infer(str(video)), magnitudes)
        del package_raft.get_score
    return found


@pytest.mark.parametrize("name", CLIPS)
def test_dynamic_degree_and_flow_magnitude(
    name: str, dynamics: dict[str, tuple[Path, bool, list[float]]], weights: Path
) -> None:
    video, dynamic, magnitudes = dynamics[name]
    frames, height, width, _, fps = CLIPS[name]
    clip = ClipInfo(frames, fps, height, width)
    both = [DynamicDegree().start(clip, CPU), FlowMagnitude().start(clip, CPU)]
    for batch, first in batches(video, (32,) if frames > 32 else (3, 1, 7)):
        for scorer in both:
            scorer.add(batch, first)
    assert both[0].finish() == dynamic
    expected = np.mean(magnitudes) if magnitudes else np.nan
    np.testing.assert_allclose(both[1].finish(), expected, rtol=1e-6)


@pytest.mark.slow
def test_compiled_flows_are_the_packages(
    dynamics: dict[str, tuple[Path, bool, list[float]]],
    weights: Path,
    monkeypatch: pytest.MonkeyPatch,
    recwarn: pytest.WarningsRecorder,
) -> None:
    raft.load.cache_clear()
    monkeypatch.setattr(backend, "in_use", None)  # put back at the end
    backend.use("compiled", CPU)
    for name in ("every second", "padded"):
        video, _, magnitudes = dynamics[name]
        frames, height, width, _, fps = CLIPS[name]
        scorer = FlowMagnitude().start(ClipInfo(frames, fps, height, width), CPU)
        for batch, first in batches(video, (3, 1, 7)):
            scorer.add(batch, first)
        np.testing.assert_allclose(scorer.finish(), np.mean(magnitudes), rtol=1e-5)
    assert backend.in_use is not None
    assert len(backend.in_use.made) == 3  # features, context, an iteration
    assert not [str(each.message) for each in recwarn if "cannot be compiled" in str(each.message)]


def test_the_clips_show_both_answers(dynamics: dict[str, tuple[Path, bool, list[float]]]) -> None:
    assert {dynamics[name][1] for name in ("padded", "every second", "portrait")} == {True, False}
    assert [dynamics[name][1] for name in ("one frame", "two sampled", "no flow")] == [False, True, False]
    assert max(dynamics["two sampled"][2]) < 3  # below the threshold, and dynamic all the same
    assert np.isnan(dynamics["no flow"][2]).all()


class Known(SimpleNamespace):
    """A pair whose magnitude is known."""


def fake_flow(magnitudes: list[float], asked: list[int]) -> Callable[[ClipInfo, torch.device], Any]:
    """Stands for SampledFlow: a batch is a slice of pairs."""

    def over(pairs: list[Known], threshold: float) -> list[bool]:
        asked.append(len(pairs))
        return [pair.magnitude > threshold for pair in pairs]

    return lambda clip, device: SimpleNamespace(
        sampled=len(magnitudes) + 1, pairs=lambda batch, first: list(batch), over=over
    )


@given(st.lists(st.sampled_from([0.0, 1.0, math.nan]), max_size=40), st.integers(1, 9))
def test_dynamic_degree_stops_as_soon_as_it_can_and_no_pair_is_measured_in_vain(fast: list[float], cut: int) -> None:
    package = vbench_module("dynamic_degree").DynamicDegree.__new__(vbench_module("dynamic_degree").DynamicDegree)
    package.set_params(torch.zeros(1, 3, 256, 256), len(fast) + 1)
    magnitudes = [12 * value for value in fast]
    asked: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eval.metrics.vbench.dynamic_degree.SampledFlow", fake_flow(magnitudes, asked))
        scorer = Moves(ClipInfo(1, 8, 256, 256), CPU)
        for start in range(0, len(magnitudes), cut):
            scorer.add([Known(magnitude=m) for m in magnitudes[start : start + cut]], start)  # type: ignore[arg-type]
    assert scorer.finish() == package.check_move(magnitudes)

    # The shortest prefix after which the rest cannot matter.
    def certain(seen: int) -> bool:
        rest = len(magnitudes) - seen
        answers = {package.check_move(magnitudes[:seen] + [value] * rest) for value in (0.0, 12.0)}
        return len(answers) == 1

    assert sum(asked) == next(seen for seen in range(len(magnitudes) + 1) if certain(seen))


@pytest.mark.parametrize("size", [(128, 136), (64, 72)])
def test_flow_is_the_packages(size: tuple[int, int], package_raft: Any, weights: Path) -> None:
    frames = torch.from_numpy(moving(2, *size, 5)).permute(0, 3, 1, 2).float()
    network = raft.load(weights / "raft_model" / "models" / "raft-things.pth", CPU)
    features = network.features(frames)
    found = network.flow(frames[:-1], features[:-1], features[1:])
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, expected = package_raft.model(frames[:-1], frames[1:], iters=20, test_mode=True)
    assert expected.isnan().all() if min(size) < 128 else expected.abs().max() > 1
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0, equal_nan=True)


@pytest.fixture(scope="session")
def package_amt(cache: Path) -> Any:
    module = vbench_module("motion_smoothness")
    config = Path(module.__file__).parent / "third_party" / "amt" / "cfgs" / "AMT-S.yaml"
    with pytest.MonkeyPatch.context() as patch:  # the fix that its next release has
        load = torch.load
        patch.setattr(torch, "load", lambda *a, **k: load(*a, **k, weights_only=False))
        return module.MotionSmoothness(str(config), str(cache / "amt_model" / "amt-s.pth"), CPU)


@pytest.mark.parametrize(
    ("frames", "height", "width", "cuts"),
    [(3, 128, 130, (32,)), (10, 114, 136, (1,)), (9, 150, 128, (2, 3)), (33, 128, 128, (32,)), (4, 72, 104, (3,))],
)
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")  # the package's, at 72 x 104: NaN becomes 0
def test_motion_smoothness(
    frames: int, height: int, width: int, cuts: tuple[int, ...], package_amt: Any, weights: Path, tmp_path: Path
) -> None:
    video = write(tmp_path / "v.mp4", moving(frames, height, width, 3), 16)
    with torch.no_grad():
        expected = package_amt.motion_score(str(video))
    found = score(MotionSmoothness(), video, ClipInfo(frames, 16, height, width), cuts)
    assert found == pytest.approx(expected, abs=1e-6)
    assert 0.05 < found < 0.99


@pytest.mark.parametrize(
    ("height", "width"), [(16, 16), (17, 23), (33, 20), (15, 16)]
)  # cells; 15 are 1 on the last level
def test_matches_are_looked_up_as_the_package_does(height: int, width: int) -> None:
    generator = torch.Generator().manual_seed(height)
    features, other = torch.randn(2, 2, 12, height, width, generator=generator)
    x, y = torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy")
    there, back = torch.stack([x, y]) + 3 * torch.randn(2, 2, 2, height, width, generator=generator)
    block = vbench_module("third_party.amt.networks.blocks.raft").BidirCorrBlock
    theirs = block(features, other, radius=3, num_levels=4)(there, back)
    ours = BothWays(features, other, radius=3, num_levels=4)(there, back)
    for found, wanted in zip(ours, theirs, strict=True):
        assert found.shape == wanted.shape
        torch.testing.assert_close(found, wanted, atol=2e-6, rtol=0, equal_nan=True)


def test_the_package_keeps_its_own_way(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = vbench_module("third_party.amt.networks.AMT-S")
    before, made, init = module.BidirCorrBlock, [], BothWays.__init__

    def counted(self: BothWays, *features: Any, **settings: Any) -> None:
        made.append(features)
        init(self, *features, **settings)

    monkeypatch.setattr(BothWays, "__init__", counted)
    amt.load(weights / "amt_model" / "amt-s.pth", CPU).midway(*torch.randint(0, 256, (2, 1, 3, 128, 128)))
    assert len(made) == 1
    assert module.BidirCorrBlock is before is not BothWays


@pytest.mark.parametrize("frames", [1, 2])
def test_motion_smoothness_of_fewer_than_three_frames_is_missing(frames: int, weights: Path, tmp_path: Path) -> None:
    video = write(tmp_path / "v.mp4", moving(frames, 64, 64, 3), 16)
    assert math.isnan(score(MotionSmoothness(), video, ClipInfo(frames, 16, 64, 64)))


@pytest.mark.parametrize("dimension", [DynamicDegree(), FlowMagnitude(), MotionSmoothness()])
def test_frames_that_are_too_small_are_one_line(dimension: Metric, weights: Path) -> None:
    with pytest.raises(ValueError, match=r"frames of more than (56 x 56|48 x 48) pixels; these have 48 x 96$"):
        dimension.start(ClipInfo(9, 16, 48, 96), CPU)


@pytest.mark.parametrize(
    ("frames", "height", "width", "cuts"), [(2, 64, 96, (1,)), (10, 72, 104, (3, 1)), (37, 96, 64, (32,))]
)
def test_temporal_flickering(frames: int, height: int, width: int, cuts: tuple[int, ...], tmp_path: Path) -> None:
    video = write(tmp_path / "v.mp4", moving(frames, height, width, 3), 16)
    expected = vbench_module("temporal_flickering").cal_score(str(video))
    found = score(TemporalFlickering(), video, ClipInfo(frames, 16, height, width), cuts)
    assert found == pytest.approx(expected, abs=2e-8)
    frame_list = np.concatenate([batch.frames for batch, _ in batches(video)]).astype(np.float64)
    exact = (255 - np.abs(np.diff(frame_list, axis=0)).mean()) / 255
    assert found == pytest.approx(exact, abs=1e-12)
    assert found < 0.99


def test_flickering_of_one_frame_is_missing(tmp_path: Path) -> None:
    video = write(tmp_path / "v.mp4", moving(1, 64, 64, 3), 16)
    assert math.isnan(score(TemporalFlickering(), video, ClipInfo(1, 16, 64, 64)))


def test_a_batch_is_not_kept_alive(weights: Path, tmp_path: Path) -> None:
    import gc
    import weakref

    video = write(tmp_path / "v.mp4", moving(8, 64, 64, 3), 8)
    clip = ClipInfo(8, 8, 64, 64)
    scorers = [d.start(clip, CPU) for d in (DynamicDegree(), FlowMagnitude(), MotionSmoothness(), TemporalFlickering())]
    gone: list[weakref.ref[Batch]] = []
    for batch, first in batches(video, (4,)):
        for scorer in scorers:
            scorer.add(batch, first)
        gone.append(weakref.ref(batch))
    del batch
    gc.collect()
    assert [reference() for reference in gone] == [None, None]
