"""Where attention goes: the mass of every chunk's queries on every slot that they read, per layer and head.

    python -m experiments.rollout cache=deep_sink watch=experiments.probes.attention.Attention

Writes <run>/probes/attention-<sample>.npz: mass [rows, heads, slots] float32 (0 where a row has fewer slots), and per row
start (first latent frame of the chunk), kind (0 denoise, 1 commit), step, layer; slots [rows, slots]: the latent frame that a
slot holds, -1 for tokens of several, -2 for no slot. One row per layer of every pass of every `EVERY`-th chunk and of the last
one; where these are more than `MOST`, of every second of them, and so on: an hour of video takes no more than some minutes do.
Softmax over all keys, then summed over a slot's tokens and averaged over the queries.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from deepforcing.cache.observe import Seen
from deepforcing.runs import atomic_path
from experiments.probes.thinned import Thinned

EVERY, MOST = 4, 64  # chunks
QUERIES = 256  # at most so many of the chunk's, evenly spaced
SEVERAL, NONE = -1, -2
Row = tuple[torch.Tensor, tuple[int, int, int, int], list[int]]  # mass [B, H, slots]; start, kind, step, layer; frames


class Attention:
    """The observer of one batch of videos. folder: where the files go."""

    def __init__(self, folder: Path, samples: list[str]) -> None:
        self.folder, self.samples = folder, samples
        self.kept: Thinned[Row] = Thinned(EVERY, MOST)

    @staticmethod
    def file(folder: Path, sample: str) -> Path:
        """Where the data of a sample go: without it the sample is not finished."""
        return folder / f"attention-{sample}.npz"

    def __call__(self, seen: Seen) -> None:
        chunk = sum(slot.role == "chunk" for slot in seen.slots)
        queries = seen.queries[:, :, :: max(1, seen.queries.shape[2] // QUERIES)]
        weights = (queries.float() @ seen.keys.float().mT / queries.shape[3] ** 0.5).softmax(3).mean(2)
        mass = weights.view(*weights.shape[:2], len(seen.slots), -1).sum(3).cpu()
        frames = [SEVERAL if slot.frame is None else slot.frame for slot in seen.slots]
        at = (seen.start, int(seen.kind == "commit"), seen.step, seen.layer)
        self.kept.add(seen.start // max(chunk, 1), (mass, at, frames))

    def close(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        rows = self.kept.rows()
        most = max((len(frames) for _, _, frames in rows), default=0)
        slots = np.full((len(rows), most), NONE, dtype=np.int32)
        for row, (_, _, frames) in zip(slots, rows, strict=True):
            row[: len(frames)] = frames
        start, kind, step, layer = np.array([at for _, at, _ in rows], dtype=np.int32).reshape(-1, 4).T
        for i, sample in enumerate(self.samples):
            mass = np.zeros((len(rows), rows[0][0].shape[1] if rows else 0, most), dtype=np.float32)
            for of_row, (weights, _, _) in zip(mass, rows, strict=True):
                of_row[:, : weights.shape[2]] = weights[i].numpy()
            with atomic_path(self.file(self.folder, sample)) as partial, open(partial, "wb") as file:
                np.savez_compressed(file, mass=mass, start=start, kind=kind, step=step, layer=layer, slots=slots)
