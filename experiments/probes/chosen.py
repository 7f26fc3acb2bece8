"""Which tokens a policy chooses: from which cache slot, and from which frame and place of the video.

    python -m experiments.rollout cache=deep_forcing watch=experiments.probes.chosen.Chosen

Writes <run>/probes/chosen-<sample>.npz. counts [layers, slots] int64: how often a token of that slot was chosen, over all
chunks (of every head, where heads choose for themselves); slots in temporal order, the sink first, the chunk's own last.
choices [layers]: choices made. size: tokens of a slot. heads: that choose for themselves, or 1.
Of at most `MOST` of the chunks, evenly spread, and of the last one,
per choice: start (first latent frame of the chunk), layer, frame and place [rows, tokens]: the latent frame that a chosen token
comes from, and which of its tokens it is.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from deepforcing.cache.observe import Seen, Selection
from deepforcing.runs import atomic_path
from experiments.probes.thinned import Thinned

MOST = 16  # chunks
Row = tuple[int, int, Tensor]  # start, layer, origin [2, B, tokens]


class Chosen:
    """The observer of one batch of videos. folder: where the files go."""

    def __init__(self, folder: Path, samples: list[str]) -> None:
        self.folder, self.samples = folder, samples
        self.kept: Thinned[Row] = Thinned(1, MOST)
        self.counts: dict[int, np.ndarray] = {}  # per layer [B, slots]
        self.choices: dict[int, int] = {}
        self.size, self.heads = 0, 1

    @staticmethod
    def file(folder: Path, sample: str) -> Path:
        """Where the data of a sample go: without it the sample is not finished."""
        return folder / f"chosen-{sample}.npz"

    def __call__(self, seen: Seen) -> None:
        for chosen in (each for each in seen.chosen if isinstance(each, Selection)):
            self.size = seen.keys.shape[2] // len(seen.slots)
            self.heads = chosen.indices.shape[1]
            slots = -(-chosen.scores.shape[2] // self.size)
            at = (chosen.indices // self.size).flatten(1).cpu().numpy()  # [B, G * n]
            counts = np.stack([np.bincount(row, minlength=slots) for row in at])
            before = self.counts.get(chosen.layer, np.zeros_like(counts))
            width = max(before.shape[1], slots)
            old, new = (np.pad(c, ((0, 0), (0, width - c.shape[1]))) for c in (before, counts))
            self.counts[chosen.layer] = old + new
            self.choices[chosen.layer] = self.choices.get(chosen.layer, 0) + 1
            self.kept.add(chosen.start, (chosen.start, chosen.layer, chosen.origin.flatten(2).int().cpu()))

    def close(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        rows, layers = self.kept.rows(), sorted(self.counts)
        slots = max((each.shape[1] for each in self.counts.values()), default=0)
        for i, sample in enumerate(self.samples):
            counts = np.zeros((len(layers), slots), np.int64)
            for row, layer in zip(counts, layers, strict=True):
                row[: self.counts[layer].shape[1]] = self.counts[layer][i]
            origin = np.stack([row[2][:, i].numpy() for row in rows], 1) if rows else np.zeros((2, 0, 0), np.int32)
            with atomic_path(self.file(self.folder, sample)) as partial, open(partial, "wb") as file:
                np.savez_compressed(
                    file, counts=counts, choices=np.array([self.choices[layer] for layer in layers], np.int64),
                    size=np.int64(self.size), heads=np.int64(self.heads), start=np.array([row[0] for row in rows], np.int32),
                    layer=np.array([row[1] for row in rows], np.int32), frame=origin[0], place=origin[1],
                )  # fmt: skip
