"""What a cache must not do over a long video: lose precision, or run past its limits; and sizes that cannot work."""

from __future__ import annotations

import pytest
import torch
from naive import turn, turn_frames

from deepforcing.cache.alignment import Absolute, ReleaseSink
from deepforcing.cache.compression import ParticipativeCompression
from deepforcing.cache.kv import KVCache
from deepforcing.cache.policy import CachePolicy
from deepforcing.cache.retention import KeepAll, SinkWindow
from deepforcing.wan.config import WanConfig

CHUNK = 3


def test_rounding_does_not_grow_over_300_chunks() -> None:
    """bfloat16, Deep Sink: the sink's keys as read stay one rounding away from the exact rotation of the raw keys.

    Turning the stored keys a little further at every chunk, as the published code does, is shown to grow meanwhile.
    """
    config = WanConfig(dim=128, num_heads=1, num_layers=1)  # the full-size model's head: 22 temporal pairs
    time = 2 * 22
    cache = KVCache(CachePolicy(SinkWindow(9, 4), "sink"), config, (1, 2), CHUNK, 903, dtype=torch.bfloat16)
    generator = torch.Generator().manual_seed(0)
    errors, in_place_errors = {}, {}
    in_place = None
    for chunk in range(301):
        cache.begin(chunk * CHUNK)
        q, k, v = torch.randn(3, 1, 1, CHUNK * 2, 128, generator=generator).bfloat16()
        cache.commit().attend(0, q, k, v)
        if chunk < 3:
            continue
        slots = cache.view.slots[:4]
        assert [slot.role for slot in slots] == ["sink"] * 4
        begin = chunk * CHUNK - 2 - 4  # the tail holds 9 - 4 - 3 frames
        order = [t for i in cache.places[:4] for t in (2 * i, 2 * i + 1)]
        raw = cache.layers[0].raw[:, :, order]
        exact = turn_frames(raw, list(range(begin, begin + 4)), (1, 2))[..., :time]
        read = cache.keys(0).transpose(1, 2)[:, :, :8, :time].double()
        errors[chunk] = float((read - exact).norm() / exact.norm())
        if in_place is None:
            in_place = turn_frames(raw, list(range(begin, begin + 4)), (1, 2)).bfloat16()
        else:
            in_place = turn(in_place, torch.tensor([3.0]), torch.tensor([0.0]), torch.tensor([0.0])).bfloat16()
        in_place_errors[chunk] = float((in_place[..., :time].double() - exact).norm() / exact.norm())
    assert errors[300] < 1.15 * errors[20]
    assert max(errors.values()) < 0.004  # one bfloat16 rounding
    assert in_place_errors[300] > 0.05
    assert in_place_errors[300] > 3 * in_place_errors[20]


@pytest.mark.parametrize(
    ("retention", "chunk", "words"),
    [
        (lambda: SinkWindow(9, 9), 3, "below window_frames=9"),
        (lambda: SinkWindow(9, 12), 3, "below window_frames=9"),
        (lambda: SinkWindow(9, 7), 3, "at most 6"),
        (lambda: SinkWindow(2), 3, "window_frames=2"),
        (lambda: SinkWindow(9, -1), 3, "sink_frames=-1"),
        (lambda: ParticipativeCompression(recent_frames=7), 3, "budget_frames=16"),
        (lambda: ParticipativeCompression(budget_frames=22), 3, "must not exceed window_frames=21"),
        (lambda: ParticipativeCompression(sink_frames=21), 3, "below window_frames=21"),
        (lambda: ParticipativeCompression(recent_frames=2), 3, "recent_frames=2"),
        (lambda: ParticipativeCompression(sink_frames=-1), 3, "sink_frames=-1"),
        (lambda: ParticipativeCompression(recent_frames=0), 3, "recent_frames=0"),
        (lambda: ParticipativeCompression(reuse_limit=0), 3, "at least 1"),
        (lambda: ParticipativeCompression(queries="past", recent_frames=3), 3, "use 4 or more"),
        (lambda: ParticipativeCompression(queries="noisy"), 3, "'denoising', 'past' or 'both'"),  # type: ignore[arg-type]
    ],
)
def test_sizes_that_cannot_work_are_refused_in_one_line(retention, chunk: int, words: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=words) as caught:
        CachePolicy(retention()).check(chunk, 63)
    assert "\n" not in str(caught.value)


def test_length_limits() -> None:
    """Absolute positions end with the published table of 1024, in whole chunks; re-aligned windows do not end."""
    sink, chosen = SinkWindow(9, 3), ParticipativeCompression()
    for unlimited in (CachePolicy(sink, "sink"), CachePolicy(chosen, "unified"), CachePolicy(sink, "slot")):
        assert unlimited.max_frames(CHUNK) is None
        unlimited.check(CHUNK, 30_000)
    for limited in (
        CachePolicy(SinkWindow(9)),
        CachePolicy(KeepAll(), "slot"),
        CachePolicy(sink, ReleaseSink(16)),
        CachePolicy(chosen),
        CachePolicy(chosen, "sink"),  # the chosen tokens keep their frames, however old
    ):
        assert limited.max_frames(CHUNK) == 1023
        assert limited.max_frames(1) == 1024
        limited.check(CHUNK, 1023)
        with pytest.raises(ValueError, match="1023"):
            limited.check(CHUNK, 1026)


def test_unknown_alignment_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="absolute, sink, unified, one_shift, slot"):
        CachePolicy(KeepAll(), "sinks")
    assert CachePolicy(KeepAll(), "deepforcing.cache.alignment.Absolute").alignment == Absolute()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nosuch.module.Alignment", "cannot be imported"),
        ("deepforcing.cache.alignment.Nothing", "cannot be imported"),
        ("deepforcing.cache.retention.KeepAll", "is no Alignment"),
        ("fractions.Fraction", "is no Alignment"),
    ],
)
def test_a_dotted_alignment_that_is_none(name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        CachePolicy(KeepAll(), name)
    assert "\n" not in str(caught.value)


def test_half_an_alignment_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepforcing.cache.alignment.Half", type("Half", (), {"relative": True}), raising=False)
    with pytest.raises(ValueError, match="needs `relative` and `positions"):
        CachePolicy(KeepAll(), "deepforcing.cache.alignment.Half")


def test_a_retention_is_shown_all_tokens_of_a_frame() -> None:
    asked = []

    class Asks(SinkWindow):
        def check_model(self, config: WanConfig, slot_tokens: int) -> None:
            asked.append(slot_tokens)

    KVCache(CachePolicy(Asks(9), "slot"), WanConfig(dim=28, num_heads=2, num_layers=1), (2, 5), CHUNK, 30)
    assert set(asked) == {10}
