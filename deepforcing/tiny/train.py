"""Train an embedded world's model. `python -m deepforcing.tiny.train --help`

Teacher forcing on random captioned clips: the clean clip and a noised copy side by side under a block-causal mask, so that
every chunk learns to denoise given the true past (a little noised, so that a past of its own making is no surprise). First
on short clips, which are cheap, then on clips of the trained length (TRAIN_FRAMES latent frames, about 5 s), each a command
of its own; `make train-tiny` runs both. Deterministic given --seed, --steps and --threads on one machine, stopped or not: the
same command goes on from the last 50 steps.
"""

from __future__ import annotations

import argparse
import copy
import platform
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from deepforcing.rollout.schedule import Schedule
from deepforcing.tiny.codec import TinyCodec
from deepforcing.tiny.model import TinyModel, save_tiny, write_tensors
from deepforcing.tiny.muon import Muon
from deepforcing.tiny.worlds import CHUNK_FRAMES, TRAIN_FRAMES, WORLDS, World, config_of, find_world, geometry_of
from deepforcing.wan.attention import attend
from deepforcing.wan.containers import read_tensors
from deepforcing.wan.rope import Rope, rotate

EVERY = 50  # steps between two lines of the log, and two checkpoints


class TeacherForcing:
    """Self-attention memory for training: clean chunks 0..n-2, then noisy chunks 0..n-1, in one sequence.

    A clean chunk sees the clean chunks up to itself; a noisy chunk sees the clean chunks before it and itself.
    """

    def __init__(self, rope: Rope, frames: int, chunk: int) -> None:
        self.rotation = rope.frames(list(range(frames - chunk)) + list(range(frames)))
        self.chunks = frames // chunk
        self.tokens = chunk * rope.space_SP.shape[0]

    def attend(self, layer: int, q_BHLD: Tensor, k_BHLD: Tensor, v_BHLD: Tensor) -> Tensor:
        q, k = rotate(q_BHLD, self.rotation), rotate(k_BHLD, self.rotation)
        out: Tensor = ChunkedAttention.apply(q, k, v_BHLD, self)  # type: ignore[no-untyped-call]
        return out

    def views(self) -> list[tuple[slice, list[slice]]]:
        """(queries, visible keys) of every chunk, as token ranges of the sequence."""
        n, clean = self.tokens, (self.chunks - 1) * self.tokens
        views = [(slice(i, i + n), [slice(0, i + n)]) for i in range(0, clean, n)]
        for i in range(0, clean + n, n):
            own = slice(clean + i, clean + i + n)
            views.append((own, [slice(0, i), own]))
        return views


class ChunkedAttention(torch.autograd.Function):
    """Attention chunk by chunk, each over what it sees, with gradients added in place.

    Plain slicing would make autograd zero-fill a full-size gradient per slice, which on CPU costs more than attention.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, memory: TeacherForcing) -> Tensor:
        ctx.save_for_backward(q, k, v)
        ctx.views = memory.views()
        out = torch.empty_like(q)
        for own, seen in ctx.views:
            keys, values = (torch.cat([x[:, :, part] for part in seen], 2) for x in (k, v))
            out[:, :, own] = attend(q[:, :, own], keys, values)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v = ctx.saved_tensors
        grad_q, grad_k, grad_v = (torch.zeros_like(x) for x in (q, k, v))
        for own, seen in ctx.views:
            inputs = [q[:, :, own]] + [torch.cat([x[:, :, part] for part in seen], 2) for x in (k, v)]
            inputs = [x.detach().requires_grad_() for x in inputs]
            with torch.enable_grad():
                out = attend(*inputs)
            dq, dk, dv = torch.autograd.grad(out, inputs, grad[:, :, own])
            grad_q[:, :, own] = dq
            start = 0
            for part in seen:
                stop = start + part.stop - part.start
                grad_k[:, :, part] += dk[:, :, start:stop]
                grad_v[:, :, part] += dv[:, :, start:stop]
                start = stop
        return grad_q, grad_k, grad_v, None


def fit_codec(codec: TinyCodec, world: World) -> None:
    """Mean and scale per channel from 512 clips: scale = std^0.5, so that weak channels stay weaker but visible."""
    generator = torch.Generator().manual_seed(0)
    scenes = world.sample_scenes(world.random_classes(512, generator), generator)
    latents = codec.encode(world.render(scenes, 9), world.render(scenes, 3, first=-3))
    mean, std = latents.mean((0, 1, 3, 4)), latents.std((0, 1, 3, 4))
    scale = std.clamp_min(1e-3).sqrt()
    scale = scale * ((std / scale) ** 2).mean().sqrt()
    codec.mean.copy_(mean)
    codec.scale.copy_(scale)


def initialise(model: nn.Module) -> None:
    """Xavier for matrices, zeros for biases and for every projection that ends a residual branch."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
            if name.endswith((".o", "ffn.2", "head.head")):
                nn.init.zeros_(module.weight)


