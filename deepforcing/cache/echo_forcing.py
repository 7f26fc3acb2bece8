"""Echo-Forcing for one prompt: replayed anchors, tokens recalled from a longer history, the latest frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from deepforcing.cache.policy import Content, Needs, Pass, Past, Plan, Retention, Slot, Tokens, View
from deepforcing.cache.retention import Copies

if TYPE_CHECKING:
    from deepforcing.cache.observe import Seen
    from deepforcing.wan.rope import Rope


@dataclass(frozen=True)
class EchoForcing(Retention):
    """The window of `window_frames` holds, from its first slide on, anchors, recalled tokens, recent frames and the chunk.

    Anchors: what compressed_frames and recent_frames leave; they slide with the window, and at each chunk the newest of
    them are the video's first frames, `cycle_chunks` chunks of them, played to and fro, backwards first. Recalled:
    compressed_frames worth of tokens, chosen per layer from the newest history_frames (never fewer than the window)
    without the recent ones, each at most reuse_limit times (None: always; where too few are left, the others are not seen).

    A token's score is the mean (fusion "mean") or the largest ("max") over heads and over distances of 1, 2, 4 ... frames
    of the product of its un-rotated key with the mean query of the first window, turned in time by the token's age plus
    the distance. amplitude: with a part for the queries' spread, sum of (mean |q| - |mean q|) |k| over channel pairs; gate:
    this part by exp(-strength (1 - cosine)), of the chunk's mean query and that mean, all heads in one vector.
    places "own": recalled tokens keep their rows and columns; "slot": they take those of the place that they land in.
    A change of prompt leaves the cache as it is: the release's rules for scenes are not here.

    Source: Echo-Forcing (arXiv 2605.16003), its release at d0878fa9. The release is places="slot", which we take for a
    mistake: the score knows no rows and columns, and nothing of where a token was is left. Deviation: the release
    scores the first video of a batch only.
    """

    window_frames: int = 21
    compressed_frames: int = 3
    recent_frames: int = 3
    cycle_chunks: int = 4
    history_frames: int = 18
    reuse_limit: int | None = 8
    fusion: Literal["mean", "max"] = "mean"
    amplitude: bool = True
    gate: bool = True
    strength: float = 3.0
    places: Literal["own", "slot"] = "own"

    def __post_init__(self) -> None:
        if self.compressed_frames < 1 or self.recent_frames < 0 or self.cycle_chunks < 1 or self.history_frames < 0:
            raise ValueError(
                f"compressed_frames={self.compressed_frames} and cycle_chunks={self.cycle_chunks} must be at least 1, "
                f"recent_frames={self.recent_frames} and history_frames={self.history_frames} at least 0"
            )
        if self.reuse_limit is not None and self.reuse_limit < 1:
            raise ValueError(f"reuse_limit={self.reuse_limit} must be at least 1, or null for no limit")
        for name, value, allowed in (
            ("fusion", self.fusion, ("mean", "max")),
            ("places", self.places, ("own", "slot")),
        ):
            if value not in allowed:
                raise ValueError(f"{name}={value!r} must be {allowed[0]!r} or {allowed[1]!r}")
        if self.strength < 0:
            raise ValueError(
                f"strength={self.strength} must be at least 0: it weakens the part for spread where queries have changed"
            )
        if self.gate and not self.amplitude:
            raise ValueError("gate=true weighs the part that amplitude=true adds; with amplitude=false use gate=false")

    def check(self, chunk_frames: int) -> None:
        window, c, r = self.window_frames, self.compressed_frames, self.recent_frames
        if window % chunk_frames:
            raise ValueError(f"window_frames={window} must be whole chunks of {chunk_frames} latent frames")
        if self.anchors(chunk_frames) < chunk_frames:
            raise ValueError(
                f"compressed_frames={c}, recent_frames={r} and the current chunk of {chunk_frames} leave no chunk of anchors "
                f"in window_frames={window}: use a window of {c + r + 2 * chunk_frames} or more; published: 12 + 3 + 3 + 3"
            )
        if self.cycle_chunks * chunk_frames > window:
            raise ValueError(
                f"cycle_chunks={self.cycle_chunks} are {self.cycle_chunks * chunk_frames} latent frames, which must not exceed "
                f"window_frames={window}"
            )

    def anchors(self, chunk_frames: int) -> int:
        return self.window_frames - self.compressed_frames - self.recent_frames - chunk_frames

    def budget(self, frames: int, chunk_frames: int) -> dict[str, int]:
        """The window: what is neither compressed nor recent nor the chunk is anchors."""
        return {"window_frames": frames}

    @property
    def history(self) -> int:
        """Latent frames to recall from, the recent ones included."""
        return max(self.history_frames, self.window_frames)

    def capacity(self, chunk_frames: int) -> int | None:
        window = self.window_frames - self.recent_frames  # the recent frames are the end of the history
        return window + self.cycle_chunks * chunk_frames + self.history

    def needs(self, chunk_frames: int) -> Needs:
        own, window = self.places == "own", self.window_frames
        return Needs(raw=True, origins=own, watches=True, watched_frames=window, reads=window)

    def plan(self, view: View) -> Plan:
        past, chunk = len(view.slots), view.chunk
        if view.start < self.window_frames:
            return Plan(tuple(range(past)))
        anchors, cycle = self.anchors(chunk), self.cycle_chunks * chunk
        real = [i for i, slot in enumerate(view.slots) if slot.role == "tail"]
        sliding = [i for i, slot in enumerate(view.slots) if slot.role == "anchor"][chunk:]
        kept = sorted({*real[:cycle], *real[-self.history :]})
        first: list[int | Content] = [*sliding]
        if not sliding and anchors > chunk:  # the first slide
            first.append(_copies(view, real[chunk:anchors]))
        first.append(_copies(view, [real[i] for i in self.replayed(view.start, chunk)]))
        first.append(
            Recalled(self, range(real[-self.history :][0], past), (Slot("top", None),) * self.compressed_frames)
        )
        made = anchors + self.compressed_frames
        last = made + len(kept)
        return Plan((*first, *kept), (*range(made), *range(last - self.recent_frames, last)))

    def replayed(self, start: int, chunk_frames: int) -> list[int]:
        """Which of the first frames become anchors at the chunk that begins at `start`."""
        length = self.cycle_chunks * chunk_frames
        turn, at = divmod(start - (self.window_frames - length), length)
        return [at + i if turn % 2 == 0 else length - 1 - at - i for i in range(chunk_frames)]

    def watch(self, seen: Seen, notes: dict[str, Any]) -> None:
        """Sums of the first window's clean queries: of the vectors, of the lengths of their channel pairs, their number."""
        if seen.kind != "commit":
            return
        q = _pairs(seen.raw_queries)
        new = q.sum(2), q.abs().sum(2), q.shape[2]
        vectors, lengths, count = notes.get(f"queries{seen.layer}", (0, 0, 0))
        notes[f"queries{seen.layer}"] = vectors + new[0], lengths + new[1], count + new[2]

    def may_run_short(self, chunk_frames: int) -> bool:
        """Whether the limit may leave fewer tokens than there are places for."""
        if self.reuse_limit is None:
            return False
        chunks = -(-(self.history - self.recent_frames) // chunk_frames)
        used = chunks * self.compressed_frames / self.reuse_limit
        return self.window_frames - self.recent_frames - used < self.compressed_frames


def _copies(view: View, sources: list[int]) -> Copies:
    return Copies("anchor", tuple(sources), tuple(view.slots[i].frame for i in sources))


def _pairs(x: Tensor) -> Tensor:
    """Channel pairs as complex numbers: [..., D] -> complex64 [..., P]."""
    return torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))


