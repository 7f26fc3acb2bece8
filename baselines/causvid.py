"""CausVid's long videos: rollouts of 21 latent frames, each beginning with the end of the one before.

Inside a rollout every chunk attends to all before it; positions restart with each rollout, so nothing drops out of a cache
and there is no length limit. A rollout begins with `overlap` given latent frames: the last of the one before, of which the
first is encoded again from its one pixel frame, because a codec treats a video's first frame by itself.
Source: CausVid. Shift 8; 3 steps that are not warped ([1000, 757, 522]), or 4 warped ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from deepforcing.cache.kv import KVCache
from deepforcing.rollout.chunkwise import Chunk, chunkwise
from deepforcing.rollout.noise import Noise
from deepforcing.rollout.schedule import Schedule
from deepforcing.wan.transformer import CausalWan, TextMemory


@torch.no_grad()
def overlapping(
    model: CausalWan,
    texts: Mapping[int, TextMemory],
    new_cache: Callable[[int], KVCache],
    schedule: Schedule,
    noise: Callable[[int], Noise],
    total_frames: int,
    latent_size: tuple[int, int],
    first_latent: Callable[[int], Tensor],
    rollout_frames: int = 21,
    overlap: int = 3,
    clock: Callable[[str], None] | None = None,
) -> Iterator[tuple[int, Chunk]]:
    """Yields (rollout, chunk) with frames counted from the rollout's beginning, the given chunks of its overlap included.

    texts: prompts by the latent frame of the whole video from which on each holds. new_cache: an empty cache for so many
    frames. noise: of a rollout. first_latent: [B, 1, C, Y, X], the first given frame of rollout 1, 2, ...
    """
    stride = rollout_frames - overlap
    tail = torch.empty(0)
    for r, begin in enumerate(range(0, max(total_frames - overlap, 1), stride)):
        here = {max(0, frame - begin): text for frame, text in sorted(texts.items()) if frame < begin + rollout_frames}
        length = min(rollout_frames, total_frames - begin)
        latents = []
        for chunk in chunkwise(
            model,
            here.pop(0),
            new_cache(length),
            schedule,
            noise(r),
            length,
            latent_size,
            None if r == 0 else torch.cat([first_latent(r).to(tail), tail[:, 1:]], 1),
            clock=clock,
            switches={frame: text for frame, text in here.items() if frame < length},
        ):
            latents.append(chunk.latents)
            yield r, chunk
        tail = torch.cat(latents, 1)[:, -overlap:]
