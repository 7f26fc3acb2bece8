"""What an adaptive sink tells the probe of depths: two layers, three chunks, as many videos as the probe has."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from deepforcing.cache.adaptive_sink import DepthChoice
from experiments.probes.depth import Depth


def write_depths(probe: Depth) -> None:
    """Video i, layer l, chunk c: depth 10 - c + l + i, motion .5 + c, drift twice that."""
    videos = torch.arange(len(probe.samples))
    for chunk in range(3):
        for layer in range(2):
            motion = torch.full((len(videos),), 0.5 + chunk)
            told = DepthChoice(
                layer, 21 + 3 * chunk, 10 - chunk + layer + videos, {"motion": motion, "drift": 2 * motion}
            )
            probe(SimpleNamespace(chosen=(told, "of another kind")))  # type: ignore[arg-type]
    probe.close()
