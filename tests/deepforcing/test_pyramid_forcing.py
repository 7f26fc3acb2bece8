"""Pyramid Forcing against attention written from its description, per query frame and head, in float64; its refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from banded import CHUNK, CONFIG, GRID, LAYERS, H, S, draw, outputs
from naive import softmax_attention, turn_frames
from torch import Tensor

from deepforcing.cache.bands import BandedPolicy
from deepforcing.cache.kv import KVCache
from deepforcing.cache.policy import CachePolicy, Plan, Retention, View
from deepforcing.cache.pyramid_forcing import PyramidForcing, PyramidPositions
from deepforcing.cache.retention import SinkRecent

LABELS = ((1, -1, 2, 1, -1), (2, 2, 2, 2, 2), (-1, 1, 2, -1, 1))
CHUNKS = 11


def cache_for(rule: PyramidForcing, batch: int = 1, far: int = 21):  # type: ignore[no-untyped-def]
    return BandedPolicy(rule, PyramidPositions(far)).new_cache(CONFIG, GRID, CHUNK, CHUNKS * CHUNK, batch)


def naive_pyramid(video: int, r: PyramidForcing, far: int) -> list[list[Tensor]]:
    """From the description: each frame of the chunk on its own, at time t; everything is chosen by frame number."""
    clean: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
    out: list[list[Tensor]] = []
    for chunk in range(CHUNKS):
        start = chunk * CHUNK
        out.append([])
        for name in ("noisy", "less noisy", "clean"):
            for layer in range(LAYERS):
                q, k, v = draw(video, chunk, name, layer)
                rows = []
                for j in range(CHUNK):
                    t, heads = start + j, []
                    for h in range(H):
                        label = LABELS[layer][h]
                        sink = r.wave_sink_frames if label == -1 else r.sink_frames
                        rest = list(range(sink, start))
                        reads = [(clean[layer, f], max(0, t - far)) for f in range(min(sink, start))]
                        if label == -1:
                            phase = [f for f in rest if f % r.period_frames == t % r.period_frames][-r.kept :]
                            reads += [(clean[layer, f], max(0, t - far)) for f in phase]
                        elif label == 1:
                            strides = [f for f in rest if f % r.period_frames == 0][-r.kept :]
                            reads += [(clean[layer, f], max(0, t - far)) for f in strides]
                        else:
                            size = r.block_frames
                            for block in range(1, start // size)[-r.kept :]:
                                frames = [clean[layer, f] for f in range(block * size, block * size + size)]
                                mean = [torch.stack([frame[i] for frame in frames]).mean(0) for i in (0, 1)]
                                reads.append(((mean[0], mean[1]), (2 * block * size + size - 1) // 2))
                        newest = (
                            rest[max(0, len(rest) - (r.recent_frames - CHUNK)) :] if r.recent_frames > CHUNK else []
                        )
                        reads += [(clean[layer, f], f) for f in newest]
                        reads += [((k[:, i * S : i * S + S], v[:, i * S : i * S + S]), start + i) for i in range(CHUNK)]
                        keys = turn_frames(
                            torch.cat([a[h] for (a, _), _ in reads])[None, None], [p for _, p in reads], GRID
                        )
                        values = torch.cat([b[h] for (_, b), _ in reads])[None, None]
                        query = turn_frames(q[None, h : h + 1, j * S : j * S + S], [t], GRID)
                        heads.append(softmax_attention(query, keys, values))
                    rows.append(torch.cat(heads, 1))
                out[-1].append(torch.cat(rows, 2))
                if name == "clean":
                    for i in range(CHUNK):
                        clean[layer, start + i] = (k[:, i * S : i * S + S], v[:, i * S : i * S + S])
    return out


@pytest.mark.parametrize(
    ("rule", "far"),
    [
        (PyramidForcing(LABELS), 21),
        (PyramidForcing(LABELS, 2, 1, 5, 4, 3, 2), 9),
        (PyramidForcing(LABELS, 0, 0, 3, 6, 5, 1), 12),
    ],
)
def test_pyramid_forcing_equals_its_description_written_out(rule: PyramidForcing, far: int) -> None:
    got = outputs(cache_for(rule, 2, far), (5, 8), CHUNKS)
    for item, video in enumerate((5, 8)):
        for mine, right in zip(got, naive_pyramid(video, rule, far), strict=True):
            for a, b in zip(mine, right, strict=True):
                torch.testing.assert_close(a[item : item + 1].double(), b, atol=2e-5, rtol=1e-5)


def test_frames_read_once_the_video_is_long() -> None:
    """Wave 1 + 4 + 4, anchor and veil 3 + 4 + 4 with the chunk: the published composition."""
    cache = cache_for(PyramidForcing(LABELS))
    outputs(cache, (0,), CHUNKS)
    frames = {name: band.attended_tokens / S for name, band in cache.bands.items()}
    assert frames == {"wave": 9, "anchor": 11, "veil": 11}
    assert BandedPolicy(PyramidForcing(LABELS), PyramidPositions()).max_frames(CHUNK) is None


class Diagonal(SinkRecent):
    """A newcomer's: frame j of the chunk sees the j-th of the newest three frames alone; `wrong` tells of two frames."""

    wrong = False

    def plan(self, view: View) -> Plan:
        stored = super().plan(view).stored
        frames = range(2 if self.wrong else view.chunk)
        return Plan(stored, sees=tuple((j,) if j < len(stored) else () for j in frames))


