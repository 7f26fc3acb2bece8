"""What is done beside the denoising: 8 bits once, finite or not, a thread that writes. Same values, same bytes, same faults."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from deepforcing import generator as generators
from deepforcing.cache.policy import CachePolicy
from deepforcing.cache.retention import SinkWindow
from deepforcing.frames import NonFiniteError, OnTheWay, finite, levels, sent
from deepforcing.generator import Generator, GeneratorSpec
from deepforcing.rollout.chunkwise import Chunk
from deepforcing.stopwatch import Laps, Stopwatch
from deepforcing.tiny.model import TinySpec
from deepforcing.video import VideoWriter
from deepforcing.writer_thread import DEPTH, WriterThread

CPU = torch.device("cpu")
RED = "a red disc starts at the left and circles clockwise on a slate background"
VIDEO = [(RED, "p", 0)]


def test_levels_are_the_nearest_of_256_and_halves_go_to_the_even_one() -> None:
    every = torch.arange(256).float()
    edges = torch.cat(
        [every / 255, (every + 0.5) / 255, (every - 0.5) / 255, torch.tensor([-3.0, -1e-9, 1 + 1e-6, 7.0])]
    )
    edges = torch.cat([edges, torch.nextafter(edges, torch.ones(1)), torch.nextafter(edges, -torch.ones(1))])
    pixels = edges[: len(edges) // 3 * 3].reshape(1, 3, 1, -1)
    want = (pixels.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1)
    assert torch.equal(levels(pixels), want)
    assert torch.equal(levels(pixels.double()), want)
    assert torch.equal(
        levels(every.bfloat16().reshape(1, 1, 1, -1).expand(1, 3, 1, -1) / 256)[..., 0].flatten(),
        (every * 255 / 256).round().byte(),
    )


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_bad_number_anywhere_is_seen(bad: float, dtype: torch.dtype) -> None:
    pixels = torch.rand(2, 3, 5, 7).to(dtype)
    assert finite(pixels)
    for at in ((0, 0, 0, 0), (1, 2, 4, 6), (1, 0, 2, 3)):
        broken = pixels.clone()
        broken[at] = bad
        assert not finite(broken)
    both = torch.stack([pixels, broken])
    assert sent(both, both).finite.tolist() == [True, False]


def film(frames: int = 30) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (frames, 16, 24, 3), np.uint8)


def test_the_thread_writes_the_same_bytes_whatever_the_chunking(tmp_path: Path) -> None:
    whole = film()
    with VideoWriter(tmp_path / "a.mp4", 24, 16, 16) as video:
        video.write(whole)
    for name, cuts in (("b", (1, 5, 17)), ("c", tuple(range(1, 30)))):
        with WriterThread(VideoWriter(tmp_path / f"{name}.mp4", 24, 16, 16)) as thread:
            for part in np.split(whole, cuts):
                thread.write(part)
        assert thread.frames == 30
        assert len(thread.seconds) == len(cuts) + 1
        assert (tmp_path / f"{name}.mp4").read_bytes() == (tmp_path / "a.mp4").read_bytes()


def written(path: Path, parts: list[Any], pause: float = 0.0, error: type[BaseException] | None = None) -> None:
    with WriterThread(VideoWriter(path, 24, 16, 16)) as video:
        for part in parts:
            video.write(part)
            time.sleep(pause)
        if error is not None:
            raise error


def test_a_fault_in_the_thread_is_raised_by_the_next_write_and_leaves_nothing(tmp_path: Path) -> None:
    path, wrong = tmp_path / "a.mp4", film(1)[:, :8]
    began = time.perf_counter()
    with pytest.raises(ValueError, match="expected uint8"):
        written(path, [wrong] * 1000, pause=0.05)
    assert time.perf_counter() - began < 25  # of 50
    with pytest.raises(ValueError, match="expected uint8"):
        written(path, [wrong])  # the block's end raises it
    with pytest.raises(ValueError, match="no frames were written"):
        written(path, [])
    with pytest.raises(KeyboardInterrupt):
        written(path, [film(2)], error=KeyboardInterrupt)
    assert list(tmp_path.iterdir()) == []
    assert not [t for t in threading.enumerate() if t.name == "video writer"]


def test_no_more_than_the_queue_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is flat: a slow encoder holds up who makes the frames."""
    go, begun = threading.Event(), threading.Event()
    plain = VideoWriter.write

    def slow(self: VideoWriter, frames: Any) -> None:
        begun.set()
        assert go.wait(20)
        plain(self, frames)

    monkeypatch.setattr(VideoWriter, "write", slow)
    handed = []

    def make() -> None:
        with WriterThread(VideoWriter(tmp_path / "a.mp4", 24, 16, 16)) as video:
            for i in range(DEPTH + 3):
                video.write(film(1))
                handed.append(i)

    maker = threading.Thread(target=make)
    maker.start()
    assert begun.wait(20)
    time.sleep(0.2)
    assert len(handed) == DEPTH + 1  # one in work, DEPTH in the queue
    go.set()
    maker.join(20)
    assert len(handed) == DEPTH + 3


