"""The recency bias by the published formula, chunk by chunk, and what it does to attention."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from driver import CHUNK, GRID, S, cache_for, draw, drive
from hydra.utils import instantiate
from naive import turn_frames
from omegaconf import OmegaConf

from deepforcing.cache.policy import CachePolicy, Slot, View
from deepforcing.cache.recency import RecencyBias
from deepforcing.cache.retention import SinkWindow

CONF = Path(__file__).parents[2] / "conf" / "cache" / "recency_forcing.yaml"


def test_the_preset_is_sink_3_recent_3_current_3_and_12_of_history() -> None:
    policy: CachePolicy = instantiate(OmegaConf.load(CONF), _convert_="object")
    frames = [0, 1, 2, *range(45, 60)]
    view = View(tuple(Slot("sink" if f < 3 else "tail", f) for f in frames), 60)
    assert policy.aligned.positions(view) == list(range(42, 60))
    assert policy.bias is not None
    for step, exponent in enumerate((0.2, 0.4, 0.8, 1.6)):
        history = [-4 * distance**exponent for distance in (1.0, 0.75, 0.5, 0.25)]
        wanted = [0.0] * 3 + [bias for bias in history for _ in range(3)] + [0.0] * 3
        assert policy.bias.logits(view, step) == pytest.approx(wanted)
    assert policy.max_frames(3) is None


@pytest.mark.parametrize("commit_frames", [None, 6])
def test_denoising_is_biased_and_commits_are_not(commit_frames: int | None) -> None:
    bias = RecencyBias(strength=3.0, gamma=0.25, recent_frames=3, history_frames=6, sink_frames=2)
    policy = CachePolicy(SinkWindow(12, 2), "sink", commit_frames=commit_frames, bias=bias)
    frames: list[int] = []
    held = {}
    for step in drive(cache_for(policy), 9):
        start = step.view.start
        frames = frames if len(frames) + CHUNK <= 12 else [*frames[:2], *frames[2 + CHUNK :]]
        positions = [start - len(frames) + i for i in range(len(frames))]
        own = list(range(start, start + CHUNK))
        for i, name in enumerate(("noisy", "less noisy", "clean")):
            q, k, v = draw(f"{start // CHUNK}{name}0")
            for j, frame in enumerate(own):
                held[frame] = k[:, :, j * S : j * S + S], v[:, :, j * S : j * S + S]
            read, at = [*frames, *own], [*positions, *own]
            added = torch.zeros(len(read), dtype=torch.float64)
            if name == "clean" and commit_frames is not None:
                at = read = list(range(max(0, start + CHUNK - commit_frames), start + CHUNK))
                added = added[: len(read)]
            elif name != "clean":
                for n in range(2, len(read)):
                    behind = (len(read) - 1 - n) // CHUNK  # whole chunks
                    far = min(1.0, max(0.0, (3 * behind - 3) / 6))
                    added[n] = -3.0 * far ** (0.25 * 2 ** (i + 1)) if far else 0.0
            keys = turn_frames(torch.cat([held[f][0] for f in read], 2), at, GRID)
            logits = turn_frames(q, own, GRID) @ keys.mT / 14**0.5 + added.repeat_interleave(S)
            want = logits.softmax(-1) @ torch.cat([held[f][1] for f in read], 2).double()
            torch.testing.assert_close(step.out[i][0].double(), want, atol=2e-5, rtol=1e-5)
        frames += own


@pytest.mark.parametrize("wrong", [{"recent_frames": -1}, {"history_frames": 0}, {"sink_frames": -2}, {"gamma": -0.5}])
def test_sizes_that_cannot_work_are_refused(wrong: dict[str, float]) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=f"{name}={wrong[name]}"):
        RecencyBias(**wrong)  # type: ignore[arg-type]
