"""Echo-Forcing's recordings of single prompts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from deepforcing.cache.echo_forcing import EchoForcing, Recall
from deepforcing.cache.kv import KVCache
from deepforcing.cache.observe import Seen
from deepforcing.cache.policy import CachePolicy
from experiments.parity.chunkwise import replayed
from experiments.parity.recording import Produced, Recording

EXCLUDED = -1e30  # the score of tokens too recent to be chosen


def policy_of(options: dict[str, Any], chunk_frames: int) -> CachePolicy:
    if options.get("mode", "single prompt") != "single prompt":
        raise ValueError(f"mode={options['mode']!r}: only single prompts are replayed; scenes are not implemented")
    amplitude = options.get("amplitude", True)
    rule = EchoForcing(
        window_frames=options["window"],
        compressed_frames=options.get("compressed_frames", 3),
        recent_frames=options.get("recent_frames", 3),
        cycle_chunks=options.get("rolling_cycle", 4),
        history_frames=options.get("history_frames", 18),
        reuse_limit=options.get("reuse", 8) or None,
        fusion={"sum": "mean", "max": "max"}[options.get("fusion", "sum")],  # type: ignore[arg-type]
        amplitude=amplitude,
        gate=amplitude and options.get("gate", True),
        strength=options.get("lambda", 3.0),
        places="slot",
    )
    anchors = options.get("sink_frames", 12)
    if anchors != rule.anchors(chunk_frames):
        raise ValueError(
            f"sink_frames={anchors} of window={rule.window_frames}: {rule.anchors(chunk_frames)} are left for them"
        )
    return CachePolicy(rule, "slot")


class Books:
    """The release's own note of which frame each slot's tokens are from, which its replay does not touch."""

    def __init__(self, rule: EchoForcing, slot_tokens: int, chunk_frames: int) -> None:
        self.rule, self.s, self.chunk = rule, slot_tokens, chunk_frames
        self.recalls: list[Recall] = []
        self.frames: dict[int, Tensor] = {}

    def __call__(self, seen: Seen) -> None:
        self.recalls += [said for said in seen.chosen if isinstance(said, Recall)]

    def after(self, start: int) -> dict[str, Tensor]:
        """Per layer, after the clean pass of the chunk that began at `start`."""
        end = start + self.chunk
        if end <= self.rule.window_frames:
            self.whole = torch.arange(end).repeat_interleave(self.s)
            return {}
        fresh = [recall for recall in self.recalls if recall.start == start]
        anchors, top = self.rule.anchors(self.chunk) * self.s, self.rule.compressed_frames * self.s
        oldest = start - min(self.rule.history, start)
        recent = torch.arange(start - self.rule.recent_frames, end).repeat_interleave(self.s)
        for recall in fresh:
            before = self.frames.get(recall.layer, self.whole)
            slid = torch.cat([before[self.chunk * self.s : anchors], before[anchors - self.chunk * self.s : anchors]])
            self.frames[recall.layer] = torch.cat([slid, recall.indices[0] // self.s + oldest, recent])
            assert len(self.frames[recall.layer]) == len(slid) + top + len(recent)
        return {
            f"kv_after_frame{start:04d}.abs_frame_layer{layer}": frames[None] for layer, frames in self.frames.items()
        }


def run(r: Recording) -> Produced:
    policy = policy_of(r.options, r.chunk_frames)
    books = Books(policy.retention, r.grid[0] * r.grid[1], r.chunk_frames)  # type: ignore[arg-type]

    def snapshot(cache: KVCache, start: int) -> dict[str, Tensor]:
        at = cache.tokens([*cache.read[1], *cache.own])
        raw = {
            f"kv_after_frame{start:04d}.k_layer{i}": layer.raw[:, :, at].transpose(1, 2)
            for i, layer in enumerate(cache.layers)
            if layer.raw is not None
        }
        return raw | books.after(start)

    produced = replayed(r, policy, snapshot, watch=books)
    for recall in books.recalls:
        name = f"select.layer{recall.layer}.frame{recall.start:04d}"
        produced.tensors[f"{name}.tokens"] = recall.indices.squeeze(0)
        produced.tensors[f"{name}.scores"] = recall.scores.clamp_min(EXCLUDED)
    return produced
