"""Dummy Forcing's recordings: classes of heads, the shares behind them, and both buffers of the release."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from deepforcing.cache.bands import BandedPolicy, HeadBands
from deepforcing.cache.dummy_forcing import DUMMY, FIRST, LOCAL, NAMES, DummyForcing
from deepforcing.cache.policy import Slot
from experiments.parity.chunkwise import replayed
from experiments.parity.recording import Produced, Recording


@dataclass(frozen=True)
class Recorded(DummyForcing):
    """With the recording's rows instead of our own draw."""

    recorded_rows: tuple[tuple[int, ...], ...] = ()

    def rows(self, layer: int, count: int, tokens: int) -> Tensor:
        rows = torch.tensor(self.recorded_rows[layer])
        if len(rows) != count:
            raise ValueError(f"the fixture sampled {len(rows)} rows in layer {layer}; the rule samples {count}")
        return rows


def rule_of(options: dict[str, Any], heads: int, chunk: int) -> dict[str, Any]:
    """heads: of the whole model. Raises ValueError for what the release cannot do either."""
    for name in ("denoise_start", "teacache_enabled"):
        if options.get(name):
            raise ValueError(f"the fixture's {name}={options[name]} is not replayed by this engine")
    return {
        "warmup_frames": (options["ar_start"] + 1) * chunk,
        "local_frames": options["local_context_length"] * chunk,
        "dummy_share": options["num_dummy"] / heads,
    }


def buffers(cache: HeadBands, rule: DummyForcing, layer: int, end: int) -> dict[str, Tensor]:
    """What the release keeps after the clean pass that ends at frame `end`, and our cache will of it at the next chunk: the
    one-frame buffer, first-frame heads before dummies, and the local one."""
    if cache.whole is None:
        held = {name: band.keys(layer) for name, band in cache.bands.items() if layer in band.active}
    else:
        keys, view = cache.whole.keys(layer), cache.whole.view
        slots = (*view.slots, *(Slot("tail", frame) for frame in range(view.start, end)))
        parted = rule.group(replace(view, slots=slots, start=end, notes=cache.whole.notes))
        if parted is None:
            held = {NAMES[FIRST]: keys, NAMES[LOCAL]: keys}
        else:
            held = {band.name: keys[:, :, list(band.heads[layer])] for band in parted.bands if band.heads[layer]}
    s = cache.grid[0] * cache.grid[1]
    made: dict[str, Tensor] = {}
    ends = {NAMES[FIRST]: slice(None, s), NAMES[DUMMY]: slice(-s, None)}
    one = [held[name][:, part] for name, part in ends.items() if name in held]
    if one:
        made["sink_k"] = torch.cat(one, 2)
    if NAMES[LOCAL] in held:  # the first frame is not among them
        past = held[NAMES[LOCAL]][:, 0 if cache.whole is None else s :]
        made["local_k"] = past[:, -rule.local_frames * s :]
    return made


def run(r: Recording) -> Produced:
    if len(r.inputs["noise"]) != 1:
        raise ValueError(
            "the release takes the first video's classes for all of a batch; only batches of one are replayed"
        )
    layers, width = r.model.config.num_layers, r.model.config.num_heads
    rows = tuple(tuple(row) for row in r.inputs["sampled_rows"].tolist())
    rule = Recorded(**rule_of(r.options, layers * width, r.chunk_frames), recorded_rows=rows)
    found: dict[str, Tensor] = {}

    def snapshot(cache: HeadBands, start: int) -> dict[str, Tensor]:
        end = start + r.chunk_frames
        if cache.whole is not None and end == rule.warmup_frames:
            shares = cache.whole.notes["shares"]
            classes = rule.classes(torch.stack([shares[layer] for layer in range(layers)]))
            for layer in range(layers):
                found[f"heads.layer{layer}.attention_share"] = shares[layer][0]
                found[f"heads.layer{layer}.class"] = torch.tensor(classes[layer])
        return {
            f"kv_after_frame{start:04d}.{name}_layer{layer}": keys
            for layer in range(layers)
            for name, keys in buffers(cache, rule, layer, end).items()
        }

    produced = replayed(r, BandedPolicy(rule), snapshot)
    produced.tensors |= found
    return produced
