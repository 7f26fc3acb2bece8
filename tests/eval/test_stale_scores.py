"""Which scores are still good: after another video, prompt, window, version or file of weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from known_metrics import Agreement, Length

from eval.metrics.pixels.exposure import Exposure
from eval.metrics.pixels.saturation import Saturation
from eval.metrics.vbench.temporal_flickering import TemporalFlickering
from eval.protocol import Protocol
from eval.score import score, score_run
from eval.store import load_scores, other_weights
from eval.videos import open_folder

MakeRun = Callable[..., Path]
AddSample = Callable[[Path, str, int, int], None]
ONE = Protocol(window_seconds=1.0)
VBENCH = Protocol("vbench")
TWO = {"aaaaaaaaaa-s0": (0, 40), "bbbbbbbbbb-s0": (1, 40)}


def test_a_new_metric_or_sample_scores_only_itself(make_run: MakeRun, add_sample: AddSample) -> None:
    run = make_run(TWO)
    score_run(run, [Exposure()], ONE)
    exposure = (run / "scores" / "exposure@1.parquet").read_bytes()
    assert score_run(run, [Exposure(), Saturation()], ONE).decoded == 2
    assert (run / "scores" / "exposure@1.parquet").read_bytes() == exposure
    add_sample(run, "cccccccccc-s0", 2, 40)
    scored = score_run(run, [Exposure()], ONE)
    assert scored.decoded == 1
    assert scored.table["sample"].nunique() == 3


def test_a_video_made_anew_is_scored_anew(make_run: MakeRun, add_sample: AddSample) -> None:
    run = make_run(TWO)
    old = score_run(run, [Exposure()], ONE).table
    add_sample(run, "aaaaaaaaaa-s0", 4, 24)
    assert set(load_scores([run], protocol=ONE)["sample"]) == {"bbbbbbbbbb-s0"}
    scored = score_run(run, [Exposure()], ONE)
    assert scored.decoded == 1
    new = scored.table.query("sample == 'aaaaaaaaaa-s0' and metric == 'luma'")
    assert new["t_end"].tolist() == [1.0, 1.5]
    assert len(scored.table) == len(old) - 2


def test_window_lengths_live_side_by_side(make_run: MakeRun) -> None:
    run = make_run({"aaaaaaaaaa-s0": (0, 32)})
    score_run(run, [Length()], ONE)
    assert score_run(run, [Length()], Protocol(window_seconds=2.0)).table["value"].tolist() == [32]
    assert score_run(run, [Length()], ONE).decoded == 0
    assert load_scores([run], protocol=ONE)["value"].tolist() == [16, 16]
    assert load_scores([run], protocol=Protocol(window_seconds=2.0))["value"].tolist() == [32]


def test_other_weights_are_told_by_metric_and_protocol() -> None:
    def rows(run: str, metric: str, protocol: str, weights: object, value: float = 0.5) -> dict[str, object]:
        return {"run": run, "metric": metric, "protocol": protocol, "weights_sha256": weights, "value": value}

    same = [rows(run, "m", "windows", "aa") for run in ("one", "two")]
    free = [
        rows("one", "free", "windows", ""),
        rows("two", "free", "windows", "cc"),
        rows("three", "m", "windows", math.nan),
    ]
    missing = [rows("two", "m", "windows", "bb", math.nan)]
    assert other_weights(pd.DataFrame([*same, *free, *missing, rows("two", "m", "vbench", "bb")])) == []
    (told,) = other_weights(
        pd.DataFrame([*same, *free, rows("two", "m", "windows", "bb"), rows("four", "n", "vbench", "aa")])
    )
    assert "m (windows) was scored with different weights files (one, two; two)" in told
    assert "protocol=windows" in told
    assert len(other_weights(pd.DataFrame([rows("one", "m", "windows", "aa+bb")]))) == 1  # a folder of both


def test_stale_versions_are_left_out(make_run: MakeRun) -> None:
    run, other = make_run({"aaaaaaaaaa-s0": (0, 16)}), make_run({"aaaaaaaaaa-s0": (0, 16)}, name="other-0123abcd")
    for directory, version, value in ((run, 9, 1.0), (run, 10, 2.0), (other, 9, 3.0)):
        score_run(directory, [Length()], ONE)
        path = directory / "scores" / "length@10.parquet"
        rows = pd.read_parquet(path).assign(version=version, value=value)
        if version == 9:
            path.unlink()
        rows.to_parquet(path.with_name(f"length@{version}.parquet"))
    for metrics in (None, [Length()]):
        table = load_scores([run, other], metrics, ONE)
        assert table[["run", "version", "value"]].to_numpy().tolist() == [[run.name, 10, 2.0]]


def test_another_prompt_is_another_score(make_run: MakeRun, tmp_path: Path) -> None:
    videos = make_run(TWO) / "samples"
    prompts = tmp_path / "prompts.txt"

    def values(*texts: str) -> tuple[list[float], int]:
        prompts.write_text("\n".join(texts))
        found = score(open_folder(videos, prompts, tmp_path / "out"), [Agreement(), TemporalFlickering()], VBENCH)
        return found.table.query("metric == 'agreement'")["value"].tolist(), found.decoded

    assert values("one", "three") == ([3, 5], 2)
    assert values("one", "three") == ([3, 5], 0)
    assert values("one", "seventeen") == ([3, 9], 1)
    scored = score(open_folder(videos, None, tmp_path / "out"), [Agreement(), TemporalFlickering()], VBENCH)
    assert set(scored.table["metric"]) == {"temporal_flickering"}
    assert (scored.decoded, len(scored.problems)) == (0, 2)


def test_scores_of_other_weights_are_made_again_and_left_out(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(TWO)
    for name, decoded in (("first", 2), ("second", 2), ("second", 0)):
        monkeypatch.setattr("eval.networks.weights.fingerprint", lambda _, name=name: name)
        assert score_run(run, [TemporalFlickering()], VBENCH).decoded == decoded
    monkeypatch.setattr("eval.networks.weights.fingerprint", lambda _: "third")
    (run / "samples" / "aaaaaaaaaa-s0.mp4").write_bytes(b"")  # cannot be scored with them
    table = score_run(run, [TemporalFlickering()], VBENCH).table
    assert set(table["sample"]) == {"bbbbbbbbbb-s0"}
    assert set(table["weights_sha256"]) == {"third"}
