"""Self Forcing, Causal Forcing, LongLive and Deep Forcing: their recordings' options as cache policies."""

from __future__ import annotations

from typing import Any

from deepforcing.cache.alignment import Absolute, BySlot, ReleaseSink
from deepforcing.cache.compression import ParticipativeCompression
from deepforcing.cache.kv import KVCache
from deepforcing.cache.policy import CachePolicy
from deepforcing.cache.retention import KeepAll, SinkWindow
from experiments.parity.chunkwise import Choices, keys_of_every_layer, replayed
from experiments.parity.recording import Produced, Recording


def policy_of(options: dict[str, Any]) -> CachePolicy:
    """The cache policy that the options of a chunk-wise fixture name."""
    window, sink = options.get("local", -1), options.get("sink", 0)
    if options.get("fusion", "sum") != "sum":
        raise ValueError(f"the fixture's fusion={options['fusion']!r} is not replayed by this engine")
    if options["repo"] == "longlive1":
        window = 21 if window == -1 else window  # its "global" attention still ends there
        return CachePolicy(SinkWindow(window, sink), BySlot() if options.get("infinity") else Absolute())
    if window == -1:
        return CachePolicy(KeepAll(), Absolute())
    if options["repo"] != "deepf":
        return CachePolicy(SinkWindow(window, sink), Absolute())
    if not options.get(
        "pc", False
    ):  # the release's sink-only model has no capacity and does not move its sink at first
        return CachePolicy(SinkWindow(window, sink), ReleaseSink(options.get("cap", 21)))
    budget, recent = options.get("cap", 16), options.get("R", 4)
    return CachePolicy(
        ParticipativeCompression(
            window_frames=window,
            sink_frames=sink,
            budget_frames=max(budget, sink + recent),  # too small a budget is exceeded, not an error
            recent_frames=recent,
            reuse_limit=options.get("reuse", 7),
            every_pass=True,
        ),
        ReleaseSink(budget),
    )


def switch_starts(requested: list[int], chunk_frames: int, total_frames: int) -> list[int]:
    """LongLive's rule: at every chunk, the next prompt if its frame has been reached; one prompt a chunk."""
    starts: list[int] = []
    for start in range(0, total_frames, chunk_frames):
        if len(starts) < len(requested) and start >= requested[len(starts)]:
            starts.append(start)
    return starts


def run(r: Recording) -> Produced:
    batch, frames = r.inputs["noise"].shape[:2]
    total = frames + (r.inputs["initial_latent"].shape[1] if "initial_latent" in r.inputs else 0)
    starts = switch_starts(list(r.options.get("switch", ())), r.chunk_frames, total)

    def snapshot(cache: KVCache, start: int) -> dict[str, Any]:
        return keys_of_every_layer(cache, start, rotated=not r.options.get("infinity", False))

    choices = Choices()
    produced = replayed(
        r,
        policy_of(r.options),
        snapshot,
        switches={start: number for number, start in enumerate(starts, 1)},
        on_switch="recache" if r.options.get("global_sink", True) else "recache_sink",
        watch=choices,
    )
    for chosen in choices:
        name = f"pc.layer{chosen.layer}.frame{chosen.start:04d}"
        indices, scores = chosen.indices[:, 0], chosen.scores[:, 0]
        produced.tensors[f"{name}.topc_selected"] = indices[0] if batch == 1 else indices
        produced.tensors[f"{name}.scores"] = scores[0] if batch == 1 else scores
    return produced