def clip_batch(model: TinyModel, batch: int, frames: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random captions [B, groups] and the latents [B, F, C, Y, X] of their clips."""
    world = model.world
    classes = world.random_classes(batch, generator)
    scenes = world.sample_scenes(classes, generator)
    pixels = world.render(scenes, geometry_of(world).pixel_frames(frames))
    return classes, model.codec.encode(pixels, world.render(scenes, 3, first=-3))


class Trainer:
    """One model, its moving average, its optimisers and the loss."""

    def __init__(self, model: TinyModel, lr: float, generator: torch.Generator) -> None:
        self.model, self.ema, self.lr, self.generator = model, copy.deepcopy(model), lr, generator
        self.updates = 0
        matrices = [p for n, p in model.wan.blocks.named_parameters() if p.ndim == 2]
        chosen = {id(p) for p in matrices}
        others = [p for p in model.parameters() if id(p) not in chosen]
        self.optimisers: list[torch.optim.Optimizer] = [
            Muon(matrices, lr=lr),
            torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.98), weight_decay=0.0),
        ]
        self.schedule = Schedule(steps=(1000, 750, 500, 250))
        self.levels = torch.tensor([float(s) for s in self.schedule.sigmas])
        self.rope = Rope(config_of(model.world).rope_split, geometry_of(model.world).grid)

    def random_levels(self, batch: int, chunks: int) -> Tensor:
        """Noise levels [B, chunks]: half from the few inference levels, half from the whole shifted schedule."""
        few = self.levels[torch.randint(0, len(self.levels), (batch, chunks), generator=self.generator)]
        u = torch.rand(batch, chunks, generator=self.generator).clamp_min(0.002)
        shift = self.schedule.shift
        return torch.where(
            torch.rand(batch, chunks, generator=self.generator) < 0.5, few, shift * u / (1 + (shift - 1) * u)
        )

    def update(self, classes: Tensor, past: Tensor, noisy: Tensor, sigma: Tensor, target: Tensor, lr: float) -> Tensor:
        """One step. past, noisy, target: [B, F, C, Y, X]; sigma: [B, chunks]. Returns mean squared errors [B, chunks]."""
        frames = target.shape[1]
        clean = frames - CHUNK_FRAMES
        t = torch.cat([torch.zeros(len(target), clean), 1000 * sigma.repeat_interleave(CHUNK_FRAMES, 1)], 1)
        text = self.model.wan.encode_text(self.model.text.embed(classes))
        memory = TeacherForcing(self.rope, frames, CHUNK_FRAMES)
        out = self.model.wan(torch.cat([past[:, :clean], noisy], 1), t, text, memory)[:, clean:]
        error = (out - target).pow(2).mean((2, 3, 4)).unflatten(1, (-1, CHUNK_FRAMES)).mean(2)
        loss = (error / sigma.square().clamp_min(0.25)).mean()
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = lr
            optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
        self.updates += 1
        decay = min(0.998, (self.updates + 1) / (self.updates + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.ema.parameters()), list(self.model.parameters()), 1 - decay)
        errors: Tensor = error.detach()
        return errors

    def noised(self, latents: Tensor, sigma: Tensor) -> Tensor:
        level = sigma.repeat_interleave(CHUNK_FRAMES, 1)[..., None, None, None]
        return (1 - level) * latents + level * torch.randn(latents.shape, generator=self.generator)

    def step(self, batch: int, frames: int, lr: float) -> Tensor:
        classes, latents = clip_batch(self.model, batch, frames, self.generator)
        sigma = self.random_levels(batch, frames // CHUNK_FRAMES)
        context = (torch.rand(batch, 1, 1, 1, 1, generator=self.generator) * 0.3 - 0.15).clamp_min(0)
        past = latents + context * torch.randn(latents.shape, generator=self.generator)
        return self.update(classes, past, self.noised(latents, sigma), sigma, latents, lr)


class State:
    """Where a training stands, beside its checkpoint: what a stopped one goes on from, to the same weights.

    options: of the command, as it was typed; a state of other options is refused.
    """

    def __init__(self, out: Path, options: str) -> None:
        self.path, self.options = out.with_suffix(".state.safetensors"), options

    def save(self, trainer: Trainer, step: int) -> None:
        tensors = {f"model/{k}": v for k, v in trainer.model.state_dict().items()}
        tensors |= {f"ema/{k}": v for k, v in trainer.ema.state_dict().items()}
        tensors["generator"] = trainer.generator.get_state()
        for i, optimiser in enumerate(trainer.optimisers):
            for index, kept in optimiser.state_dict()["state"].items():
                tensors |= {f"optimiser/{i}/{index}/{k}": v for k, v in kept.items()}
        write_tensors(tensors, self.path, {"options": self.options, "step": str(step)})

    def load(self, trainer: Trainer) -> int:
        """The step to go on from, 0 where there is no state. Raises ValueError for one of other options."""
        if not self.path.exists():
            return 0
        with safe_open(self.path, framework="pt") as file:
            said = file.metadata() or {}
        if said.get("options") != self.options:
            raise ValueError(
                f"{self.path} is of another training ({said.get('options')}); remove it or choose another --out"
            )
        tensors = read_tensors(self.path)
        for part, module in (("model/", trainer.model), ("ema/", trainer.ema)):
            module.load_state_dict({k.removeprefix(part): v for k, v in tensors.items() if k.startswith(part)})
        trainer.generator.set_state(tensors["generator"].clone())
        for i, optimiser in enumerate(trainer.optimisers):
            kept: dict[int, dict[str, Tensor]] = defaultdict(dict)
            for name, tensor in tensors.items():
                if name.startswith(f"optimiser/{i}/"):
                    index, key = name.split("/")[2:]
                    kept[int(index)][key] = tensor.clone()
            optimiser.load_state_dict({"state": dict(kept), "param_groups": optimiser.state_dict()["param_groups"]})
        trainer.updates = int(said["step"])
        return trainer.updates


def options_of(args: argparse.Namespace) -> str:
    return " ".join(
        f"--{k.replace('_', '-')} {v}" for k, v in vars(args).items() if k not in ("init", "out") and v is not None
    )


def history_of(path: Path) -> str:
    """The commands that made a checkpoint, a line each; "" where there is none."""
    if not path.exists():
        return ""
    with safe_open(path, framework="pt") as file:
        return str((file.metadata() or {}).get("history", ""))


def provenance(args: argparse.Namespace, step: int, world: World) -> dict[str, str]:
    """How a checkpoint came to be: kept in the file's own metadata, one entry per command since the start."""
    before = history_of(args.init) if args.init else ""
    line = f"python -m deepforcing.tiny.train {options_of(args)} -> {step} steps on {world.DATA_VERSION}"
    machine = f"{platform.machine()} {platform.system()}, {args.threads} threads, torch {torch.__version__}"
    return {"history": "\n".join(filter(None, [before, line])), "data": world.DATA_VERSION, "machine": machine}


def rate(args: argparse.Namespace, step: int) -> float:
    """Learning rate of a step: 60 steps of warm-up, --flat of the way at --lr, then linearly to --final-lr of it."""
    decay = max(0.0, (step / args.steps - args.flat) / (1 - args.flat))
    return float(args.lr * min(1.0, (step + 1) / 60) * (1.0 - (1 - args.final_lr) * decay))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="checkpoint to write (.safetensors)")
    parser.add_argument("--init", type=Path, help="checkpoint to start from")
    parser.add_argument("--world", default="tiny", choices=list(WORLDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--frames", type=int, default=TRAIN_FRAMES, help="latent frames of a clip")
    parser.add_argument("--steps", type=int, required=True, help="updates")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--final-lr", type=float, default=0.03, help="fraction of --lr at the end")
    parser.add_argument("--flat", type=float, default=0.4, help="fraction of the steps before the decay begins")
    args = parser.parse_args()
    world = find_world(args.world)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    model = TinyModel(world)
    if args.init:
        model = TinyModel.load(args.init, world)
    else:
        initialise(model.wan)
        fit_codec(model.codec, world)
    model.requires_grad_(True)
    trainer = Trainer(model, args.lr, torch.Generator().manual_seed(args.seed + 1))
    state = State(args.out, options_of(args))
    if not state.path.exists() and history_of(args.out) == provenance(args, args.steps, world)["history"]:
        print(f"{args.out} is trained already; remove it to train it again")
        return
    try:
        start = state.load(trainer)
    except ValueError as fault:
        parser.error(str(fault))
    log_path = args.out.with_suffix(".csv")
    lines = log_path.read_text().splitlines()[1:] if start else []
    lines = [line for line in lines if int(line.split(",")[0]) <= start]
    began = last = time.time()
    began -= int(lines[-1].split(",")[1]) if lines else 0
    recent: list[tuple[float, float]] = []
    with log_path.open("w") as log:
        log.write("\n".join(["step,seconds,first_chunk_mse,later_chunks_mse,lr", *lines, ""]))
        for step in range(start, args.steps):
            lr = rate(args, step)
            error = trainer.step(args.batch, args.frames, lr)
            recent.append((float(error[:, 0].mean()), float(error[:, 1:].mean())))
            if (step + 1) % EVERY == 0:
                first, later = (sum(r[i] for r in recent) / len(recent) for i in (0, 1))
                line = f"{step + 1},{time.time() - began:.0f},{first:.5f},{later:.5f},{lr:.6f}"
                log.write(line + "\n")
                log.flush()
                print(line, f"{(time.time() - last) / len(recent):.2f} s/step", flush=True)
                recent, last = [], time.time()
            if (step + 1) % EVERY == 0 or step + 1 == args.steps:
                save_tiny(trainer.ema, args.out, provenance(args, step + 1, world))
                state.save(trainer, step + 1)
    state.path.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
