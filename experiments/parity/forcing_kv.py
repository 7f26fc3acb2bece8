"""Forcing-KV's recordings: kept patches, their scores, and the keys of static and dynamic heads.

They are replayed under the release's rule (ForcingKVRelease), its fault with windows longer than a chunk included; where no
window is that long, cache=forcing_kv computes the same. On forcing_kv_ring_bug it does not, on purpose: by 0.2.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from deepforcing.cache.bands import BandedPolicy, HeadBands
from deepforcing.cache.forcing_kv import ForcingKVRelease, Kept
from deepforcing.cache.head_classes import HeadClasses
from deepforcing.cache.observe import Seen
from experiments.parity.chunkwise import replayed
from experiments.parity.recording import Produced, Recording

PARTS = {"sink": "sink", "top": "patches", "tail": "local"}


def rule_of(options: dict[str, Any], classes: HeadClasses, chunk: int) -> dict[str, Any]:
    """Raises ValueError for what the release cannot do either, and for what it can and we do not replay."""
    for name, only in (
        ("teacache_enabled", False),
        ("quantization_enabled", False),
        ("dynamic_temporal_enabled", True),
    ):
        if options.get(name, only) != only:
            raise ValueError(f"the fixture's {name}={options[name]} is not replayed by this engine")
    patches, frames = options["num_frame_patch"], options["dynamic_context_length"]
    kept = round(chunk * patches * options["sim_retention_ratio"])
    if kept != frames * patches:
        raise ValueError(
            f"the fixture keeps {kept} patches, which are not dynamic_context_length={frames} frames of {patches}"
        )
    return {
        "heads": classes,
        "sink_frames": options["sink"],
        "static_frames": options["spatial_context_length"],
        "recent_frames": options["temporal_context_length"],
        "patch_frames": frames,
        "patches_per_frame": patches,
        "warmup_frames": (options["ar_start"] + 1) * chunk,
    }


def classes_of(config: dict[str, Any]) -> HeadClasses:
    groups = sorted(config["head_groups"], key=lambda group: int(group["layer"]))
    heads = len(groups[0]["static"]) + len(groups[0]["dynamic"])
    return HeadClasses(tuple(tuple(sorted(group["static"])) for group in groups), heads)


def run(r: Recording) -> Produced:
    if len(r.inputs["noise"]) != 1:
        raise ValueError(
            "the release chooses the first video's patches for all of a batch; only batches of one are replayed"
        )
    rule = ForcingKVRelease(**rule_of(r.options, classes_of(r.config), r.chunk_frames))
    held: list[HeadBands] = []
    tensors: dict[str, Tensor] = {}

    def snapshot(cache: HeadBands, start: int) -> dict[str, Tensor]:
        held[:] = [cache]
        return {}

    def keep(start: int) -> None:
        """What the release holds after the clean pass of the chunk at `start` is what our next chunk begins with."""
        for name, band in held[0].bands.items():
            if name == "first_layer":
                continue
            roles = [slot.role for slot in band.slots]
            for layer in band.active:
                keys = band.keys(layer)[:, : len(roles) * band.slot_tokens]
                keys = keys.reshape(keys.shape[0], len(roles), band.slot_tokens, *keys.shape[2:])
                for role, part in PARTS.items():
                    these = [i for i, r in enumerate(roles) if r == role]
                    if these:
                        tensors[f"kv_after_frame{start:04d}.{name}_{part}_k_layer{layer}"] = keys[:, these].flatten(
                            1, 2
                        )
                for chosen in band.told.get(layer, ()):
                    assert isinstance(chosen, Kept)
                    tensors[f"select.frame{start:04d}.patches"] = chosen.patches[0]
                    tensors[f"select.frame{start:04d}.scores"] = chosen.scores[0]

    def watch(seen: Seen) -> None:
        if seen.kind == "denoise" and seen.step == 0 and seen.layer == 0 and held:
            keep(seen.start - r.chunk_frames)

    produced = replayed(r, BandedPolicy(rule), snapshot, watch=watch)
    total = r.inputs["noise"].shape[1]
    held[0].begin(total)
    keep(total - r.chunk_frames)
    produced.tensors |= tensors
    return produced
