"""The paper's tables and figures from runs: the page says what is missing; probe data are part of resume and bounded."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from commands import RED, Command

from deepforcing.runs import RunDir
from eval.networks.weights import required
from experiments.figures.attention import read_last_chunk
from experiments.figures.chosen import ChosenTokens
from experiments.figures.passes import PassesAttention
from experiments.figures.slots import Slots
from experiments.page.template import STYLE
from experiments.probes.thinned import Thinned
from experiments.reproduction.index import whole_intervals
from experiments.reproduction.parts import without

CHOSEN = "watch=experiments.probes.chosen.Chosen"


def small_deep_forcing(command: Command, checkpoint: Path, root: Path, *words: str) -> Path:
    small = ("window_frames=9", "sink_frames=3", "budget_frames=8", "recent_frames=4")
    given = ["cache=deep_forcing", *(f"cache.retention.{word}" for word in small), "seconds=3", f"prompts=['{RED}']"]
    assert command("rollout", *given, f"model.checkpoint={checkpoint}", f"runs_root={root}", *words).status == 0
    (run,) = root.iterdir()
    return run


def test_a_finished_sample_without_its_probe_data_is_made_again(
    command: Command, checkpoint: Path, tmp_path: Path
) -> None:
    run = small_deep_forcing(command, checkpoint, tmp_path)
    (record,) = RunDir.open(run).samples()
    video = (run / "samples" / record["video"]).read_bytes()
    assert not (run / "probes").exists()
    small_deep_forcing(command, checkpoint, tmp_path, CHOSEN)
    (file,) = (run / "probes").iterdir()
    assert (run / "samples" / record["video"]).read_bytes() == video
    made = file.stat().st_mtime_ns
    small_deep_forcing(command, checkpoint, tmp_path, CHOSEN)
    assert file.stat().st_mtime_ns == made


def data_of_start(file: Path, start: int) -> list[tuple[int, int]]:
    """(frame, place) of all tokens that a chunk chose."""
    with np.load(file, allow_pickle=False) as data:
        at = data["start"] == start
        return list(zip(data["frame"][at].ravel().tolist(), data["place"][at].ravel().tolist(), strict=True))


def test_chosen_tokens_are_candidates_and_are_all_counted(command: Command, checkpoint: Path, tmp_path: Path) -> None:
    run = small_deep_forcing(command, checkpoint, tmp_path, CHOSEN)
    (file,) = (run / "probes").iterdir()
    with np.load(file, allow_pickle=False) as data:
        start = data["start"][0]
        tokens = int(data["size"])  # N - S - R = 1 frame's worth each time
        np.testing.assert_array_equal(data["counts"].sum(1), data["choices"] * tokens)
        assert data["counts"][:, :3].sum() == 0  # the sink is no candidate
        assert data["frame"].shape[1] == tokens
        assert (data["frame"] >= 3).all()
        assert (data["frame"] < data["start"][:, None]).all()
        assert (data["place"] < tokens).all()
        for frame, place in zip(data["frame"], data["place"], strict=True):
            assert len(set(zip(frame.tolist(), place.tolist(), strict=True))) == tokens  # nothing twice
    (of,) = ChosenTokens(start=int(start)).read([run])
    first = data_of_start(file, int(start))
    for frame in of.frames:
        rows, columns = np.nonzero(frame.share)
        drawn_places = set((rows * frame.share.shape[1] + columns).tolist())
        assert drawn_places == {place for number, place in first if number == frame.number}
    (share,) = Slots().read([run])
    assert share.chosen.sum(1) == pytest.approx(1)


def test_what_is_kept_of_a_long_video_is_bounded_and_has_its_end() -> None:
    kept: Thinned[int] = Thinned(4, 8)
    for chunk in range(1000):
        for _ in range(3):
            kept.add(chunk, chunk)
        assert len(kept.chunks) <= 9 + 1
    assert kept.rows()[-3:] == [999] * 3
    assert kept.rows()[0] == 0
    apart = np.diff(sorted(set(kept.rows()))[:-1])
    assert len(set(apart)) == 1


def test_the_page_says_what_is_there_and_what_is_missing(command: Command, checkpoint: Path, tmp_path: Path) -> None:
    words = [f"model.checkpoint={checkpoint}", f"prompts=['{RED}']", "seconds=2", f"runs_root={tmp_path / 'runs'}"]
    words += [f"out={tmp_path / 'paper'}", "only=[figure4,figure11]"]
    status, out, err = command("paper", *words)
    assert (status, err) == (0, "")
    assert "in all: 2 rollouts, 2 videos missing" in out
    page = (tmp_path / "paper" / "figure4_figure11.html").read_text()
    assert "make=true" in page
    assert "<img" not in page
    assert command("paper", "make=true", *words).status == 0
    page = (tmp_path / "paper" / "figure4_figure11.html").read_text()
    assert page.count("<img") == 2
    assert page.count("What was run") == 2
    assert "videos of 2 s instead of 5 s" in page
    last = read_last_chunk(sorted((tmp_path / "runs").iterdir()))
    assert last.frames[-3:] == tuple(range(last.start, last.start + 3))
    np.testing.assert_allclose(last.mass.sum(-1), 1, atol=1e-5)
    from experiments.figures.figure import drawn

    lines = drawn(PassesAttention(), last).axes[0].lines
    assert len(lines) == 5
    np.testing.assert_allclose(lines[4].get_ydata(), last.mass[4].mean((0, 1)))


def test_networks_that_are_missing_are_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VBENCH_CACHE_DIR", str(tmp_path))
    absent = {"replay": "videos are too short"}
    for metric, network in (("dynamic_degree", "raft"), ("imaging_quality", "musiq")):
        with pytest.raises(ValueError, match="is not at") as missing:
            required(network)
        absent[metric] = str(missing.value)
    lines = ["VBench's networks for dynamic degree and imaging quality", "replay: videos are too short"]
    assert without(absent) == lines
    assert without({"replay": "videos are too short"}) == lines[1:]


def test_intervals_on_the_page_are_not_broken_and_not_hidden() -> None:
    cells = "<td>1.0 [0.5, 1.5]</td><td><strong>2</strong> [1, 3]*</td><td>[a](b)</td>"
    made = whole_intervals(cells)
    assert re.sub("<[^>]*>", "", made) == re.sub("<[^>]*>", "", cells)
    (name,) = set(re.findall(r'<span class="(\w+)">\[[^\]]*\]', made))
    assert made.count("<span") == 2
    assert f".{name}" not in STYLE.read_text(), "the report's page hides its own bands by such names"


@pytest.mark.parametrize(
    ("word", "told"),
    [("only=table9", "only=table9 is no part of the paper; there are table1_30s"), ("out=x.html", "must be a folder")],
)
def test_mistakes_are_told_in_one_line(word: str, told: str, command: Command) -> None:
    status, _, err = command("paper", word)
    assert (status, err.count("\n")) == (2, 1)
    assert told in err
