"""The measurements behind the rows. Each tells what it has found at once, so that an early end loses only the rest."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu.card import attention_seconds, describe, pass_flops, rate, wait
from benchmarks.gpu.rows import Measured
from benchmarks.gpu.size import Size
from deepforcing import backend
from deepforcing.generator import DTYPES, Generator, GeneratorSpec, Model
from deepforcing.stopwatch import Stopwatch
from deepforcing.wan.kernels import AttentionKernel
from deepforcing.wan.model import WanModel
from deepforcing.wan.transformer import Backend
from experiments.attention import with_attention

FASTER: tuple[Backend, ...] = ("compiled", "graphs")
PASSES = ("passes", "self_forcing", "deep_forcing", "ratio", "aligned")
ROWS_OF = {
    "passes": PASSES, "faster": PASSES,
    "vae": ("vae",), "tiny": ("tiny",), "memory": ("memory", "growth"), "vbench": ("vbench",),
}  # fmt: skip
"""Rows that a group fills; if it ends without a word they say why."""
Tell = Callable[[Measured | dict[str, Any]], None]
PROMPT = "a red disc starts at the left and circles clockwise on a slate background"
PLAIN: Backend = "plain"


def failure(error: BaseException) -> str:
    """Why a row has no number, in one line."""
    said = (str(error).splitlines() or [""])[0][:200]
    if isinstance(error, torch.OutOfMemoryError):
        return "out of memory"
    if isinstance(error, ImportError):
        return f"a package is missing: {said}"
    if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        return f"compiling failed: {type(error).__name__}: {said}"
    return f"{type(error).__name__}: {said}"


@contextmanager
def surviving(tell: Tell, rows: tuple[str, ...], mode: str = PLAIN) -> Iterator[None]:
    """What goes wrong inside is told as these rows' problem, and what it held is freed."""
    try:
        yield
    except Exception as error:
        problem = failure(error)
    else:
        return
    for row in rows:
        tell(Measured(row, mode, problem=problem))
    gc.collect()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()


class Laps:
    """Seconds between neighbouring laps. On a GPU by events, so that the device is never waited for before `take`."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stamps: list[tuple[str, Any]] = []

    def lap(self, name: str) -> None:
        if self.device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record()
            self.stamps.append((name, event))
        else:
            self.stamps.append((name, time.perf_counter()))

    def take(self) -> list[tuple[str, float]]:
        wait(self.device)
        pairs = zip(self.stamps, self.stamps[1:], strict=False)
        found = [
            (name, then.elapsed_time(now) / 1e3 if self.device.type == "cuda" else now - then)
            for (_, then), (name, now) in pairs
        ]
        self.stamps = []
        return found


class Rollout:
    """A policy's rollout without decoding that goes on for ever, its window full."""

    def __init__(
        self,
        size: Size,
        policy: str,
        model: Model,
        device: torch.device,
        total: int,
        batch: int = 1,
        mode: Backend = PLAIN,
        kernel: AttentionKernel = "torch",
    ) -> None:
        spec = replace(size.spec(policy, backend=mode), attention=kernel)
        self.clock = Laps(device)
        videos = [(PROMPT, f"gpu{i}", i) for i in range(batch)]
        job = Generator(spec, model, device).batch_job(videos, total * spec.chunk_frames, Stopwatch(device))
        job = replace(job, codec=None, clock=self.clock.lap, steady=backend.steady(model.wan))
        self.made = spec.rule.generate(job)
        for _ in range(size.fill):
            self.tokens = next(self.made)[0].tokens

    def chunks(self, count: int) -> list[dict[str, float]]:
        """Seconds of "denoise" and "commit" of so many chunks."""
        self.clock.take()
        self.clock.lap("start")
        tokens = [next(self.made)[0].tokens for _ in range(count)]
        self.tokens = sum(tokens) / count
        laps = [(name, seconds) for name, seconds in self.clock.take() if name in ("denoise", "commit")]
        return [dict(laps[i : i + 2]) for i in range(0, len(laps), 2)]


def card(size: Size, device: torch.device, tell: Tell, until: float) -> None:
    """Machine, rate, and attention's backends at the window's two usual lengths."""
    dtype, config, s = DTYPES[size.dtype], size.model.config, size.model.geometry.tokens_per_frame
    tell({"card": describe(device)})
    tell({"rate": rate(device, dtype, size.side)})
    for frames in (21, 16):
        shape = (1, config.num_heads, 3 * s, config.head_dim)
        tell({"attention": {str(frames * s): attention_seconds(device, dtype, shape, frames * s)}})


def passes(size: Size, device: torch.device, tell: Tell, until: float) -> None:
    """4 denoising passes and the clean one, three policies in turn, by plain PyTorch."""
    with surviving(tell, ROWS_OF["passes"]):
        by_backend(size, device, tell, until, PLAIN)


