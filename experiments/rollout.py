"""Generate videos into run directories. `python -m experiments.rollout --help`"""

from __future__ import annotations

import importlib
import inspect
import resource
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from deepforcing.clip import Clip, read_clip
from deepforcing.environment import environment
from deepforcing.generator import Generator, GeneratorSpec
from deepforcing.geometry import Geometry
from deepforcing.memory import check_memory
from deepforcing.prompts import Prompt, Sample, load_prompts, plan_samples, prompts_from_texts, shard
from deepforcing.runs import RunDir, check_writable
from deepforcing.video import VideoWriter
from experiments.cli import command, is_list, positive, shown, whole
from experiments.suites import load_suite, suite_files


def main_task(config: DictConfig) -> None:
    rollout(config, Console())


@dataclass(frozen=True)
class Request:
    """A checked request: what to make, where, on which device."""

    spec: GeneratorSpec
    plan: list[Sample]
    total_frames: int
    device: torch.device
    name: str
    start: Clip | None = None

    @property
    def identity(self) -> dict[str, Any]:
        start = None if self.start is None else self.start.sha256
        return self.spec.identity(self.total_frames, start, self.device.type)


def check_request(config: DictConfig) -> Request:
    """Everything that can fail early fails here, before the first weight is read. Raises ValueError or OSError."""
    spec = build_spec(config)
    prompts = find_prompts(config.prompts)
    plan = shard(plan_samples(prompts, find_seeds(config.seeds)), str(config.shard))
    total_frames = spec.latent_frames(positive(config.seconds, "seconds"))
    device = pick_device(str(config.device))
    set_threads(config.threads)
    spec.check_sizes(total_frames)
    for prompt in prompts:
        spec.cues(prompt.text, total_frames)
    start = find_start(config.start_from, spec, total_frames)
    spec.check(total_frames)
    if device.type == "cuda":
        check_memory(spec, total_frames, torch.cuda.mem_get_info(device)[0])
    if config.runs_root in (None, ""):
        raise ValueError("runs_root is empty; give a directory, as in runs_root=runs")
    check_writable(str(config.runs_root))
    return Request(spec, plan, total_frames, device, str(config.name or default_name(spec)), start)


def default_name(spec: GeneratorSpec) -> str:
    """The cache's name, after the generator's where that is not the rule that all policies are compared on."""
    parts = [spec.cache.name]
    if spec.name not in ("self_forcing", "deep_forcing", spec.cache.name):
        parts.insert(0, spec.name)
    return "_".join(filter(None, parts)) or "run"


def rollout(config: DictConfig, console: Console, tick: Callable[[], None] = lambda: None) -> RunDir:
    """Make every video of the request that is not there yet. tick: called after each chunk, done before or not."""
    request = check_request(config)
    spec, plan, total_frames = request.spec, request.plan, request.total_frames
    record = run_record(config, request)
    run = RunDir.create(str(config.runs_root), request.name, request.identity, record)
    todo = run.todo(plan)
    chunks = total_frames // spec.chunk_frames
    console.print(
        f"[bold]{run.path}[/bold]: {len(plan)} videos of {spec.model.geometry.seconds(total_frames):.1f} s, "
        f"{len(plan) - len(todo)} already there"
    )
    for note in spec.model.notes():
        console.print(escape(note))
    for _ in range((len(plan) - len(todo)) * chunks):
        tick()
    if todo:
        texts = [text for sample in todo for text in spec.cues(sample.prompt.text, total_frames).values()]
        spec.model.prepare(texts, request.device)
        generator = spec.build(request.device)
        initial = None if request.start is None else generator.encode(request.start.frames)
        with progress_bar(console) as bar:
            task = bar.add_task(request.name, total=len(todo) * chunks)

            def advance() -> None:
                bar.advance(task)
                tick()

            for sample in todo:
                with run.claim(sample.name) as mine:
                    if mine:
                        make_sample(run, generator, sample, request, initial, advance)
                    else:  # another process is at it
                        for _ in range(chunks):
                            advance()
        left = len(run.todo(plan))
        if left:
            console.print(
                f"{left} videos are left to other processes; run the same command again to see to them", style="yellow"
            )
    return run


