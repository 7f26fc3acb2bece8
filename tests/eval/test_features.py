"""Drift and repetition from features of clips, whatever network they are of."""

from __future__ import annotations

import math

import numpy as np
import pytest

from eval.measure.features import feature_between
from eval.measure.windows import windows
from eval.metrics.time.clip_drift import ClipDrift
from eval.metrics.time.repetition import Repetition


def test_drift_and_repetition_follow_their_formulas() -> None:
    spans = windows(12 * 8, 8.0, 1.0)
    generator = np.random.default_rng(0)
    features = generator.normal(size=(12, 16)) + 1
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    rows = ClipDrift().rows(features, spans)
    assert [row[:3] for row in rows[:12]] == [("clip_drift", float(t), t + 1.0) for t in range(12)]
    assert [row.value for row in rows[:12]] == pytest.approx([1 - float(u @ unit[0]) for u in unit])
    first, last = features[:5].mean(0), features[7:].mean(0)
    expected = 1 - float(first @ last / np.linalg.norm(first) / np.linalg.norm(last))
    assert rows[12] == ("clip_drift_first_last", 0.0, 12.0, pytest.approx(expected), 96)
    assert math.isnan(ClipDrift().rows(features[:9], spans[:9])[9].value)
    pairs = [float(unit[i] @ unit[j]) for i in range(12) for j in range(i + 1, 12)]
    repeated = [row.value for row in Repetition().rows(features, spans)]
    assert np.mean(repeated) == pytest.approx(np.mean(pairs))
    assert repeated[3] == pytest.approx(np.mean([unit[3] @ unit[j] for j in range(12) if j != 3]))
    assert math.isnan(Repetition().rows(features[:1], spans[:1])[0].value)


def test_features_of_a_range_weigh_windows_by_what_lies_in_it() -> None:
    features = np.arange(6, dtype=float)[:, None]
    spans = windows(12 * 8, 8.0, 2.0)
    assert feature_between(features, spans, 0, 5)[0, 0] == pytest.approx((0 * 2 + 1 * 2 + 2) / 5)
    assert math.isnan(feature_between(features[:2], windows(12 * 8, 8.0, 6.0), 0, 5)[0, 0])
