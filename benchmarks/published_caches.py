"""Caches as the published code has them, written from a description of it (benchmarks/published.py). Sizes in latent frames.

Shapes: B batch, L tokens, H heads, D head dim; tokens before heads in memory, as all of its tensors are.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from deepforcing.wan.transformer import CausalWan

WINDOW, TABLE = 21, 1024


def multiplied(x_BLHD: Tensor, turns: Tensor) -> Tensor:
    """x's pairs of numbers times complex float64 turns [L or 1, 1, D / 2], video by video."""
    made = []
    for x in x_BLHD:
        pairs = torch.view_as_complex(x.double().reshape(*x.shape[:2], -1, 2))
        made.append(torch.view_as_real(pairs * turns).flatten(2))
    return torch.stack(made).type_as(x_BLHD)


class RolledCache:
    """Self Forcing's window of keys and values (rollout's Cache), and its passes' memory: a chunk rolls it by a clone."""

    gaps, chunk_frames, batch, capacity, steady = None, 3, 1, WINDOW, False
    cycle = 1  # chunks after which the same work comes again

    def __init__(self, model: CausalWan, grid: tuple[int, int]) -> None:
        config = model.config
        self.tokens, self.grid = grid[0] * grid[1], grid
        shape = (1, WINDOW * self.tokens, config.num_heads, config.dim // config.num_heads)
        self.k, self.v = ([torch.zeros(shape) for _ in model.blocks] for _ in range(2))
        self.ends = [0] * config.num_layers  # tokens held
        self.done = [0] * config.num_layers  # tokens of the video
        pairs = [2 * n for n in config.rope_split]
        self.table = [
            torch.outer(torch.arange(TABLE).double(), 10000.0 ** -(torch.arange(0, n, 2).double() / n)) for n in pairs
        ]
        self.table = [torch.polar(torch.ones_like(angles), angles) for angles in self.table]
        self.start = 0

    def begin(self, start: int, frames: int | None = None, switched: bool = False, cut: bool = False) -> None:
        self.start = start

    def denoise(self, step: int = 0) -> RolledCache:
        return self

    def commit(self) -> RolledCache:
        return self

    def state(self) -> None:
        return None

    @property
    def attended_tokens(self) -> float:
        return self.ends[0]

    @property
    def held(self) -> int:
        return sum(x.numel() * x.element_size() for x in (*self.k, *self.v))

    def turned(self, x_BLHD: Tensor) -> Tensor:
        rows, columns = self.grid
        frames = x_BLHD.shape[1] // self.tokens
        time_part, row, column = self.table
        turns = torch.cat(
            [
                time_part[self.start : self.start + frames].view(frames, 1, 1, -1).expand(frames, rows, columns, -1),
                row[:rows].view(1, rows, 1, -1).expand(frames, rows, columns, -1),
                column[:columns].view(1, 1, columns, -1).expand(frames, rows, columns, -1),
            ],
            -1,
        ).reshape(frames * self.tokens, 1, -1)
        return multiplied(x_BLHD, turns)

    def attend(self, layer: int, q_BLHD: Tensor, k_BLHD: Tensor, v_BLHD: Tensor) -> Tensor:
        """[B, L, H, D], tokens before heads as all of its tensors are."""
        q, k = self.turned(q_BLHD), self.turned(k_BLHD)
        self.note(layer, q)
        new, keys, values = k.shape[1], self.k[layer], self.v[layer]
        until = self.start * self.tokens + new
        end = self.ends[layer] + until - self.done[layer]
        if end > keys.shape[1]:
            end = self.shortened(layer, k, v_BLHD)
        keys[:, end - new : end], values[:, end - new : end] = k, v_BLHD
        self.ends[layer], self.done[layer] = end, until
        q, k, v = (x.transpose(1, 2) for x in (q, keys[:, :end], values[:, :end]))
        out = F.scaled_dot_product_attention(q, k, v)
        return out.transpose(1, 2).contiguous()

    def note(self, layer: int, q_BLHD: Tensor) -> None:
        """Every pass's turned queries."""

    def shortened(self, layer: int, k_BLHD: Tensor, v_BLHD: Tensor) -> int:
        """Make room for a chunk that the window is too short for: where that ends (tokens). k: turned."""
        new = k_BLHD.shape[1]
        kept = self.k[layer].shape[1] - new
        beyond = self.ends[layer] - kept
        for buffer in (self.k[layer], self.v[layer]):
            buffer[:, :kept] = buffer[:, beyond : beyond + kept].clone()
        return kept + new


class CompressedCache(RolledCache):
    """The Deep Forcing release's: where a chunk does not fit the window, the cache is cut down to BUDGET frames.

    Every pass appends its turned queries to the recent ones, of which the newest RECENT frames' stay. Where it cuts, in each
    layer: the cached keys and the chunk's are copied together; all between the sink and the newest RECENT frames are scored
    by the product with the summed queries, those chosen LIMIT times are left out; the best are sorted; what stays is gathered
    into new tensors and written back, the rest set to zero; and the sink's time channels are turned on by float64 products.
    Chosen tokens keep the angles of their own frames.
    """

    SINK, BUDGET, RECENT, LIMIT = 10, 16, 4, 7
    cycle = 2

    def __init__(self, model: CausalWan, grid: tuple[int, int]) -> None:
        super().__init__(model, grid)
        heads, dim = self.k[0].shape[2:]
        self.recent = [torch.zeros(1, 0, heads, dim) for _ in model.blocks]
        self.chosen = [torch.zeros(1, WINDOW * self.tokens, dtype=torch.int64) for _ in model.blocks]  # how often
        self.sink_at = [0] * len(model.blocks)  # the sink's first frame, as its keys are turned

    def note(self, layer: int, q_BLHD: Tensor) -> None:
        recent = torch.cat([self.recent[layer], q_BLHD], 1)
        self.recent[layer] = recent[:, -self.RECENT * self.tokens :].clone()

    def shortened(self, layer: int, k_BLHD: Tensor, v_BLHD: Tensor) -> int:
        end, new, keys, values = self.ends[layer], k_BLHD.shape[1], self.k[layer], self.v[layer]
        all_k, all_v = torch.cat([keys[:, :end], k_BLHD], 1), torch.cat([values[:, :end], v_BLHD], 1)
        counts = torch.cat([self.chosen[layer][:, :end], torch.zeros(1, new, dtype=torch.int64)], 1)
        sink, newest = self.SINK * self.tokens, all_k.shape[1] - self.RECENT * self.tokens
        query = self.recent[layer].sum(1).flatten(1)
        score = (all_k[:, sink:newest].flatten(2) @ query[..., None])[..., 0].float()
        score = score / (keys.shape[3] ** 0.5 * keys.shape[2])
        score = score.masked_fill(counts[:, sink:newest] >= self.LIMIT, float("-inf"))
        best = score.topk((self.BUDGET - self.SINK - self.RECENT) * self.tokens, 1).indices.sort(1).values + sink
        counts[:, best[0]] += 1
        kept = torch.cat([torch.arange(sink), best[0], torch.arange(newest, all_k.shape[1])])
        for buffer, given in ((keys, all_k), (values, all_v), (self.chosen[layer], counts)):
            buffer.zero_()
            buffer[:, : len(kept)] = given[:, kept]
        wanted = self.start - self.BUDGET
        turns = torch.ones(1, 1, keys.shape[3] // 2, dtype=torch.complex128)
        turns[..., : self.table[0].shape[1]] = self.table[0][wanted - self.sink_at[layer]]
        keys[:, :sink] = multiplied(keys[:, :sink], turns)
        self.sink_at[layer] = wanted
        return len(kept)
