"""Where attention goes: the mass of every chunk's queries on every slot that they read, per layer and head.

    python -m experiments.rollout cache=deep_sink watch=experiments.probes.attention.Attention

Writes <run>/probes/attention-<sample>.npz: mass [rows, heads, slots] float32 (0 where a row has fewer slots), and per row
start (first latent frame of the chunk), kind (0 denoise, 1 commit), step, layer; slots [rows, slots]: the latent frame that a
slot holds, -1 for tokens of several, -2 for no slot. One row per layer of every pass of every `EVERY`-th chunk, so that an
hour of video stays a few MB. Softmax over all keys, then summed over a slot's tokens and averaged over the queries.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from deepforcing.cache.observe import Seen
from deepforcing.runs import atomic_path

EVERY = 4
QUERIES = 256  # at most so many of the chunk's, evenly spaced
SEVERAL, NONE = -1, -2


class Attention:
    """The observer of one batch of videos. folder: where the files go."""

    def __init__(self, folder: Path, samples: list[str]) -> None:
        self.folder, self.samples = folder, samples
        self.mass: list[torch.Tensor] = []  # [B, H, slots]
        self.rows: list[tuple[int, int, int, int]] = []
        self.frames: list[list[int]] = []

    def __call__(self, seen: Seen) -> None:
        chunk = sum(slot.role == "chunk" for slot in seen.slots)
        if seen.start // max(chunk, 1) % EVERY:
            return
        queries = seen.queries[:, :, :: max(1, seen.queries.shape[2] // QUERIES)]
        weights = (queries.float() @ seen.keys.float().mT / queries.shape[3] ** 0.5).softmax(3).mean(2)
        self.mass.append(weights.view(*weights.shape[:2], len(seen.slots), -1).sum(3).cpu())
        self.rows.append((seen.start, int(seen.kind == "commit"), seen.step, seen.layer))
        self.frames.append([SEVERAL if slot.frame is None else slot.frame for slot in seen.slots])

    def close(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        most = max((len(frames) for frames in self.frames), default=0)
        slots = np.full((len(self.rows), most), NONE, dtype=np.int32)
        for row, frames in zip(slots, self.frames, strict=True):
            row[: len(frames)] = frames
        start, kind, step, layer = np.array(self.rows, dtype=np.int32).reshape(-1, 4).T
        for i, sample in enumerate(self.samples):
            mass = np.zeros((len(self.rows), self.mass[0].shape[1] if self.mass else 0, most), dtype=np.float32)
            for of_row, weights in zip(mass, self.mass, strict=True):
                of_row[:, : weights.shape[2]] = weights[i].numpy()
            with atomic_path(self.folder / f"attention-{sample}.npz") as partial, open(partial, "wb") as file:
                np.savez_compressed(file, mass=mass, start=start, kind=kind, step=step, layer=layer, slots=slots)
