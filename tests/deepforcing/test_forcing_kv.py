"""Forcing-KV against attention written from its rules, per head, in float64; its classes of heads; what it refuses."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from banded import CHUNK, CONFIG, GRID, LAYERS, H, S, draw, outputs
from naive import softmax_attention, turn_frames
from torch import Tensor

from deepforcing.cache.bands import BandedPolicy, HeadBands
from deepforcing.cache.forcing_kv import ForcingKV, ForcingKVRelease, Kept, patches
from deepforcing.cache.head_classes import HeadClasses, read_classes
from deepforcing.cache.observe import Seen
from deepforcing.tiny.model import TINY_CONFIG, TinySpec
from deepforcing.wan.config import WanConfig

CLASSES = HeadClasses(((), (0, 3), (1, 2, 4)), H)
CHUNKS = 8


def rule(**changes: object) -> ForcingKV:
    return ForcingKV(**{"heads": CLASSES, "patches_per_frame": 3, **changes})  # type: ignore[arg-type]


def cache_for(made: BandedPolicy, batch: int = 1, **options: object) -> HeadBands:
    return made.new_cache(CONFIG, GRID, CHUNK, CHUNKS * CHUNK, batch, **options)  # type: ignore[arg-type]


def naive_forcing_kv(video: int, r: ForcingKV, by_slot: bool) -> tuple[list[list[Tensor]], dict[int, list[int]]]:
    """From the description: what every head reads is a list of (frame of the key, frame of the value, token in it), in the
    order of slots. Outputs as banded.outputs gives them, and the kept patches by the chunk before which they were chosen."""
    sink, static, recent, keep = r.sink_frames, r.static_frames, r.recent_frames, r.patch_frames
    clean: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
    chosen: dict[int, list[int]] = {}
    kept: list[int] = []  # tokens, counted from the first candidate
    base = 0
    released = isinstance(r, ForcingKVRelease)
    ring: list[tuple[int, int]] = []  # of static heads as released: frames of keys and of values, the oldest key first
    out: list[list[Tensor]] = []
    history: list[int] = []
    for chunk in range(CHUNKS):
        start = chunk * CHUNK
        own = list(range(start, start + CHUNK))
        grouped = start >= r.warmup_frames
        if start == r.warmup_frames:
            ring = [(f, f) for f in history[-static:]] if static else []
        out.append([])
        sinks = list(range(min(sink, start)))
        for name in ("noisy", "less noisy", "clean"):
            for layer in range(LAYERS):
                q, k, v = draw(video, chunk, name, layer)
                heads = []
                for h in range(H):
                    whole = [(f, f) for f in sinks + history]
                    if not grouped or layer == 0:
                        frames, tokens = whole, []
                    elif h in CLASSES.static[layer]:
                        frames, tokens = [(f, f) for f in sinks] + ring, []
                    else:
                        frames = [(f, f) for f in sinks + list(range(max(sink, start - recent), start))]
                        tokens = kept
                    lead = len(sinks)
                    slots = len(frames) + len(tokens) // S
                    at = list(range(start - slots, start)) if by_slot else [f for f, _ in frames]
                    places = at[:lead] + at[lead + len(tokens) // S :] if by_slot else at
                    keys = [
                        turn_frames(clean[layer, f][0][None, h : h + 1], [p], GRID)
                        for (f, _), p in zip(frames, places, strict=True)
                    ]
                    values = [clean[layer, f][1][None, h : h + 1] for _, f in frames]
                    for i, token in enumerate(tokens):
                        frame, place = base + token // S, token % S
                        position = at[lead + i // S] if by_slot else frame
                        turned = turn_frames(clean[layer, frame][0][None, h : h + 1], [position], GRID)
                        keys.append(turned[:, :, place : place + 1])
                        values.append(clean[layer, frame][1][None, h : h + 1, place : place + 1])
                    keys.append(turn_frames(k[None, h : h + 1], own, GRID))
                    values.append(v[None, h : h + 1])
                    heads.append(
                        softmax_attention(
                            turn_frames(q[None, h : h + 1], own, GRID),
                            torch.cat(keys, 2),
                            torch.cat([x.double() for x in values], 2),
                        )
                    )
                out[-1].append(torch.cat(heads, 1))
                if name == "clean":
                    for i, f in enumerate(own):
                        clean[layer, f] = (k[:, i * S : i * S + S], v[:, i * S : i * S + S])
        if grouped and keep:  # in layer 1, the first with dynamic heads
            base = start - recent
            dynamic = [h for h in range(H) if h not in CLASSES.static[1]]
            chain = [
                turn_frames(clean[1, f][0][None, dynamic], [f], GRID)[0].permute(1, 0, 2).flatten(1)
                for f in range(base, base + CHUNK + 1)
            ]
            size = S // patches(r.patches_per_frame, S)
            alike = []
            for one, following in pairwise(chain):
                cosines = (one * following).sum(1) / (one.norm(dim=1) * following.norm(dim=1))
                alike += cosines.view(-1, size).mean(1).tolist()
            lowest = sorted(sorted(range(len(alike)), key=lambda i: alike[i])[: keep * S // size])
            chosen[start + CHUNK] = lowest
            kept = [patch * size + i for patch in lowest for i in range(size)]
        if grouped and static:
            frames = ([k for k, _ in ring] + own)[-static:]
            values = ([v for _, v in ring] + own)[-static:]
            if released and static > CHUNK:  # keys at the pointer, which moves on, then values at the pointer
                old = [v for _, v in ring]
                values = own + [old[(i + CHUNK) % static] for i in range(CHUNK, static)]
            ring = list(zip(frames, values, strict=True))
        history = [f for f in [*history, *own] if f >= sink][-max(static, recent) :] if max(static, recent) else []
    return out, chosen


RULES = [
    rule(),
    rule(sink_frames=2, static_frames=3, recent_frames=2, patch_frames=2, warmup_frames=9),
    rule(static_frames=5, patches_per_frame=6, warmup_frames=3),  # a window that still fills up
    rule(recent_frames=3, patch_frames=2, patches_per_frame=2, sink_frames=0),
    rule(patch_frames=0, recent_frames=4, static_frames=0),
    ForcingKVRelease(CLASSES, 1, 5, 2, 1, 3, 9),
    ForcingKVRelease(CLASSES, 2, 4, 1, 1, 3, 6),
]


# The release reads at absolute frames.
CASES = [(r, a) for r in RULES for a in ("absolute", "slot") if a == "absolute" or not isinstance(r, ForcingKVRelease)]


@pytest.mark.parametrize(("r", "alignment"), CASES)
def test_forcing_kv_equals_the_rule_written_out(r: ForcingKV, alignment: str) -> None:
    """Two videos in a batch: each chooses patches of its own, as if it were alone."""
    seen: list[Seen] = []
    got = outputs(cache_for(BandedPolicy(r, alignment), 2, watch=seen.append), (5, 8), CHUNKS)
    kept = {s.start: c for s in seen for c in s.chosen if isinstance(c, Kept)}
    choices = []
    for item, video in enumerate((5, 8)):
        want, chosen = naive_forcing_kv(video, r, alignment == "slot")
        assert {start: c.patches[item].tolist() for start, c in kept.items()} == {
            start: c for start, c in chosen.items() if start < CHUNKS * CHUNK
        }
        choices.append(chosen)
        for mine, right in zip(got, want, strict=True):
            for a, b in zip(mine, right, strict=True):
                torch.testing.assert_close(a[item : item + 1].double(), b, atol=2e-5, rtol=1e-5)
    assert bool(r.patch_frames) == (choices[0] != choices[1])


def test_the_release_differs_where_a_window_is_longer_than_a_chunk() -> None:
    def video(r: ForcingKV) -> Tensor:
        return torch.stack([x for chunk in outputs(cache_for(BandedPolicy(r)), (5,), CHUNKS) for x in chunk])

    for static in (1, 3):
        sane, released = rule(static_frames=static), ForcingKVRelease(CLASSES, 1, static, patches_per_frame=3)
        assert torch.equal(video(sane), video(released))
    sane, released = rule(static_frames=4), ForcingKVRelease(CLASSES, 1, 4, patches_per_frame=3)
    apart = (video(sane) - video(released)).abs().flatten(1).amax(1)
    assert apart[: 3 * 3 * LAYERS].max() < 1e-5  # until the first chunk after the grouping has been written
    assert apart[3 * 3 * LAYERS :].max() > 0.1


def test_bytes_are_those_held_while_heads_part() -> None:
    for r in RULES:
        made = BandedPolicy(r)
        cache = cache_for(made, 2)
        whole = cache.whole
        outputs(cache, (1, 2), 5)
        assert whole is not None
        layers = [layer for c in (whole, *cache.bands.values()) for layer in c.layers]
        tensors = [t for layer in layers for t in (layer.k, layer.v, layer.raw, layer.origin) if t is not None]
        unused = [layer.origin for c in cache.bands.values() for layer in c.layers if not layer.k.shape[1]]
        held = sum(t.numel() * t.element_size() for t in tensors)
        held -= sum(t.numel() * t.element_size() for t in unused if t is not None)
        assert made.bytes(CONFIG, S, CHUNK, CHUNKS * CHUNK, 4, 2) == pytest.approx(held, rel=0.02)


def test_tokens_read_with_the_published_sizes() -> None:
    """Five frames in static heads, six in dynamic ones, five in the first layer."""
    cache = cache_for(BandedPolicy(rule()))
    outputs(cache, (0,), 5)
    static = sum(len(h) for h in CLASSES.static)
    assert cache.attended_tokens == S * (5 * (H + static) + 6 * (2 * H - static)) / (3 * H)


def test_patches_of_a_frame() -> None:
    assert patches(None, 1560) == 6
    assert patches(None, 16) == 4
    assert patches(None, 35) == 5
    assert patches(8, 16) == 8


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sink_frames": -1}, "sink_frames=-1 must be at least 0"),
        ({"patches_per_frame": 0}, "patches_per_frame=0 must be at least 1, or null"),
        ({"warmup_frames": 4}, "warmup_frames=4 must be a multiple of the chunk of 3"),
        ({"warmup_frames": 3, "sink_frames": 3}, "warmup_frames=3 must hold sink_frames=3 and recent_frames=1"),
        ({"recent_frames": 4, "warmup_frames": 9}, "recent_frames=4 must be 1 to 3"),
        ({"recent_frames": 0}, "recent_frames=0 must be 1 to 3"),
        ({"patch_frames": 4}, "patch_frames=4 must be at most 3"),
        ({"patches_per_frame": 4}, "patches_per_frame=4 does not divide this model's 6 tokens per frame; use 6"),
        ({"heads": HeadClasses(((), ()), 5)}, "of a model with 2 layers of 5 heads, this one has 3 of 5"),
        ({"heads": HeadClasses(((), (), ()), 4)}, "of a model with 3 layers of 4 heads, this one has 3 of 5"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        cache_for(BandedPolicy(rule(**changes)))
    assert "\n" not in str(caught.value)


def test_the_release_refuses_a_ring_whose_filling_is_unknown() -> None:
    ForcingKVRelease(CLASSES, 1, 5, warmup_frames=6).check(CHUNK)
    with pytest.raises(ValueError, match="use cache=forcing_kv"):
        ForcingKVRelease(CLASSES, 1, 6, warmup_frames=6).check(CHUNK)


GOOD = [{"layer": 0, "static": [1], "dynamic": [0]}, {"layer": 1, "static": [], "dynamic": [1, 0]}]


@pytest.mark.parametrize("wrap", [lambda groups: groups, lambda groups: {"groups": groups, "model": {"name": "x"}}])
def test_classes_are_read(wrap: object, tmp_path: Path) -> None:
    file = tmp_path / "heads.json"
    file.write_text(json.dumps(wrap(GOOD[::-1])))  # type: ignore[operator]
    classes = read_classes(str(file))
    assert classes == HeadClasses(((1,), ()), 2)
    assert classes.dynamic == ((0,), (0, 1))
    assert ForcingKV(str(file)) == ForcingKV(classes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no head classes"),
        ("[]", "layers must be 0, 1, 2"),
        ("{}", "holds no head classes"),
        ("3", "holds no head classes"),
        ("[3]", "holds no head classes"),
        ("[" * 100_000, "holds no head classes"),
        (json.dumps([{"layer": 0, "static": [0]}]), "holds no head classes"),
        (json.dumps([{"layer": [0], "static": [0], "dynamic": []}]), "holds no head classes"),
        (json.dumps([GOOD[0], GOOD[0]]), "each be there once"),
        (json.dumps([GOOD[1]]), "layers must be 0, 1, 2"),
        (json.dumps([{**GOOD[0], "layer": "0"}]), "layers must be 0, 1, 2"),
        (json.dumps([{"layer": 0, "static": [0], "dynamic": [0]}]), "layer 0 must name each of its 2 heads once"),
        (json.dumps([{"layer": 0, "static": [0, 2], "dynamic": [4]}]), "layer 0 must name each of its 3 heads once"),
        (json.dumps([{"layer": 0, "static": ["0"], "dynamic": [1]}]), "layer 0 must name each"),
        (json.dumps([{"layer": 0, "static": [True], "dynamic": [0]}]), "layer 0 must name each"),
        (json.dumps([{"layer": 0, "static": "01", "dynamic": []}]), "layer 0 must name each"),
        (json.dumps([GOOD[0], {"layer": 1, "static": [0], "dynamic": []}]), "layer 1 must name each of its 2 heads"),
    ],
)
def test_files_that_hold_no_classes_are_refused_in_one_line(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "heads.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=words) as caught:
        read_classes(str(file))
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_and_one_too_large(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"is no file of head classes; find them with python -m experiments.head_classes"
    ):
        ForcingKV(str(tmp_path / "none.json"))
    (tmp_path / "large.json").write_bytes(b" " * (1 << 20) + b"[]")
    with pytest.raises(ValueError, match="larger than"):
        ForcingKV(str(tmp_path / "large.json"))


def test_the_shipped_classes_are_the_shipped_model_s() -> None:
    """Of its checkpoint: another needs another run of experiments.head_classes, which tests/experiments tries."""
    file = Path(read_classes.__globals__["SHIPPED"])
    assert json.loads(file.read_text())["model"]["checkpoint"] == TinySpec().identity()["checkpoint"]
    ForcingKV().check_model(TINY_CONFIG, 16)
    with pytest.raises(ValueError, match="6 layers of 4 heads, this one has 30 of 12"):
        ForcingKV().check_model(WanConfig(), 1560)


def test_what_the_first_layer_s_classes_are_does_not_matter() -> None:
    """They are never used; two files that differ there only are the same run."""
    other = HeadClasses(((0, 1), *CLASSES.static[1:]), H)
    assert rule(heads=other) == rule()
    assert rule(heads=HeadClasses(((), (0, 3), (1, 2)), H)) != rule()
