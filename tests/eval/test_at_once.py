"""Several clips at once: the same scores, in the clips' order, whatever goes wrong."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from vbench_motion_files import moving

from deepforcing.video import VideoWriter
from eval.measure import one_pass
from eval.measure.at_once import clips_ahead, clips_at_once, in_order
from eval.measure.batch import FRAMES, Batch, cut, frames_at_once
from eval.measure.metric import ClipInfo, Metric, Value
from eval.metrics.vbench import clip_to_clip
from eval.metrics.vbench.temporal_flickering import TemporalFlickering
from eval.networks import backend, weights
from eval.protocol import Protocol
from eval.reencode import encode
from eval.score import Scored, score
from eval.videos import open_folder

CPU = torch.device("cpu")


@pytest.fixture
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("many", [1, 2, 3])
def test_results_come_in_order_and_work_is_shared(many: int, four_threads: None) -> None:
    both = threading.Barrier(many)
    threads: set[tuple[str, int]] = set()

    def work(number: int) -> int:
        both.wait(10)  # fails unless as many as asked for are at work at once
        threads.add((threading.current_thread().name, torch.get_num_threads()))
        return -number

    assert list(in_order(work, range(6), many)) == [0, -1, -2, -3, -4, -5]
    assert sorted(share for _, share in threads) == {1: [4], 2: [2, 2], 3: [1, 1, 2]}[many]
    assert len(threads) == many
    assert torch.get_num_threads() == 4
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [4]


def test_an_error_comes_in_its_turn_and_interrupts_the_rest() -> None:
    begun, interrupted = list[int](), list[int]()

    def work(number: int) -> int:
        begun.append(number)
        if number == 1:
            raise MemoryError("the second")
        if number > 1:
            until = time.monotonic() + 20
            try:
                while time.monotonic() < until:
                    time.sleep(0.01)
            except KeyboardInterrupt:
                interrupted.append(number)
                raise
        return number

    found, start = in_order(work, range(100), 2), time.monotonic()
    assert next(found) == 0
    with pytest.raises(MemoryError, match="the second"):
        next(found)
    assert time.monotonic() - start < 10
    assert interrupted == [number for number in begun if number > 1]
    assert max(begun) < 5


def test_no_item_is_taken_long_before_its_turn() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(50):
            taken.append(number)
            yield number

    found = in_order(lambda n: n, items(), 2)
    assert next(found) == 0
    assert len(taken) == 3
    found.close()


def test_how_many(monkeypatch: pytest.MonkeyPatch, four_threads: None) -> None:
    gpu = torch.device("cuda")
    assert [count(480, 832, device) for count in (clips_at_once, clips_ahead) for device in (CPU, gpu)] == [4, 1, 4, 4]
    assert [clips_at_once(720, 1280, CPU), clips_at_once(1080, 1920, CPU), clips_at_once(2304, 4096, CPU)] == [1, 1, 1]
    torch.set_num_threads(1)
    assert clips_at_once(480, 832, CPU) == clips_ahead(480, 832, CPU) == 1
    torch.set_num_threads(3)
    assert clips_at_once(480, 832, CPU) == clips_ahead(480, 832, CPU) == 3
    monkeypatch.setattr(backend, "in_use", backend.Compiled(None))
    assert clips_at_once(480, 832, CPU) == clips_ahead(480, 832, CPU) == 1
    assert frames_at_once(480, 832, CPU) == FRAMES


@pytest.mark.parametrize(("size", "frames"), [((480, 832), 8), ((64, 64), 32), ((2160, 4096), 4)])
def test_batches_of_a_cpu_are_small(size: tuple[int, int], frames: int) -> None:
    assert frames_at_once(*size, CPU) == frames
    assert frames_at_once(*size, torch.device("cuda")) == FRAMES


@dataclass(frozen=True)
class Brightness(Metric):
    """The first frame's mean; a clip of frames brighter than `limit` is refused."""

    limit: float = 255.0
    name: ClassVar[str] = "brightness"
    version: ClassVar[int] = 1
    values: ClassVar[tuple[Value, ...]] = (Value("brightness", "0..255", None, "the first frame's mean"),)

    def start(self, info: ClipInfo, device: torch.device) -> Bright:
        return Bright(self.limit)