def faster(size: Size, device: torch.device, tell: Tell, until: float) -> None:
    """The same by torch.compile, then with CUDA graphs."""
    for mode in FASTER:
        with surviving(tell, ROWS_OF["faster"], mode):
            by_backend(size, device, tell, until, mode)


def by_backend(size: Size, device: torch.device, tell: Tell, until: float, mode: Backend) -> None:
    backend.check(mode, device, DTYPES[size.dtype])
    with torch.inference_mode():
        model = size.spec("self_forcing").model.build(device, DTYPES[size.dtype])
        measure_policies(size, model, device, tell, until, mode)


def modes(device: torch.device) -> tuple[Backend, ...]:
    """Of whole videos: the fastest first, because time may be up after it."""
    return ("graphs", PLAIN) if device.type == "cuda" else (PLAIN,)


def measure_policies(size: Size, model: Model, device: torch.device, tell: Tell, until: float, mode: Backend) -> None:
    total = size.fill + (size.warm_ups + size.repeats) * size.chunks
    kernel = with_attention(size.spec("self_forcing"), "measured", device).attention
    note = f"attention={kernel}, the fastest measured"
    rollouts: dict[str, Rollout] = {}
    rows = {
        "self_forcing": ("passes", "self_forcing"),
        "deep_forcing": ("deep_forcing", "ratio"),
        "deep_sink": ("aligned",),
    }
    for policy, of in rows.items():
        with surviving(tell, of, mode):
            rollouts[policy] = Rollout(size, policy, model, device, total, mode=mode, kernel=kernel)
    taken: dict[str, list[list[dict[str, float]]]] = {policy: [] for policy in rollouts}
    for repeat in range(size.warm_ups + size.repeats):
        for policy in list(rollouts):
            with surviving(tell, rows[policy], mode):
                chunks = rollouts[policy].chunks(size.chunks)
                if repeat >= size.warm_ups:
                    taken[policy].append(chunks)
                continue
            del rollouts[policy], taken[policy]
        if time.time() > until:
            break
    config, geometry = size.model.config, size.model.geometry
    s, frames = geometry.tokens_per_frame, 3 * geometry.temporal_stride
    seconds = {p: [sum(sum(c.values()) for c in chunks) / len(chunks) for chunks in t] for p, t in taken.items() if t}
    for policy in ("self_forcing", "deep_forcing"):
        if policy in seconds:
            flops = 5 * pass_flops(config, 3 * s, rollouts[policy].tokens)
            singles = [frames / sum(c.values()) for chunks in taken[policy] for c in chunks]
            tell(Measured(policy, mode, [frames / t for t in seconds[policy]], singles, flops, note=note))
    plain = seconds.get("self_forcing")
    if plain:
        denoise = [[1e3 * c["denoise"] for c in chunks] for chunks in taken["self_forcing"]]
        flops = 4 * pass_flops(config, 3 * s, rollouts["self_forcing"].tokens)
        singles = [c for repeat in denoise for c in repeat]
        tell(Measured("passes", mode, [sum(repeat) / len(repeat) for repeat in denoise], singles, flops, note=note))
        for policy, row in (("deep_forcing", "ratio"), ("deep_sink", "aligned")):
            if policy in seconds:
                pairs = list(zip(plain, seconds[policy], strict=False))
                values = [a / b for a, b in pairs] if row == "ratio" else [100 * (b / a - 1) for a, b in pairs]
                tell(Measured(row, mode, values, note=note))


def end_to_end(spec: GeneratorSpec, model: Model, device: torch.device, total: int) -> Iterator[float]:
    """Seconds when each chunk has been written, from the video's beginning; the file is closed before the last."""
    from deepforcing.video import VideoWriter
    from deepforcing.writer_thread import WriterThread

    g = spec.model.geometry
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        with WriterThread(VideoWriter(Path(folder) / "video.mp4", g.width, g.height, g.fps)) as video:
            for chunk in Generator(spec, model, device).generate(PROMPT, "gpu", 0, total):
                video.write(chunk.frames)
                if chunk.start + spec.chunk_frames < total:
                    yield time.perf_counter() - began
        yield time.perf_counter() - began


def decode_flops(model: WanModel, size: Size, device: torch.device) -> float:
    """Operations of decoding one chunk that is not the first."""
    g = size.model.geometry
    latents = torch.zeros(1, 3, g.latent_channels, g.latent_height, g.latent_width, device=device)
    decode = model.decoder()
    decode(latents)
    with FlopCounterMode(display=False) as counter:
        decode(latents)
    return float(counter.get_total_flops())


def vae(size: Size, device: torch.device, tell: Tell, until: float) -> None:
    """Steady chunks of one video, decoded by the Wan VAE and written."""
    for mode in modes(device):
        with surviving(tell, ("vae",), mode), torch.inference_mode():
            one_vae(size, device, tell, until, mode)