def progress_bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("chunks"),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=console,
    )  # fmt: skip


def build_spec(config: DictConfig) -> GeneratorSpec:
    """Plain dataclasses from the config; no DictConfig goes further."""
    for key in ("model", "cache", "generator"):
        check_values(config[key], key)
    model = instantiate(config.model, _convert_="object")
    cache = instantiate(config.cache, _convert_="object")
    make = instantiate(config.generator, _convert_="object", _partial_=True)
    spec: GeneratorSpec = make(model=model, cache=cache, dtype=str(config.dtype))
    return spec


KINDS = {
    "int": (int, "a whole number"),
    "bool": (bool, "true or false"),
    "str": (str, "text"),
    "OnSwitch": (str, "nothing, recache or recache_sink"),
    "Alignment | str": (str, "a name, such as absolute, sink, unified or slot"),
    "tuple[int, ...]": (ListConfig, "a list of whole numbers, such as [1000,500]"),
    **dict.fromkeys(("Retention", "Scorer", "WanConfig", "Geometry"), (DictConfig, "keys with a _target_")),
}


def check_values(node: DictConfig, where: str) -> None:
    """Hydra passes on whatever was typed: see that every value has a taker, and the kind that its taker declares."""
    try:
        module, _, name = str(node["_target_"]).rpartition(".")
        takes = inspect.signature(getattr(importlib.import_module(module), name)).parameters
    except (ImportError, ValueError, TypeError, KeyError, AttributeError):
        raise ValueError(f"{where}._target_={node.get('_target_')} is not a class or function to import") from None
    for key, value in node.items():
        name = f"{where}.{key!s}"
        if key == "_target_":
            continue
        if key not in takes:
            raise ValueError(f"{name} is not a key of {node['_target_']}; known: {', '.join(takes)}")
        declared = str(takes[str(key)].annotation)
        kind, wanted = KINDS.get(declared.removesuffix(" | None"), (object, ""))
        if isinstance(value, DictConfig):
            check_values(value, name)
        elif type(value) is not kind and kind is not object and not (value is None and declared.endswith(" | None")):
            raise ValueError(f"{name}={shown(value)} must be {wanted}")


def find_seeds(choice: Any) -> list[Any]:
    """One seed or a list of them; plan_samples sees that they are whole numbers."""
    return list(choice) if is_list(choice) else [choice]


def set_threads(choice: Any) -> None:
    if choice is not None:
        torch.set_num_threads(whole(choice, "threads"))


def find_prompts(choice: Any) -> list[Prompt]:
    """A list of texts, a text file, or the name of a suite in conf/suites/."""
    if is_list(choice):
        return prompts_from_texts([str(text) for text in choice])
    suites = suite_files()
    if str(choice) in suites:
        return load_suite(str(choice))
    if not Path(str(choice)).is_file():
        raise ValueError(
            f"prompts={shown(choice)} is neither a suite ({', '.join(suites)}) nor a text file; "
            "or give texts: 'prompts=[\"a red disc ...\"]'"
        )
    return load_prompts(Path(str(choice)))


def find_start(choice: Any, spec: GeneratorSpec, total_frames: int) -> Clip | None:
    """The image or clip that every video begins with."""
    if choice is None:
        return None
    if not isinstance(choice, str) or not choice:
        raise ValueError(f"start_from={shown(choice)} must be a file, a png, jpg or mp4, or null")
    return read_clip(choice, spec, total_frames)


