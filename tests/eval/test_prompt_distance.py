"""Videos of different prompts that stay apart, become alike, or change places."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from deepforcing.video import VideoWriter
from eval.measure.windows import FloatArray
from eval.metrics.time.prompt_distance import PromptDistance, picture
from eval.protocol import Protocol
from eval.score import Scored, score
from eval.stats.intervals import mean_interval
from eval.videos import open_folder, open_run

METRIC = PromptDistance()


def pictures(*levels: float) -> FloatArray:
    """One flat picture a window."""
    return np.repeat(np.array(levels, dtype=float)[:, None], 12, 1)


def compared(*videos: tuple[str, FloatArray]) -> dict[str, list[list[float]]]:
    found = METRIC.compare([own for _, own in videos], [prompt for prompt, _ in videos])
    return {value.name: [np.asarray(one[value.name]).tolist() for one in found] for value in METRIC.values}


def test_prompts_that_become_one() -> None:
    """Three flat pictures of levels 0, .5 and 1 have the variance .25; the mean over prompts is that variance."""
    found = compared(("a", pictures(0, 0.25, 0.5)), ("b", pictures(0.5, 0.5, 0.5)), ("c", pictures(1, 0.75, 0.5)))
    np.testing.assert_allclose(np.mean(found["prompt_distance"], 0), [np.var([0, 0.5, 1], ddof=1), 0.0625, 0])
    np.testing.assert_allclose(np.array(found["prompt_distance"])[:, 0], [2 / 3 * 0.75**2, 0, 2 / 3 * 0.75**2])
    assert found["prompt_retrieval"][0] == [1, 0, 0]  # .25 is as near to b's beginning as to its own
    assert found["prompt_retrieval"][1] == [1, 1, 1]


def test_prompts_that_change_places_are_as_far_and_lost() -> None:
    found = compared(("a", pictures(0, 1)), ("b", pictures(1, 0)), ("c", pictures(0.4, 0.4)))
    np.testing.assert_allclose(*np.mean(found["prompt_distance"], 0))
    assert found["prompt_retrieval"] == [[1, 0], [1, 0], [1, 1]]


def test_the_number_of_prompts_does_not_matter_and_its_interval_covers() -> None:
    """Prompts drawn from one distribution, of variance 1/12: the mean meets it, and Student's interval does 95 in 100."""
    rng = np.random.default_rng(0)
    missed, means = 0, []
    for _ in range(400):
        levels = rng.uniform(0, 1, 24)
        values = np.array(compared(*((str(i), pictures(level)) for i, level in enumerate(levels)))["prompt_distance"])
        _, low, high, _ = mean_interval(values)
        missed += not low[0] <= 1 / 12 <= high[0]
        means.append(values.mean())
    assert np.mean(means) == pytest.approx(1 / 12, rel=0.02)
    assert 0.02 < missed / 400 < 0.09
    few = [
        np.mean(compared(*((str(i), pictures(x)) for i, x in enumerate(rng.uniform(0, 1, 3))))["prompt_distance"])
        for _ in range(400)
    ]
    assert np.mean(few) == pytest.approx(1 / 12, rel=0.1)


def test_seeds_of_one_prompt_are_no_others() -> None:
    found = compared(
        ("a", pictures(0, 0.4)), ("a", pictures(0.4, 0.9)), ("b", pictures(1, 1)), ("c", pictures(0.6, 0.6))
    )  # fmt: skip
    centre = [0.8, 0.8]  # of b and c
    for own, values in (([0, 0.4], found["prompt_distance"][0]), ([0.4, 0.9], found["prompt_distance"][1])):
        np.testing.assert_allclose(values, 2 / 3 * (np.array(own) - centre) ** 2)
    np.testing.assert_allclose(found["prompt_distance"][2][0], 2 / 3 * (1 - (0.2 + 0.6) / 2) ** 2)
    assert found["prompt_retrieval"] == [[1, 1], [1, 0], [1, 1], [1, 1]]  # .4 is nearest to the other seed's beginning


@pytest.mark.parametrize("videos", [(("a", pictures(0, 1)),), (("a", pictures(0, 1)), ("a", pictures(1, 0)))])
def test_one_prompt_has_nothing_to_be_far_from(videos: tuple[tuple[str, FloatArray], ...]) -> None:
    for values in compared(*videos).values():
        assert np.isnan(values).all()


def test_two_prompts_are_one_distance_and_no_sample() -> None:
    found = compared(("a", pictures(0, 1)), ("b", pictures(1, 1)))
    assert np.isnan(found["prompt_distance"]).all()
    assert found["prompt_retrieval"] == [[1, 0], [1, 1]]


def test_shorter_videos_count_while_they_last() -> None:
    found = compared(("a", pictures(0, 0, 0)), ("b", pictures(1)), ("c", pictures(0.5, 0.5)), ("d", pictures(0.5, 0.5)))
    np.testing.assert_allclose(found["prompt_distance"][0], [3 / 4 * (2 / 3) ** 2, 2 / 3 * 0.25, np.nan])
    assert found["prompt_retrieval"][0] == [1, 1, 1]