class Late:
    """A GPU's event that is over when it is waited for."""

    def __init__(self, waited: list[int], number: int) -> None:
        self.waited, self.number = waited, number

    def synchronize(self) -> None:
        self.waited.append(self.number)


def test_on_a_gpu_a_chunk_is_waited_for_when_the_next_is_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of things with a device that only says it is one: chunk i is handed over after chunk i + 1 was sent, all of
    them come, and what is not finite is named by its own chunk."""
    spec = GeneratorSpec("g", TinySpec(), CachePolicy(SinkWindow(9, 3), "sink"))
    plain = spec.build(CPU)
    want = [c.frames for c in plain.generate(RED, "p", 0, 12)]
    waited: list[int] = []
    sends: list[int] = []

    def send(pixels: Tensor, latents: Tensor) -> OnTheWay:
        sends.append(len(sends))
        there = sent(pixels, latents)
        return OnTheWay(there.frames, there.finite, there.latents, Late(waited, len(sends) - 1))

    class Gpu:
        type = "cuda"

    class Clock(Stopwatch):
        def __init__(self, device: Any) -> None:
            super().__init__(CPU)

    monkeypatch.setattr(generators, "sent", send)
    monkeypatch.setattr(generators, "Stopwatch", Clock)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: None)
    gpu = Generator(spec, plain.model, CPU)
    gpu.device = Gpu()  # type: ignore[assignment]
    make = Generator.batch_job
    monkeypatch.setattr(Generator, "batch_job", lambda self, *asked: make(plain, *asked))
    got = []
    for i, chunk in enumerate(gpu.generate(RED, "p", 0, 12)):
        got.append(chunk.frames)
        assert waited == list(range(i + 1))
        assert len(sends) == min(i + 2, 4)
    assert all(np.array_equal(a, b) for a, b in zip(got, want, strict=True))

    def broken(pixels: Tensor, latents: Tensor) -> OnTheWay:
        way = send(pixels, latents)
        return replace(way, finite=torch.tensor([len(sends) % 4 != 3]))

    monkeypatch.setattr(generators, "sent", broken)
    sends.clear()
    with pytest.raises(NonFiniteError, match="chunk at latent frame 6 holds NaN"):
        list(gpu.generate(RED, "p", 0, 12))


def test_laps_are_read_from_events_and_waiting_is_no_work() -> None:
    class Event:
        def __init__(self, at: float) -> None:
            self.at = at

        def synchronize(self) -> None: ...

        def elapsed_time(self, end: Event) -> float:
            return 1e3 * (end.at - self.at)

    laps = Laps(
        [
            ("denoise", Event(1), Event(3)),
            ("wait", Event(0), Event(2)),
            ("decode", Event(2), Event(2.5)),
            ("denoise", Event(4), Event(5)),
        ]
    )
    assert laps.seconds() == pytest.approx({"denoise": 3.0, "decode": 0.5})


def test_decoding_on_a_stream_begins_with_the_latents_not_with_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    class Stream:
        def wait_event(self, event: Any) -> None:
            told.append(f"wait for {event}")

    class On:
        def __init__(self, stream: Any) -> None: ...
        def __enter__(self) -> None:
            told.append("on the stream")

        def __exit__(self, *_: Any) -> None:
            told.append("off it")

    class Latents(Tensor):
        def record_stream(self, stream: Any) -> None:
            told.append("kept for it")

    monkeypatch.setattr(torch.cuda, "stream", On)
    spec = GeneratorSpec("g", TinySpec(), CachePolicy(SinkWindow(9)))
    job = spec.build(CPU).job(RED, "p", 0, 3, Stopwatch(CPU))
    job = replace(job, stream=Stream(), clock=told.append)  # type: ignore[arg-type]
    latents = torch.zeros(1, 3, 48, 8, 8).as_subclass(Latents)

    def one() -> Iterator[Chunk]:
        yield Chunk(0, latents, 1, 0, "made")  # type: ignore[arg-type]

    ((_, pixels),) = job.decoded(one())
    assert pixels is not None
    assert told == ["on the stream", "wait for made", "kept for it", "wait", "decode", "off it"]
