"""What is measured: the size of everything, and the policies, written out, because a bare machine has no Hydra."""

from __future__ import annotations

from dataclasses import dataclass, replace

from deepforcing.cache.compression import ParticipativeCompression
from deepforcing.cache.policy import CachePolicy
from deepforcing.cache.retention import SinkWindow
from deepforcing.generator import GeneratorSpec
from deepforcing.geometry import Geometry
from deepforcing.rollout.schedule import Schedule
from deepforcing.wan.config import WanConfig
from deepforcing.wan.model import WanSpec
from deepforcing.wan.transformer import Backend

POLICIES = {
    "self_forcing": CachePolicy(SinkWindow(21), name="self_forcing"),
    "deep_forcing": CachePolicy(ParticipativeCompression(), "unified", "deep_forcing"),
    "deep_sink": CachePolicy(SinkWindow(21, 10), "sink", "deep_sink"),
}
"""conf/cache/ of these names; a test compares."""


@dataclass(frozen=True)
class Size:
    """Of everything that is timed. minute, long: seconds of the sustained video and of the one that memory is compared with.
    fill: chunks before anything is timed: the window is full and compression has found its cycle. chunks: timed in one
    repeat, two of Deep Forcing's cycles. side: of the matrix product that the floor is told by."""

    model: WanSpec
    dtype: str
    minute: float = 60
    long: float = 600
    fill: int = 10
    chunks: int = 4
    warm_ups: int = 2
    repeats: int = 5
    side: int = 8192
    vbench: tuple[str, ...] = ("seconds=60", "networks=full")
    batches: tuple[int, ...] = (1, 2, 4, 8)

    def spec(
        self,
        policy: str,
        decoder: str | None = None,
        steps: tuple[int, ...] | None = None,
        backend: Backend = "plain",
    ) -> GeneratorSpec:
        """decoder: "vae", "taehv", or None: latents alone."""
        model = replace(self.model, vae="none") if decoder != "vae" else self.model
        model = replace(model, decoder="taehv") if decoder == "taehv" else model
        schedule = Schedule() if steps is None else Schedule(steps)
        return GeneratorSpec(policy, model, POLICIES[policy], schedule, dtype=self.dtype, backend=backend)


# What a CPU can run through in seconds: for trying out, its numbers say nothing.
TOY = WanConfig(
    dim=48, ffn_dim=64, freq_dim=16, in_dim=16, out_dim=16, num_heads=2, num_layers=2, text_dim=8, text_len=4
)
SIZES = {
    "full": Size(WanSpec(random_weights=True, channels_last=True), "bfloat16"),
    "toy": Size(
        WanSpec("toy", TOY, Geometry(32, 32), random_weights=True, vae_dim=8),
        "float32", 3, 6, side=256, vbench=("seconds=2", "networks=small", "height=128", "width=128"), batches=(1, 2),
    ),
}  # fmt: skip