def one_vae(size: Size, device: torch.device, tell: Tell, until: float, mode: Backend) -> None:
    spec = size.spec("self_forcing", "vae", backend=mode)
    model: Any = spec.model.build(device, DTYPES[size.dtype])
    s, frames = size.model.geometry.tokens_per_frame, 3 * size.model.geometry.temporal_stride
    flops = 5 * pass_flops(size.model.config, 3 * s, 21 * s) + decode_flops(model, size, device)
    skip = size.fill + size.warm_ups * size.chunks
    total = (skip + size.repeats * size.chunks) * spec.chunk_frames
    at: list[float] = []
    for seconds in end_to_end(spec, model, device, total):
        at.append(seconds)
        if time.time() > until:
            break
    ends = at[skip - 1 :: size.chunks]
    values = [frames * size.chunks / (b - a) for a, b in pairwise(ends)]
    singles = [frames / (b - a) for a, b in zip(at[skip - 1 :], at[skip:], strict=False)]
    # Chunks are handed over when the writer takes them: only several together say how fast the whole is.
    tell(Measured("vae", mode, values, values, flops, note=f"{len(singles)} chunks in repeats of {size.chunks}"))


def tiny(size: Size, device: torch.device, tell: Tell, until: float) -> None:
    """Whole videos by the tiny decoder, the growing window and the file's end included."""
    for mode in modes(device):
        with surviving(tell, ("tiny",), mode), torch.inference_mode():
            one_tiny(size, device, tell, until, mode)


def one_tiny(size: Size, device: torch.device, tell: Tell, until: float, mode: Backend) -> None:
    spec = size.spec("self_forcing", "taehv", backend=mode)
    model: Any = spec.model.build(device, DTYPES[size.dtype])
    total = spec.latent_frames(size.minute)
    frames, fps = size.model.geometry.pixel_frames(total), []
    list(end_to_end(spec, model, device, 3 * size.fill))  # warm
    for _ in range(size.repeats):
        began = time.time()
        *_, seconds = end_to_end(spec, model, device, total)
        fps.append(frames / seconds)
        if time.time() + (time.time() - began) > until:
            break
    tell(Measured("tiny", mode, fps, note=f"{size.minute:g} s, {frames} frames; the warm-up was shorter"))


def memory(size: Size, device: torch.device, tell: Tell, until: float) -> None:
    """Largest memory of a short and a long video with one denoising step: a pass holds as much as one of four."""
    with surviving(tell, ("memory", "growth")), torch.inference_mode():
        spec = size.spec("self_forcing", "taehv", (1000,))
        model: Any = spec.model.build(device, DTYPES[size.dtype])
        peaks = []
        for seconds, row in ((size.minute, "memory"), (size.long, "growth")):
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            for chunk in Generator(spec, model, device).generate(PROMPT, "gpu", 0, spec.latent_frames(seconds)):
                if time.time() > until:
                    raise TimeoutError(
                        f"the time was up at {spec.model.geometry.seconds(chunk.start + 1):.0f} s of video"
                    )
            peaks.append(peak(device))
            tell(Measured(row, PLAIN, [peaks[-1] / 1e9 if row == "memory" else 100 * (peaks[-1] / peaks[0] - 1)]))


def peak(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def batches(size: Size, device: torch.device, tell: Tell, until: float) -> None:
    """Several prompts in one pass: what one gains over one after the other. Told beside the table."""
    with torch.inference_mode():
        model = size.spec("self_forcing").model.build(device, DTYPES[size.dtype])
        frames = 3 * size.model.geometry.temporal_stride
        for batch in size.batches:
            try:
                rollout = Rollout(size, "self_forcing", model, device, size.fill + 2 * size.chunks, batch)
                rollout.chunks(size.chunks)
                seconds = sum(sum(c.values()) for c in rollout.chunks(size.chunks)) / size.chunks
                tell({"batches": {str(batch): {"fps": batch * frames / seconds, "seconds_a_chunk": seconds}}})
            except Exception as error:
                tell({"batches": {str(batch): failure(error)}})
                return
            if time.time() > until:
                return


def vbench(size: Size, device: torch.device, tell: Tell, until: float) -> None:
    """The evaluation's own bench, in a process of its own; with its networks compiled, which is done before its clock starts,
    on a GPU alone: there it is also replayed."""
    words = [*size.vbench, f"device={device}", "package=false", "floor=false"]
    for mode in (PLAIN, "compiled") if device.type == "cuda" else (PLAIN,):
        with surviving(tell, ("vbench",), mode):
            left = max(until - time.time(), 1)
            command = [sys.executable, "-m", "experiments.bench", "eval", *words, f"backend={mode}"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=left)
            if done.returncode:
                raise RuntimeError((done.stderr.strip().splitlines() or ["no reason given"])[-1])
            seconds = json.loads(done.stdout.splitlines()[0])["ours"]["seconds"]  # a video-minute
            tell(Measured("vbench", mode, [seconds]))


GROUPS: dict[str, Callable[[Size, torch.device, Tell, float], None]] = {
    "card": card, "passes": passes, "faster": faster, "vae": vae, "tiny": tiny, "memory": memory, "vbench": vbench,
    "batches": batches,
}  # fmt: skip
