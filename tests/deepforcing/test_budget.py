"""A policy set to a budget reads it: in its plans, and in a real cache, in every pass once the window is full."""

from __future__ import annotations

import dataclasses

import pytest
from driver import CHUNK, CONFIG, GRID, S, drive

from deepforcing.cache.alignment import ReleaseSink
from deepforcing.cache.budget import frames_read, keys_at, share
from deepforcing.cache.compression import ParticipativeCompression
from deepforcing.cache.dummy_forcing import DummyForcing
from deepforcing.cache.echo_forcing import EchoForcing
from deepforcing.cache.infinity_rope import FlushedWindow, InfinityRope
from deepforcing.cache.memrope import MemRope
from deepforcing.cache.policy import Alignment, CachePolicy, Plan, Retention, View
from deepforcing.cache.relax_forcing import RelaxForcing
from deepforcing.cache.retention import KeepAll, SinkWindow
from deepforcing.cache.rolling_sink import RollingSink

RULES: dict[str, tuple[Retention, Alignment | str]] = {
    "window": (SinkWindow(21), "absolute"),
    "deep sink": (SinkWindow(21, 10), "sink"),
    "released sink": (SinkWindow(21, 14), ReleaseSink(21)),
    "deep forcing": (ParticipativeCompression(), "unified"),
    "released": (ParticipativeCompression(every_pass=True, reuse_limit=7), ReleaseSink(16)),
    "infinity": (FlushedWindow(), InfinityRope()),
    "memrope": (MemRope(), "slot"),
    "relax": (RelaxForcing(window_frames=30), "slot"),
    "rolling sink": (RollingSink(), "slot"),
    "echo": (EchoForcing(), "slot"),
}


UNREACHABLE = {
    ("memrope", 6),
    ("relax", 6),
    ("rolling sink", 6),
    ("rolling sink", 16),
    *(("echo", b) for b in (6, 9, 16)),
}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("budget", [6, 9, 12, 16, 21])
def test_a_real_cache_reads_its_budget_in_every_chunk(name: str, budget: int) -> None:
    retention, alignment = RULES[name]
    policy = CachePolicy(retention, alignment)
    if (name, budget) in UNREACHABLE:
        with pytest.raises(ValueError, match=r"must|need|leave"):
            keys_at(policy, budget, CHUNK)
        return
    keys = keys_at(policy, budget, CHUNK)
    sized = CachePolicy(dataclasses.replace(retention, **keys), alignment)  # type: ignore[type-var]
    chunks = 18
    cache = sized.new_cache(CONFIG, GRID, CHUNK, chunks * CHUNK)
    read = [cache.attended_tokens / S for _ in drive(cache, chunks)]  # type: ignore[arg-type]
    assert set(read[8:]) == {budget}
    assert max(read[:8]) <= budget


def test_at_the_presets_own_budget_nothing_changes() -> None:
    for name, frames in (
        ("window", 21),
        ("deep sink", 21),
        ("infinity", 6),
        ("memrope", 12),
        ("relax", 7),
        ("echo", 21),
    ):
        assert not keys_at(CachePolicy(*RULES[name]), frames, CHUNK), name


def test_compression_as_published_has_no_single_budget() -> None:
    assert frames_read(ParticipativeCompression(), CHUNK) == (16, 19)
    assert keys_at(CachePolicy(ParticipativeCompression(), "unified"), 16, CHUNK) == {"window_frames": 16}


def test_parts_keep_their_share() -> None:
    assert [share(10, 21, frames) for frames in (6, 9, 12, 16, 21)] == [3, 4, 6, 8, 10]
    assert share(1, 4, 6) == 2  # halves are rounded up
    assert keys_at(CachePolicy(SinkWindow(21), "absolute"), 9, CHUNK) == {"window_frames": 9}  # no sink stays none
    assert keys_at(CachePolicy(SinkWindow(100, 1), "absolute"), 6, CHUNK) == {"window_frames": 6}  # one stays one


def test_where_there_is_no_rule_the_reason_is_said() -> None:
    with pytest.raises(ValueError, match="KeepAll has no rule that sets it to a number of frames read"):
        keys_at(CachePolicy(KeepAll()), 9, CHUNK)
    with pytest.raises(ValueError, match="heads read different numbers of frames"):
        keys_at(CachePolicy(DummyForcing()), 9, CHUNK)
    with pytest.raises(ValueError, match="must be whole chunks of 3"):
        keys_at(CachePolicy(RollingSink(), "slot"), 16, CHUNK)


def test_a_rule_that_promises_too_much_is_found_out() -> None:
    @dataclasses.dataclass(frozen=True)
    class Liar(SinkWindow):
        """Reads every other frame less."""

        def plan(self, view: View) -> Plan:
            plan = super().plan(view)
            return Plan(plan.stored, tuple(range(len(plan.stored) - view.start % 2)))

    with pytest.raises(ValueError, match="its passes would read 8 and 9 latent frames, not 9"):
        keys_at(CachePolicy(Liar(21), "slot"), 9, CHUNK)
