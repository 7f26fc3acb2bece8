"""Heads in bands: Dummy Forcing against attention written from its rules, per head, in float64; what bands may not do."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from banded import CHUNK, CONFIG, GRID, LAYERS, H, S, draw, outputs
from naive import softmax_attention, turn_frames
from torch import Tensor

from deepforcing.cache.bands import Band, Banded, BandedPolicy, Bands, HeadBands
from deepforcing.cache.dummy_forcing import DummyForcing
from deepforcing.cache.observe import Seen
from deepforcing.cache.policy import Plan, Retention, View
from deepforcing.cache.retention import SinkRecent
from deepforcing.rollout.rules import Chunkwise, Rolling
from deepforcing.rollout.schedule import Schedule


def policy(alignment: str = "absolute", **changes: object) -> BandedPolicy:
    return BandedPolicy(DummyForcing(**changes), alignment, "dummy_forcing")  # type: ignore[arg-type]


def cache_for(made: BandedPolicy, batch: int = 1, chunks: int = 7, **options: object) -> HeadBands:
    return made.new_cache(CONFIG, GRID, CHUNK, chunks * CHUNK, batch, **options)  # type: ignore[arg-type]


def naive_dummy_forcing(
    video: int, rule: DummyForcing, by_slot: bool, chunks: int = 7
) -> tuple[list[list[Tensor]], list[list[int]]]:
    """From the description: per head the list of frames that it reads. Outputs as above, and the classes per layer."""
    local, warmup = rule.local_frames, rule.warmup_frames
    classes: list[list[int]] = []
    clean: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}  # (layer, frame) -> k, v [H, S, D]
    before = list[int]()
    out: list[list[Tensor]] = []
    for chunk in range(chunks):
        start = chunk * CHUNK
        own = list(range(start, start + CHUNK))
        if start < warmup:
            past = {h: dict.fromkeys(range(LAYERS), before) for h in range(H)}
        shares: list[Tensor] = []
        out.append([])
        for name in ("noisy", "less noisy", "clean"):
            for layer in range(LAYERS):
                q, k, v = draw(video, chunk, name, layer)
                heads = []
                for h in range(H):
                    if start >= warmup:
                        newest = list(range(max(1, start - local), start))
                        past[h][layer] = {0: [0], 1: newest, 2: [start - 1]}[classes[layer][h]]
                    read = past[h][layer]
                    positions = list(range(start - len(read), start)) if by_slot else read
                    kept = [clean[layer, f] for f in read] + [
                        (k[:, i * S : i * S + S], v[:, i * S : i * S + S]) for i in range(CHUNK)
                    ]
                    keys = turn_frames(torch.cat([a[h] for a, _ in kept])[None, None], positions + own, GRID)
                    values = torch.cat([b[h] for _, b in kept])[None, None]
                    queries = turn_frames(q[None, h : h + 1], own, GRID)
                    heads.append(softmax_attention(queries, keys, values))
                    if name == "clean" and start + CHUNK == warmup:
                        count = S if chunk == 1 else CHUNK * S
                        rows = rule.rows(layer, max(1, count // 3), CHUNK * S)
                        logits = queries[0, 0, rows] @ keys[0, 0].T / 14**0.5
                        mass = logits.softmax(-1).mean(0)
                        shares.append(torch.stack([mass[:count].sum(), mass[count : -CHUNK * S].sum()]))
                out[-1].append(torch.cat(heads, 1))
                if name == "clean":
                    for i, f in enumerate(own):
                        clean[layer, f] = (k[:, i * S : i * S + S], v[:, i * S : i * S + S])
        if shares:
            p = torch.stack(shares)
            p = p / p.sum(0)
            dummies = sorted(range(LAYERS * H), key=lambda i: float(p[i].max()))[: round(rule.dummy_share * LAYERS * H)]
            flat = [2 if i in dummies else 1 if p[i, 0] < p[i, 1] else 0 for i in range(LAYERS * H)]
            classes = [flat[layer * H : layer * H + H] for layer in range(LAYERS)]
        before = [0, *[f for f in before + own if f > 0][-local:]]
    return out, classes


RULES = [
    DummyForcing(),
    DummyForcing(warmup_frames=9, local_frames=6, dummy_share=0.4, seed=3),
    DummyForcing(warmup_frames=9, local_frames=3, dummy_share=0.2),
    DummyForcing(local_frames=6, dummy_share=0.0),
    DummyForcing(local_frames=9, dummy_share=1.0),
]


@pytest.mark.parametrize("alignment", ["absolute", "slot"])
@pytest.mark.parametrize("rule", RULES, ids=lambda r: f"{r.warmup_frames}-{r.local_frames}-{r.dummy_share}")
def test_dummy_forcing_equals_the_rule_written_out(rule: DummyForcing, alignment: str) -> None:
    """Two videos in a batch, each with classes of its own: as if each were alone."""
    cache = cache_for(BandedPolicy(rule, alignment), 2)
    got = outputs(cache, (5, 8))
    classes = []
    for item, video in enumerate((5, 8)):
        want, found = naive_dummy_forcing(video, rule, alignment == "slot")
        classes.append(found)
        for mine, right in zip(got, want, strict=True):
            for a, b in zip(mine, right, strict=True):
                torch.testing.assert_close(a[item : item + 1].double(), b, atol=2e-5, rtol=1e-5)
        for kind, name in enumerate(("first", "local", "dummy")):
            heads = cache.heads.get(name, [torch.tensor([])] * LAYERS)
            mine = [[int(h) - item * H for h in layer if h // H == item] for layer in heads]
            assert mine == [[h for h in range(H) if layer[h] == kind] for layer in found]
    if 0 < rule.dummy_share < 1:
        assert classes[0] != classes[1]
    sizes = {0: 1, 1: rule.local_frames, 2: 1}
    frames = [sizes[c] + CHUNK for found in classes for layer in found for c in layer]
    assert cache.attended_tokens == pytest.approx(S * sum(frames) / len(frames))


def test_rows_differ_by_layer_and_seed_alone() -> None:
    one, two = DummyForcing(), DummyForcing(seed=1)
    assert torch.equal(one.rows(2, 9, 50), DummyForcing(local_frames=9).rows(2, 9, 50))
    assert not torch.equal(one.rows(2, 9, 50), one.rows(1, 9, 50))
    assert not torch.equal(one.rows(2, 9, 50), two.rows(2, 9, 50))


def test_an_observer_is_told_whose_heads_it_sees() -> None:
    told: list[Seen] = []
    watched, plain = (outputs(cache_for(policy(), watch=watch), (0,), 4) for watch in (told.append, None))
    assert all(
        torch.equal(a, b) for mine, other in zip(watched, plain, strict=True) for a, b in zip(mine, other, strict=True)
    )
    of_chunk = [seen for seen in told if seen.start == 9 and seen.kind == "commit"]
    for layer in range(LAYERS):
        heads = [h for seen in of_chunk if seen.layer == layer and seen.heads is not None for h in seen.heads.tolist()]
        assert sorted(heads) == list(range(H))
    assert {seen.band for seen in of_chunk} == {"first", "local", "dummy"}
    assert {(seen.band, seen.heads) for seen in told if seen.start < 6} == {("", None)}


def test_passes_are_steady_once_heads_have_parted() -> None:
    cache = cache_for(policy())
    for chunk in range(4):
        cache.begin(chunk * CHUNK)
        memories = cache.denoise(0), cache.commit()
        assert all(memory.steady == (chunk >= 2) for memory in memories)
        for layer in range(LAYERS):
            q, k, v = draw(0, chunk, "clean", layer)[:, None]
            memories[1].attend(layer, q, k, v)
    assert cache.denoise(0) is memories[0]


def test_one_commit_rule_for_all_bands() -> None:
    """commit_frames=9: a clean pass reads the newest nine frames in every head, whatever its band keeps."""
    made = replace(policy(), commit_frames=9)
    seen: list[Seen] = []
    outputs(cache_for(made, watch=seen.append), (3,))
    for one in seen:
        if one.kind == "commit":
            end = one.start + CHUNK
            assert sorted(slot.frame for slot in one.slots if slot.frame is not None) == list(
                range(max(0, end - 9), end)
            )


def test_bytes_cover_what_is_held_while_heads_part_and_after() -> None:
    for rule in RULES:
        made = BandedPolicy(rule, "slot")
        cache = cache_for(made, 2)
        whole = cache.whole
        outputs(cache, (1, 2), 4)
        assert whole is not None
        held = [t for c in (whole, *cache.bands.values()) for layer in c.layers for t in (layer.k, layer.v, layer.raw)]
        assert sum(t.numel() * 4 for t in held if t is not None) <= made.bytes(CONFIG, S, CHUNK, 21, 4, 2)


@dataclass(frozen=True)
class Halves(Banded):
    """A newcomer's: even heads keep two frames, odd ones four. `wrong` forgets head 0 of layer 1."""

    wrong: bool = False

    def capacity(self, chunk_frames: int) -> int | None:
        return 4 + chunk_frames

    def plan(self, view: View) -> Plan:
        return SinkRecent(0, 4).plan(view)

    @property
    def rules(self) -> tuple[Retention, ...]:
        return SinkRecent(0, 2), SinkRecent(0, 4)

    def most_heads(self, layers: int, heads: int) -> tuple[int, ...]:
        return layers * ((heads + 1) // 2), layers * (heads // 2)

    def group(self, view: View) -> Bands | None:
        even, odd = tuple(range(0, H, 2)), tuple(range(1, H, 2))
        heads = (even, even[1:] if self.wrong else even, even)
        return Bands((Band("even", self.rules[0], heads, ()), Band("odd", self.rules[1], (odd,) * LAYERS, ())))


def test_heads_may_part_before_the_first_chunk() -> None:
    cache = cache_for(BandedPolicy(Halves()), 2)
    outputs(cache, (0, 1))
    assert cache.attended_tokens == S * (9 * (2 + CHUNK) + 6 * (4 + CHUNK)) / 15
    assert all(band.batch == 2 for band in cache.bands.values())


def test_bands_must_share_out_all_heads() -> None:
    with pytest.raises(ValueError, match="layer 1: bands must share out 5 heads"):
        outputs(cache_for(BandedPolicy(Halves(wrong=True))), (0,))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dummy_share": 1.5}, "dummy_share=1.5 must be between 0 and 1"),
        ({"local_frames": 0}, "local_frames=0 must be at least 1"),
        ({"local_frames": 4}, "local_frames=4 must be a multiple of the chunk of 3"),
        ({"warmup_frames": 3}, "warmup_frames=3 must be a multiple of the chunk of 3 latent frames, 6 or more"),
        ({"warmup_frames": 7}, "warmup_frames=7 must be a multiple"),
    ],
)
def test_sizes_that_cannot_work_are_refused_in_one_line(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        policy(**changes).check(CHUNK, 63)
    assert "\n" not in str(caught.value)


def test_limits_and_what_bands_have_no_rule_for() -> None:
    assert policy().max_frames(CHUNK) == 1023
    assert policy("slot").max_frames(CHUNK) is None
    with pytest.raises(ValueError, match=r"commit_frames=3 is too few .* use 6 or more"):
        replace(policy(), commit_frames=3).check(CHUNK, 63)
    with pytest.raises(ValueError, match="denoises several chunks at once"):
        Rolling().check(policy(), Schedule(), CHUNK, 63)
    Chunkwise().check_schedule(policy(), CHUNK, 60)
    with pytest.raises(ValueError, match=r"on_switch=recache .* use generator.on_switch=nothing"):
        Chunkwise("recache").check_schedule(policy(), CHUNK, 60)
    with pytest.raises(ValueError, match="joint window"):
        cache_for(policy()).begin(0, 15)
    with pytest.raises(ValueError, match="on_switch=nothing"):
        cache_for(policy()).recompute(True)