@dataclass(frozen=True)
class Recall:
    """One layer's choice. start: first frame of the chunk. indices: int64 [B, n] into the tokens of the history, oldest
    first, ascending. scores: float32 [B, T] of all of these, -inf where a token is too recent."""

    layer: int
    start: int
    indices: Tensor
    scores: Tensor


@dataclass(frozen=True)
class Recalled:
    """The slots of the recalled tokens. history: what they are chosen from, whole frames that follow each other."""

    rule: EchoForcing
    history: range
    slots: tuple[Slot, ...]

    @property
    def waits(self) -> bool:
        """For the chunk's queries, which only the gate looks at."""
        return self.rule.gate

    def make(self, past: Past, chunk: Pass | None) -> tuple[Tokens, Recall]:
        rule, s = self.rule, past.slot_tokens
        keys, values = past.keys(self.history, turned=False), past.values(self.history)
        scores = self._scores(past, keys, chunk)
        scores[:, scores.shape[1] - rule.recent_frames * s :] = float("-inf")
        count, used = len(self.slots) * s, self._used(past, scores)
        free = scores
        if rule.reuse_limit is not None:
            free = scores.masked_fill(used >= rule.reuse_limit, float("-inf"))
        best, chosen = free.topk(count, dim=1)
        chosen, total = chosen.masked_fill(best.isinf(), scores.shape[1]).sort(1).values, scores.shape[1]
        seen, chosen = chosen < total, chosen.clamp_max(total - 1)  # what is over the limit comes last and is not seen
        visible = seen[:, None] if rule.may_run_short(past.view.chunk) else None
        past.notes["used"] = used.scatter_add(1, chosen, seen.to(used.dtype))
        index = chosen[:, None, :, None].expand(-1, keys.shape[1], -1, keys.shape[3])
        origin = None
        if rule.places == "own":
            origin = past.origin(self.history).gather(3, chosen[None, :, None].expand(3, -1, -1, -1))
        made = Tokens(keys.gather(2, index), values.gather(2, index), origin, visible)
        return made, Recall(past.layer, past.view.start, chosen, scores)

    def _used(self, past: Past, scores: Tensor) -> Tensor:
        """How often each token of the history was recalled: int32 [B, T]."""
        new = torch.zeros_like(scores, dtype=torch.int32)
        before: Tensor | None = past.notes.get("used")
        if before is None:
            return new
        fresh = new[:, : past.view.chunk * past.slot_tokens]
        return torch.cat([before, fresh], 1)[:, -scores.shape[1] :]

    def _scores(self, past: Past, keys: Tensor, chunk: Pass | None) -> Tensor:
        """float32 [B, T]. keys: un-rotated, [B, H, T, D]."""
        rule, frames, s = self.rule, len(self.history), past.slot_tokens
        vectors, lengths, count = past.view.notes[f"queries{past.layer}"]
        mean = vectors / count
        spread = lengths / count - mean.abs()
        if "turns" not in past.shared:
            offsets = [1 << i for i in range(rule.window_frames.bit_length())]
            distances = torch.tensor([[age + o for o in offsets] for age in range(frames, 0, -1)], dtype=torch.float64)
            past.shared["turns"] = _turns_in_time(distances.to(keys.device, non_blocking=True), past.rope)
        turned = mean[:, :, None, None] * past.shared["turns"]
        by_frame = _pairs(keys).reshape(*keys.shape[:2], frames, s, -1)  # [B, H, F, S, P]
        extra = torch.zeros(by_frame.shape[:4], device=keys.device)
        if rule.amplitude:
            weight = spread
            if rule.gate:
                assert chunk is not None
                now = _pairs(chunk.raw_queries).mean(2)
                cosine = torch.cosine_similarity(_flat(now), _flat(mean)).clamp(-1, 1)
                weight = spread * torch.exp(-rule.strength * (1 - cosine))[:, None, None]
            extra = torch.einsum("bhfsp,bhp->bhfs", by_frame.abs(), weight)
        if rule.fusion == "mean":
            return (_products(by_frame, turned.mean(3, keepdim=True))[..., 0] + extra).mean(1).flatten(1)
        return (_products(by_frame, turned) + extra[..., None]).amax((1, 4)).flatten(1)


def _turns_in_time(by_FO: Tensor, rope: Rope) -> Tensor:
    """Rotations by so many frames that leave rows and columns alone: complex64 [F, O, P]."""
    angles = by_FO[..., None] * rope.time_freqs
    still = torch.zeros((*by_FO.shape, sum(rope.split[1:])), dtype=angles.dtype, device=angles.device)
    angles = torch.cat([angles, still], -1)
    return torch.polar(torch.ones_like(angles), angles).to(torch.complex64)


def _flat(x: Tensor) -> Tensor:
    """Complex [B, H, P] as one real vector for each video."""
    return torch.view_as_real(x).flatten(1)


def _products(k_BHFSP: Tensor, q_BHFOP: Tensor) -> Tensor:
    """Of every key and every query of its frame as real vectors: float32 [B, H, F, S, O]."""
    k, q = (torch.view_as_real(x).flatten(-2) for x in (k_BHFSP, q_BHFOP))
    return k @ q.mT
