"""Quantised stores: what is read back, what it takes, with which policies it works."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from driver import ALIGNMENTS, CHUNK, RETENTIONS, cache_for, compression, drive, outputs, stacked

from deepforcing.cache.memrope import MemRope
from deepforcing.cache.policy import CachePolicy
from deepforcing.cache.quantised import Quantised
from deepforcing.cache.quantisers import Kivi, Prq, Quantiser, Quarot, Rtn, pack, unpack
from deepforcing.cache.retention import SinkWindow
from deepforcing.wan.config import WanConfig

EVERY = {
    "rtn2": Rtn(2), "rtn4": Rtn(4), "rtn8": Rtn(8), "kivi2": Kivi(2), "kivi4": Kivi(4), "kivi_k8v2": Kivi(8, 2),
    "kivi4_clipped": Kivi(4, clipped=True),
    "quarot4": Quarot(4), "prq": Prq(),
}  # fmt: skip


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("length", [1, 3, 4, 16, 17])
def test_codes_are_packed_without_loss(bits: int, length: int) -> None:
    codes = torch.randint(0, 2**bits, (2, 3, length), generator=torch.Generator().manual_seed(length))
    packed = pack(codes, bits)
    assert packed.shape[-1] == -(-length * bits // 8)
    assert torch.equal(unpack(packed, bits, length).long(), codes)


def coarse(x: torch.Tensor, quantiser: Quantiser, values: bool) -> torch.Tensor:
    return quantiser.decode(quantiser.encode(x, values), values, x.shape[3])


@pytest.mark.parametrize("values", [False, True])
@pytest.mark.parametrize("name", EVERY)
def test_what_is_read_back_is_near_and_the_nearer_the_more_bits(name: str, values: bool) -> None:
    x = torch.randn(2, 2, 3, 21, 16, generator=torch.Generator().manual_seed(1))
    error = (coarse(x, EVERY[name], values) - x).pow(2).mean().sqrt()
    assert error < {"rtn2": 0.7, "kivi2": 0.7, "kivi_k8v2": 0.7 if values else 0.02, "rtn8": 0.02}.get(name, 0.2)
    if name == "rtn2":
        errors = [(coarse(x, Rtn(b), values) - x).pow(2).mean() for b in (2, 4, 8)]
        assert errors[0] > 4 * errors[1] > 16 * errors[2]


@pytest.mark.parametrize("values", [False, True])
def test_blocks_of_one_sign_are_held_unless_zero_points_are_clipped(values: bool) -> None:
    """Published zero points are clipped: of what lies between 5 and 5.2 all becomes the nearest to zero that a code can say."""
    x = 5 + 0.2 * torch.rand(1, 2, 2, 32, 16, generator=torch.Generator().manual_seed(3))
    assert (coarse(x, Kivi(4), values) - x).abs().max() < 0.2 / 15 / 2 + 5 / 2**11  # half a step, and float16
    assert (coarse(x, Kivi(4, clipped=True), values) - x).abs().min() > 4


@pytest.mark.parametrize("name", ["rtn4", "kivi4", "kivi4_clipped", "prq"])
def test_quantising_again_changes_nothing(name: str) -> None:
    x = torch.randn(1, 2, 2, 16, 16, generator=torch.Generator().manual_seed(2))
    once = coarse(x, EVERY[name], False)
    torch.testing.assert_close(coarse(once, EVERY[name], False), once, atol=2e-2 if name == "prq" else 2e-3, rtol=0)


@pytest.mark.parametrize("alignment", ["absolute", "sink", "unified"])
@pytest.mark.parametrize("retention", ["window9", "sink4of11", "pc_both", "pc_per_head", "pc_reuse1", "pc_exhausted"])
def test_eight_bits_are_nearly_the_dense_store(retention: str, alignment: str) -> None:
    """With choices of tokens the runs may part where scores are close: the first chunks show that places agree."""
    dense = CachePolicy(RETENTIONS[retention], ALIGNMENTS[alignment])
    small = dataclasses.replace(dense, store=Quantised(Rtn(8, 4)))
    want, got = stacked(list(drive(cache_for(dense)))), stacked(list(drive(cache_for(small))))
    chunks = range(len(want)) if not retention.startswith("pc") else range(5)
    for chunk in chunks:
        assert (want[chunk] - got[chunk]).abs().mean() < 0.02
    assert not torch.equal(want[-1], got[-1])


def test_merged_memory_and_a_commit_rule_of_its_own_work_quantised() -> None:
    dense = CachePolicy(MemRope(9, 2), ALIGNMENTS["slot"], commit_frames=6)
    small = dataclasses.replace(dense, store=Quantised(Kivi(8, None, 4)))
    for want, got in zip(outputs(cache_for(dense)), outputs(cache_for(small)), strict=True):
        assert (want - got).abs().mean() < 0.03


def test_a_video_does_not_depend_on_its_batch() -> None:
    """But for KIVI, whose values share their scale over heads, nothing is shared between videos."""
    for quantiser in (Rtn(4, 4), Quarot(4, 4), Kivi(4, None, 4)):
        if isinstance(quantiser, Quarot):
            continue  # the driver's head is no power of two
        small = CachePolicy(SinkWindow(9, 3), "sink", store=Quantised(quantiser))
        both = outputs(cache_for(small, batch=2), items=(7, 8))
        for row, item in enumerate((7, 8)):
            for a, b in zip(both, outputs(cache_for(small), items=(item,)), strict=True):
                torch.testing.assert_close(a[:, row : row + 1], b, atol=2e-4, rtol=1e-3)


def test_four_bits_take_a_third_of_the_memory() -> None:
    config = WanConfig()
    dense = CachePolicy(SinkWindow(21, 10), "absolute")
    sizes = {
        bits: dataclasses.replace(dense, store=Quantised(Rtn(bits))).bytes(config, 1560, 3, 240, 2)
        for bits in (2, 4, 8)
    }
    assert sizes[2] < sizes[4] < sizes[8]
    assert sizes[4] < 0.42 * dense.bytes(config, 1560, 3, 240, 2)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"bits=3 must be one of 2, 4, 8"):
        Rtn(3)
    with pytest.raises(ValueError, match="power of two"):
        cache_for(CachePolicy(SinkWindow(9), store=Quantised(Quarot())))
    for policy in (
        CachePolicy(SinkWindow(9, 3), "sink", store=Quantised(release=True)),
        CachePolicy(compression(), "absolute", store=Quantised(release=True)),
    ):
        with pytest.raises(ValueError, match="release=true"):
            cache_for(policy)
    assert CHUNK == 3
