"""Relax Forcing's recordings."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from deepforcing.cache.kv import KVCache
from deepforcing.cache.policy import CachePolicy
from deepforcing.cache.relax_forcing import FrameChoice, RelaxForcing
from experiments.parity.chunkwise import Choices, replayed
from experiments.parity.recording import Produced, Recording


def policy_of(options: dict[str, Any]) -> CachePolicy:
    which = options.get("hist_position_idx", -2)
    if which < -2:
        raise ValueError(f"hist_position_idx={which} is not one that the release has: -2, -1 or a number from 0")
    return CachePolicy(
        RelaxForcing(
            window_frames=options["local"],
            sink_frames=options.get("sink_frames", 2),
            history_frames=options.get("hist_frames", 1),
            tail_frames=options.get("tail_frames", 1),
            choose="score" if which == -2 else "even",
            candidates=options.get("num_hist_candidates", 4),
            redundancy=options.get("lambda_redundancy", 2.0),
            only=which if which >= 0 else None,
        ),
        "absolute" if options.get("contiguous_rope", False) else "slot",
    )


def run(r: Recording) -> Produced:
    choices = Choices()
    produced = replayed(r, policy_of(r.options), reservoir, watch=choices)
    for choice in choices:
        produced.tensors |= of_choice(choice)
    return produced


def reservoir(cache: KVCache, start: int) -> dict[str, Tensor]:
    """Un-rotated keys of the stored frames, in temporal order: [B, T, H, D]."""
    places = [at for slot, at in zip(cache.slots, cache.places, strict=True) if slot.role != "history"]
    at = cache.tokens([*places, *cache.own])
    return {
        f"kv_after_frame{start:04d}.k_layer{i}": layer.raw[:, :, at].transpose(1, 2)
        for i, layer in enumerate(cache.layers)
        if layer.raw is not None
    }


def of_choice(choice: FrameChoice) -> dict[str, Tensor]:
    chosen = choice.chosen.squeeze(0)
    tensors = {
        "candidate_slots": torch.tensor(choice.candidates),
        "selected_slots": torch.tensor(choice.candidates)[chosen],
        "selected_frames": torch.tensor(choice.frames)[chosen],
    }
    if choice.scores is not None:
        tensors["scores"] = choice.scores.squeeze(0)
    return {f"relax.frame{choice.start:04d}.{name}": tensor for name, tensor in tensors.items()}