def test_pictures_are_compared_whatever_the_shape_of_the_frames() -> None:
    """A wide and a tall frame of the same halves have the same picture."""

    def halves(height: int, width: int) -> NDArray[np.uint8]:
        frame = np.zeros((height, width, 3), np.uint8)
        frame[:, width // 2 :] = (150, 0, 0)
        return frame

    wide, tall = (picture(halves(*size)) for size in ((32, 64), (48, 32)))
    np.testing.assert_allclose(wide, tall)
    np.testing.assert_allclose(wide.reshape(16, 16, 3)[:, 8:, 0], 150 / 255)


# ---- scored as a set -----------------------------------------------------------------------------------------------

PROTOCOL = Protocol(window_seconds=1.0)


def write(path: Path, levels: Sequence[int]) -> None:
    """Half a second of each grey level, 16 frames a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, 16, 16, fps=16, pixel_scale=8) as writer:
        for level in levels:
            writer.write(torch.full((8, 3, 16, 16), level / 255))


def found(home: Path, **options: str) -> tuple[Scored, dict[str, list[float]]]:
    scored = score(open_folder(home / "videos", None, home), [METRIC], PROTOCOL, **options)  # type: ignore[arg-type]
    rows = scored.table[scored.table["metric"] == "prompt_distance"]
    return scored, {str(name): part["value"].round(3).tolist() for name, part in rows.groupby("sample")}


def test_a_set_is_scored_once_and_again_when_it_is_another(tmp_path: Path) -> None:
    write(tmp_path / "videos" / "a.mp4", [0, 0, 51, 51])
    write(tmp_path / "videos" / "b.mp4", [255, 255, 153, 51])
    write(tmp_path / "videos" / "d.mp4", [0, 0, 51, 255])
    scored, values = found(tmp_path)
    assert not scored.problems
    near = functools.partial(pytest.approx, abs=0.01)
    assert values == {"a": [near(2 / 3 / 4), near(2 / 3 * 0.3**2)], "b": [near(2 / 3), near(0)], "d": values["d"]}
    (file,) = (tmp_path / "scores").glob("prompt_distance@1.parquet")
    before = file.stat().st_mtime_ns
    assert found(tmp_path)[1] == values
    assert file.stat().st_mtime_ns == before
    write(tmp_path / "videos" / "c.mp4", [0, 0, 255, 255])
    _, four = found(tmp_path)
    assert four["b"][0] == near(3 / 4)
    assert set(four) == {"a", "b", "c", "d"}
    (tmp_path / "videos" / "c.mp4").unlink()
    assert found(tmp_path)[1] == values  # no row of the four is left


def test_a_broken_video_costs_itself(tmp_path: Path) -> None:
    write(tmp_path / "videos" / "a.mp4", [0, 0])
    write(tmp_path / "videos" / "b.mp4", [51, 51])
    write(tmp_path / "videos" / "c.mp4", [255, 255])
    write(tmp_path / "videos" / "d.mp4", [102, 102])
    data = (tmp_path / "videos" / "c.mp4").read_bytes()
    (tmp_path / "videos" / "c.mp4").write_bytes(data[: len(data) // 2])
    scored, values = found(tmp_path)
    assert len(scored.problems) == 1
    assert "c" in scored.problems[0]
    assert values == {name: [pytest.approx(2 / 3 * x**2, abs=0.01)] for name, x in (("a", 0.3), ("b", 0), ("d", 0.3))}


def test_a_part_of_the_videos_is_no_set(tmp_path: Path) -> None:
    write(tmp_path / "videos" / "a.mp4", [0, 0])
    write(tmp_path / "videos" / "b.mp4", [51, 51])
    scored, values = found(tmp_path, part="0/2")
    assert not values
    assert scored.notes == ["videos: prompt_distance compares all videos: run the command once more without shard"]
    with pytest.raises(
        ValueError,
        match=r"prompt_distance: measured under protocol=windows, .*, not vbench_long",
    ):
        score(open_folder(tmp_path / "videos", None, tmp_path), [METRIC], Protocol("vbench_long"))


def test_seeds_of_a_run_s_prompt_are_one_prompt(make_run: Callable[..., Path]) -> None:
    run = make_run(
        {"aaaaaaaaaa-s0": (0, 32), "aaaaaaaaaa-s1": (0, 32), "bbbbbbbbbb-s0": (1, 32), "cccccccccc-s0": (2, 32)}
    )
    table = score(open_run(run), [METRIC], PROTOCOL).table
    wide = table.pivot(index="sample", columns=["metric", "t_start"], values="value")
    np.testing.assert_allclose(wide.loc["aaaaaaaaaa-s0"], wide.loc["aaaaaaaaaa-s1"])  # the same video
    assert (wide["prompt_retrieval"][0.0] == 1).all()
    assert (wide["prompt_distance"].to_numpy() > 0.001).all()
