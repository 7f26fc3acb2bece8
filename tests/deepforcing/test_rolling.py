"""The rolling window and its cache: sizes, streaming, batches, other policies. Parity is tested by replay."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deepforcing.cache.compression import ParticipativeCompression
from deepforcing.cache.kv import KVCache
from deepforcing.cache.policy import CachePolicy
from deepforcing.cache.retention import KeepAll, SinkWindow
from deepforcing.rollout.noise import KeyedNoise
from deepforcing.rollout.rolling import rolling
from deepforcing.rollout.rules import Rolling
from deepforcing.rollout.schedule import Schedule
from deepforcing.wan.config import WanConfig
from deepforcing.wan.weights import random_wan

CONFIG = WanConfig(
    dim=40, ffn_dim=64, freq_dim=16, in_dim=3, out_dim=3, num_heads=2, num_layers=2, text_dim=10, text_len=4
)
MODEL = random_wan(CONFIG)
SCHEDULE = Schedule((1000, 750, 500))
PUBLISHED = CachePolicy(SinkWindow(21, 3), "sink")
SMALL = CachePolicy(SinkWindow(15, 3), "sink")


def generate(total: int, policy: CachePolicy = SMALL, seeds: tuple[int, ...] = (0,)) -> tuple[Tensor, list[int]]:
    text = MODEL.encode_text(
        torch.randn(1, 4, 10, generator=torch.Generator().manual_seed(8)).expand(len(seeds), -1, -1)
    )
    cache = KVCache(Rolling().cached(policy, 3), CONFIG, (2, 2), 3, total, len(seeds))
    chunks = list(rolling(MODEL, text, cache, SCHEDULE, KeyedNoise([(i, "p") for i in seeds]), total, (4, 4)))
    assert [c.start for c in chunks] == list(range(0, total, 3))
    return torch.cat([c.latents for c in chunks], 1), [c.tokens // 4 for c in chunks]


@pytest.mark.parametrize(
    ("policy", "capacity"),
    [
        (PUBLISHED, 24),
        (CachePolicy(SinkWindow(21), "absolute"), 21),
        (CachePolicy(SinkWindow(20, 4), "slot"), 24),
        (CachePolicy(KeepAll()), 90),
    ],
)
def test_cache_holds_what_either_kind_of_pass_reads(policy: CachePolicy, capacity: int) -> None:
    assert Rolling().cached(policy, 3).slots(3, 90) == capacity
    assert Rolling().cached(policy, 3).slots(3, 9) == 9


def test_window_never_reads_more_than_the_policy_allows() -> None:
    _, read = generate(45)
    assert max(read) == 15
    assert read[0] == 9  # the first chunk's last window: nothing before it


@pytest.mark.parametrize("alignment", ["absolute", "sink", "slot"])
@pytest.mark.parametrize("sink", [0, 3, 4])
def test_a_window_longer_than_the_video_is_keep_all(alignment: str, sink: int) -> None:
    everything, _ = generate(27, CachePolicy(KeepAll()))
    wide, _ = generate(27, CachePolicy(SinkWindow(60, sink), alignment))
    torch.testing.assert_close(wide, everything, atol=1e-5, rtol=0)


def test_chunks_do_not_depend_on_what_comes_after_their_window() -> None:
    short, _ = generate(30)
    long, _ = generate(42)
    assert torch.equal(short[:, :24], long[:, :24])  # the last two chunks of the short video had shorter windows
    assert not torch.allclose(short[:, 24:], long[:, 24:30], atol=1e-4)


def test_videos_do_not_depend_on_their_batch() -> None:
    both, _ = generate(24, seeds=(0, 1))
    for i in (0, 1):
        alone, _ = generate(24, seeds=(i,))
        torch.testing.assert_close(both[i : i + 1], alone, atol=1e-5, rtol=0)


def test_refusals() -> None:
    def check(policy: CachePolicy, total: int) -> None:
        Rolling().check(policy, SCHEDULE, 3, total)

    check(SMALL, 9)
    check(SMALL, 1023)
    for policy, total, says in [
        (SMALL, 6, "less than one rolling window"),
        (SMALL, 1026, "the longest video of a rolling window is 1023"),
        (CachePolicy(SinkWindow(15, 7)), 30, "sink_frames can be at most 6"),
        (CachePolicy(ParticipativeCompression()), 30, "chooses single tokens"),
    ]:
        with pytest.raises(ValueError, match=says):
            check(policy, total)