def pick_device(choice: str) -> torch.device:
    if choice == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(choice)
    except RuntimeError:
        raise ValueError(f"device={choice} is unknown; use auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device={choice} is not supported; use auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device={choice}, but torch sees {torch.cuda.device_count()} CUDA devices here; use device=cpu"
        )
    return device


def run_record(config: DictConfig, request: Request) -> dict[str, Any]:
    """The fields of run.json that describe the run without being its identity."""
    spec = request.spec
    g = spec.model.geometry
    resolved: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    kept = {k: resolved[k] for k in ("generator", "model", "cache", "prompts", "seconds", "seeds", "dtype")}
    if request.start is not None:
        kept["start_from"] = start_record(request.start)
    return {
        "label": str(config.label or request.name),
        "spec": {**kept, "train_seconds": g.seconds(spec.model.train_frames)},
        "geometry": {
            key: getattr(g, key)
            for key in ("height", "width", "fps", "spatial_stride", "temporal_stride", "patch", "latent_channels")
        },
        "pixel_scale": spec.model.pixel_scale,
        "world": spec.model.world,
        "environment": environment(str(request.device)),
        "checkpoint": {"sha256": spec.model.identity().get("checkpoint")},
        "command": command_line(),
    }


def command_line() -> str:
    """What was typed: the demo's workers have the demo's arguments."""
    arguments = [shlex.quote(a) for a in sys.argv[1:] if not a.startswith("hydra.")]
    return " ".join(["python", "-m", f"experiments.{Path(sys.argv[0]).stem}", *arguments])


def start_record(start: Clip) -> dict[str, Any]:
    """What the records say of a given beginning."""
    return {
        "file": start.name,
        "sha256": start.sha256,
        "frames": len(start.frames),
        "latent_frames": start.latent_frames,
    }


def make_sample(
    run: RunDir,
    generator: Generator,
    sample: Sample,
    request: Request,
    initial: torch.Tensor | None,
    advance: Callable[[], None],
) -> None:
    """One video, streamed to disk; its record is written last. initial: latents of the request's given beginning."""
    spec, total_frames, start = generator.spec, request.total_frames, request.start
    g = spec.model.geometry
    device = generator.device
    began = time.perf_counter()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    chunks = []
    with VideoWriter(run.video_path(sample.name), g.width, g.height, g.fps, spec.model.pixel_scale) as video:
        for chunk in generator.generate(sample.prompt.text, sample.prompt.id, sample.seed, total_frames, initial):
            started = time.perf_counter()
            video.write(chunk.pixels)
            seconds = {f"{key}_s": round(value, 6) for key, value in chunk.seconds.items()}
            seconds["write_s"] = round(time.perf_counter() - started, 6)
            given = {"given": True} if start is not None and chunk.start < start.latent_frames else {}
            chunks.append({**seconds, "tokens": chunk.tokens, **given})
            advance()
        frames = video.frames
    run.commit(
        {
            **sample_record(sample, g, spec.model.pixel_scale, frames),
            **({} if start is None else {"start_from": start_record(start)}),
            "latent_frames": total_frames,
            "chunk_frames": spec.chunk_frames,
            "wall_seconds": round(time.perf_counter() - began, 3),
            "peak_memory_bytes": peak_memory(device),
            "environment": environment(str(device)),
            "chunks": chunks,
        }
    )


def sample_record(sample: Sample, g: Geometry, pixel_scale: int, frames: int) -> dict[str, Any]:
    """What every finished sample's json says of its video."""
    return {
        "sample": sample.name,
        "prompt_id": sample.prompt.id,
        "prompt": sample.prompt.text,
        "seed": sample.seed,
        "fps": g.fps,
        "frames": frames,
        "width": g.width * pixel_scale,
        "height": g.height * pixel_scale,
        "seconds": frames / g.fps,
    }


def peak_memory(device: torch.device) -> int:
    """Bytes: of the GPU's allocator, or the process's largest resident size."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


main = command("rollout", check_request)(main_task)

if __name__ == "__main__":
    main()
