"""How deep an adaptive sink is over time, for every video and layer, and what its rule looked at.

    python -m experiments.rollout cache=adaptive_sink_motion watch=experiments.probes.depth.Depth

Writes <run>/probes/depth-<sample>.npz. start [chunks] int64: first latent frame of each chunk in which a depth was chosen.
layer [layers]. depth [chunks, layers] int64, latent frames. Every signal of the rule under its name, such as motion and
drift: [chunks, layers] float32. Start and layer are empty, and alone, where the policy chooses no depth.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deepforcing.cache.adaptive_sink import DepthChoice
from deepforcing.cache.observe import Seen
from deepforcing.runs import atomic_path


class Depth:
    """The observer of one batch of videos. folder: where the files go."""

    def __init__(self, folder: Path, samples: list[str]) -> None:
        self.folder, self.samples = folder, samples
        self.choices: list[DepthChoice] = []  # a few numbers each; read from the device when the videos are done

    @staticmethod
    def file(folder: Path, sample: str) -> Path:
        """Where the data of a sample go: without it the sample is not finished."""
        return folder / f"depth-{sample}.npz"

    def __call__(self, seen: Seen) -> None:
        self.choices += [told for told in seen.chosen if isinstance(told, DepthChoice)]

    def close(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        start, layer = sorted({c.start for c in self.choices}), sorted({c.layer for c in self.choices})
        of = {(c.start, c.layer): c for c in self.choices}
        every = [[of[s, each] for each in layer] for s in start]
        names = sorted(self.choices[0].signals) if self.choices else []
        depth: np.ndarray = np.array([[c.depth.cpu().numpy() for c in row] for row in every], np.int64)
        signals: dict[str, np.ndarray] = {
            name: np.array([[c.signals[name].cpu().numpy() for c in row] for row in every], np.float32)
            for name in names
        }
        arrays = {"depth": depth, **signals}
        for i, sample in enumerate(self.samples):
            mine = {name: values[..., i] for name, values in arrays.items() if values.size}
            with atomic_path(self.file(self.folder, sample)) as partial, open(partial, "wb") as file:
                starts, layers = np.array(start, np.int64), np.array(layer, np.int64)
                np.savez_compressed(file, start=starts, layer=layers, **mine)  # type: ignore[arg-type]
