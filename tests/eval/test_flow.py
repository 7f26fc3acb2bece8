"""Flows between sampled frames: computed once for all who ask, and upsampled only where an answer needs it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from vbench_motion_files import batches, moving, write, write_raft

from eval.measure.metric import ClipInfo
from eval.metrics.time.flow_magnitude import FlowMagnitude
from eval.metrics.vbench.dynamic_degree import DynamicDegree
from eval.networks import flow, raft

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """$VBENCH_CACHE_DIR with random weights."""
    place = tmp_path_factory.mktemp("vbench_cache")
    write_raft(place)
    return place


@pytest.fixture
def weights(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VBENCH_CACHE_DIR", str(cache))
    return cache


@given(st.integers(0, 2**31), st.floats(0.1, 30), st.sampled_from([(16, 16), (17, 20)]))
def test_no_upsampled_flow_is_longer_than_its_cells_allow(seed: int, scale: float, size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(seed)
    cells = scale * torch.randn(2, 2, *size, generator=generator)
    logits = scale * torch.randn(2, 9 * 64, *size, generator=generator)
    coarse = raft.Coarse(cells, cells[:, :1])
    found = raft.top_magnitude(raft.upsampled(cells, logits))
    assert (found <= raft.most_magnitude(coarse)).all()
    even = raft.Coarse(torch.full_like(cells, scale), cells[:, :1])
    length = 8 * scale * 2**0.5
    torch.testing.assert_close(raft.most_magnitude(even), torch.full((2,), length).double(), rtol=2e-4, atol=0)


def test_a_flow_that_is_not_a_number_has_no_bound() -> None:
    cells = torch.zeros(1, 2, 16, 16)
    cells[0, 0, 5, 5] = math.nan
    assert not raft.most_magnitude(raft.Coarse(cells, cells)) < 1e9


@pytest.mark.parametrize(("threshold", "upsampled"), [(1e9, 0), (0.0, 3)])
def test_a_flow_is_upsampled_where_its_cells_do_not_tell(
    threshold: float, upsampled: int, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = write(tmp_path / "v.mp4", moving(7, 128, 128, 3), 16)
    fine, made = raft.Raft.fine, []
    monkeypatch.setattr(raft.Raft, "fine", lambda self, coarse: made.append(len(coarse.flow)) or fine(self, coarse))
    clip = ClipInfo(7, 16, 128, 128)
    sampled = flow.SampledFlow(clip, CPU)
    ((batch, first),) = batches(video, (7,))
    pairs = sampled.pairs(batch, first)
    over = sampled.over(pairs, threshold)
    assert (len(pairs), sum(made)) == (3, upsampled)
    assert sampled.over(pairs, threshold) == over  # from what is kept
    magnitudes = sampled.measure(pairs)
    assert sum(made) == 3
    assert [magnitude > threshold for magnitude in magnitudes] == over


def test_flows_are_shared_and_no_frame_is_encoded_twice(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = write(tmp_path / "v.mp4", moving(9, 64, 64, 3), 16)
    encoded, flows = [], []
    network = raft.load(weights / "raft_model" / "models" / "raft-things.pth", CPU)

    class Counting:
        def features(self, frames: Tensor) -> Tensor:
            encoded.append(len(frames))
            return network.features(frames)

        def coarse(self, frames: Tensor, *features: Tensor) -> raft.Coarse:
            flows.append(len(frames))
            return raft.Coarse(*torch.zeros(2, len(frames), 2, *(side // 8 for side in frames.shape[2:])))

        def fine(self, coarse: raft.Coarse) -> Tensor:
            return coarse.flow.repeat_interleave(8, 2).repeat_interleave(8, 3)

    monkeypatch.setattr(flow.raft, "load", lambda *_: Counting())
    clip = ClipInfo(9, 16, 64, 64)
    scorers = [DynamicDegree().start(clip, CPU), FlowMagnitude().start(clip, CPU), FlowMagnitude().start(clip, CPU)]
    for batch, first in batches(video, (4, 2)):
        for scorer in scorers:
            scorer.add(batch, first)
    assert (sum(encoded), sum(flows)) == (5, 4)
    assert [scorer.finish() for scorer in scorers] == [0, 0, 0]
