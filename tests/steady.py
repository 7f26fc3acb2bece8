"""A small model and policies of every kind whose steady passes the tests compile and record."""

from __future__ import annotations

from deepforcing.cache.alignment import ReleaseSink
from deepforcing.cache.bands import BandedPolicy
from deepforcing.cache.compression import ParticipativeCompression
from deepforcing.cache.dummy_forcing import DummyForcing
from deepforcing.cache.forcing_kv import ForcingKV
from deepforcing.cache.head_classes import HeadClasses
from deepforcing.cache.policy import CachePolicy
from deepforcing.cache.pyramid_forcing import PyramidForcing, PyramidPositions
from deepforcing.cache.retention import SinkWindow
from deepforcing.cache.scorers import DenoisingGap
from deepforcing.rollout.schedule import Schedule
from deepforcing.wan.config import WanConfig

CONFIG = WanConfig(
    dim=28, ffn_dim=32, freq_dim=16, in_dim=3, out_dim=3, num_heads=2, num_layers=2, text_dim=10, text_len=4
)
SCHEDULE = Schedule((1000, 500))
POLICIES = {
    "self_forcing": CachePolicy(SinkWindow(21)),
    "sink": CachePolicy(SinkWindow(21, 10)),
    "deep_sink": CachePolicy(SinkWindow(21, 10), "sink"),
    "deep_forcing": CachePolicy(ParticipativeCompression(), "unified"),
    "decoprune": CachePolicy(ParticipativeCompression(scorer=DenoisingGap()), "unified"),
    "deep_forcing_release": CachePolicy(ParticipativeCompression(reuse_limit=7, every_pass=True), ReleaseSink(16)),
    "longlive": CachePolicy(SinkWindow(12, 3)),
    "rolling_forcing": CachePolicy(SinkWindow(15, 3), "sink"),
    "dummy_forcing": BandedPolicy(DummyForcing()),
    "forcing_kv": BandedPolicy(ForcingKV(HeadClasses(((), (0,)), 2))),
    "pyramid_forcing": BandedPolicy(PyramidForcing(((-1, 2), (1, 2))), PyramidPositions()),
    "commit_frames": CachePolicy(SinkWindow(12, 3), "sink", commit_frames=6),
}