class Bright:
    """The scorer."""

    def __init__(self, limit: float) -> None:
        self.limit, self.value = limit, math.nan

    def add(self, batch: Batch, first: int) -> None:
        if first == 0:
            self.value = float(batch.frames[0].mean())
        if self.value > self.limit:
            raise ValueError("a clip is too bright")

    def finish(self) -> float:
        return self.value


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One video that becomes brighter from clip to clip."""
    place = tmp_path / "videos"
    place.mkdir()
    pictures = moving(75, 64, 96, 3) // 2 + np.arange(75, dtype=np.uint8)[:, None, None, None]
    with VideoWriter(place / "a.mp4", 96, 64, 8) as video:
        video.write(pictures)
    return place


def scores(folder: Path, out: Path, limit: float = 255.0) -> Scored:
    return score(open_folder(folder, None, out), [TemporalFlickering(), Brightness(limit)], Protocol("vbench_long"))


@pytest.mark.parametrize("many", [2, 3])
def test_scores_are_those_of_one_clip_after_the_other(
    many: int, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = []
    for clips in (1, many):
        monkeypatch.setattr(one_pass, "clips_at_once", lambda *_, clips=clips: clips)
        found = scores(folder, tmp_path / f"out{clips}")
        assert not found.problems
        tables.append(found.table)
    bright = tables[0][tables[0]["metric"] == "brightness"].sort_values("t_start")["value"]
    assert len(bright) == 5
    assert bright.is_monotonic_increasing
    assert tables[0].equals(tables[1])


def test_a_clip_that_cannot_be_measured_is_one_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_pass, "clips_at_once", lambda *_: 2)
    first = scores(folder, tmp_path / "first").table
    middle = float(first[first["metric"] == "brightness"]["value"].median())
    found = scores(folder, tmp_path / "second", limit=middle - 1)
    assert found.problems == ["videos: sample a: brightness: a clip is too bright"]
    assert set(found.table["metric"]) == {"temporal_flickering"}


def test_first_frames_are_joined_in_the_clips_order(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined: list[list[float]] = []

    def seen(batch: Batch) -> torch.Tensor:
        joined.append([float(frame.mean()) for frame in batch.frames])
        return torch.tensor(joined[-1])[:, None]

    def slow(self: Bright, batch: Batch, first: int, add: Callable[..., None] = Bright.add) -> None:
        time.sleep(0.2 if self.number % 2 == 0 else 0)  # every second clip comes before the one that it follows
        add(self, batch, first)

    count = itertools.count()
    monkeypatch.setattr(
        Bright, "number", property(lambda self: self.__dict__.setdefault("n", next(count))), raising=False
    )
    monkeypatch.setattr(Bright, "add", slow)
    monkeypatch.setitem(clip_to_clip.EXTRACTORS["subject_consistency"], "dino", lambda device: seen)
    monkeypatch.setattr(weights, "fingerprint", lambda names: "aa")
    between = clip_to_clip.BetweenClips("subject_consistency", "dino")
    tables = []
    for clips in (1, 3):
        monkeypatch.setattr(one_pass, "clips_at_once", lambda *_, clips=clips: clips)
        group = open_folder(folder, None, tmp_path / f"out{clips}")
        found = score(group, [Brightness(), between], Protocol("vbench_long"))
        assert not found.problems
        tables.append(found.table)
    assert len(joined[0]) == 5
    assert joined[0] == sorted(joined[0])
    assert joined[1] == joined[0]
    assert tables[0].equals(tables[1])


def test_frames_that_come_in_any_order_are_encoded_in_their_own() -> None:
    frames = moving(4, 64, 96, 3)
    joined = clip_to_clip.Joined(8)
    numbers = [joined.number() for _ in frames]
    for number in (2, 0, 3, 1):
        joined.add(numbers[number], frames[number])
    assert joined.file == encode(frames, 8)


def test_a_video_that_breaks_off_is_one_line(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_pass, "clips_at_once", lambda *_: 2)

    def short(*arguments: object) -> Iterator[tuple[int, Batch]]:
        whole = cut(*arguments)  # type: ignore[arg-type]
        yield next(whole)
        raise ValueError("the file breaks off")

    monkeypatch.setattr(one_pass, "cut", short)
    found = scores(folder, tmp_path / "out")
    assert found.problems == ["videos: sample a: the file breaks off"]
    assert found.table.empty