def test_any_retention_may_show_frames_different_slots() -> None:
    cache = KVCache(CachePolicy(Diagonal(0, 3)), CONFIG, GRID, CHUNK, 9)
    before = None
    for chunk in range(3):
        cache.begin(chunk * CHUNK)
        q, k, v = draw(0, chunk, "clean", 0)[:, None]
        out = cache.commit().attend(0, q, k, v)
        if before is not None:
            for j in range(CHUNK):
                own, at = list(range(chunk * CHUNK, chunk * CHUNK + CHUNK)), slice(j * S, j * S + S)
                frames = [chunk * CHUNK - CHUNK + j, *own]
                keys = turn_frames(torch.cat([before[0][:, :, at], k], 2), frames, GRID)
                want = softmax_attention(
                    turn_frames(q[:, :, at], own[j : j + 1], GRID), keys, torch.cat([before[1][:, :, at], v], 2)
                )
                torch.testing.assert_close(out[:, :, at].double(), want, atol=2e-5, rtol=1e-5)
            assert cache.attended_tokens == (1 + CHUNK) * S
        before = k, v
    rule: Retention = type("Wrong", (Diagonal,), {"wrong": True})(0, 3)
    with pytest.raises(ValueError, match=r"Wrong.plan says what 2 frames see; the chunk has 3"):
        KVCache(CachePolicy(rule), CONFIG, GRID, CHUNK, 9).begin(0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": None}, "labels=null: Pyramid Forcing needs the labels of"),
        ({"labels": "nowhere.csv"}, "labels=nowhere.csv is no file of head labels"),
        ({"labels": LABELS[:2]}, "labels are of a model with 2 layers of 5 heads, this one has 3 of 5"),
        ({"sink_frames": 5}, "sink_frames=5 must be 0 to block_frames=4"),
        ({"wave_sink_frames": -1}, "wave_sink_frames=-1 must be 0 to"),
        ({"kept": 0}, "kept=0 must be at least 1"),
        ({"recent_frames": 2}, "recent_frames=2 must hold the chunk of 3"),
        ({"recent_frames": 9}, "recent_frames=9 must hold the chunk of 3 latent frames and less than a period of 6"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        cache_for(PyramidForcing(**{"labels": LABELS, **changes}))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "\n\n", "1,2\n-1", "1,0", "wave", "1;2", "1.0,2", "1,,2"])
def test_files_that_hold_no_labels_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(ValueError, match=r"labels.csv must hold a row per layer, with -1, 1 or 2 for every head"):
        PyramidForcing(str(tmp_path / "labels.csv"))


def test_labels_are_read(tmp_path: Path) -> None:
    text = "\n".join(",".join(map(str, row)) for row in LABELS) + "\n"
    (tmp_path / "labels.csv").write_text(text, "utf-8-sig")  # as a spreadsheet writes it
    assert PyramidForcing(str(tmp_path / "labels.csv")) == PyramidForcing(LABELS)
