"""What the chosen rollout needs: its files with their sha256, its memory, and what the command would refuse."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.health.machine import Finding, disk

if TYPE_CHECKING:
    from deepforcing.generator import GeneratorSpec


def rollout(words: Sequence[str]) -> Iterator[Finding]:
    """words: of experiments.rollout. Raises ValueError for words that it would not take."""
    from omegaconf import OmegaConf

    from deepforcing.wan.model import WanSpec
    from experiments.command.compose import compose
    from experiments.request import build_spec

    config = compose("rollout", words)
    OmegaConf.resolve(config)
    spec = build_spec(config)
    lacking, whole = 0.0, True
    if isinstance(spec.model, WanSpec):
        for finding, gigabytes in files(spec.model):
            lacking += gigabytes
            whole = whole and finding.here
            yield finding
        yield disk(spec.model.root, "DEEPFORCING_WEIGHTS", lacking + 0.01, needed=lacking > 0)
    yield disk(str(config.runs_root), "runs_root", 0.05, needed=True)
    if whole:
        yield check(spec, spec.latent_frames(float(config.seconds)), str(config.device), int(config.batch))


def files(model: object) -> Iterator[tuple[Finding, float]]:
    """Each file of a Wan model, and how many gigabytes of it are missing."""
    from deepforcing.wan.catalogue import COMPONENTS, RELEASES, TAEHV, TOKENIZER
    from deepforcing.wan.model import WanSpec
    from experiments.downloads.manifest import Manifest

    assert isinstance(model, WanSpec)
    known = [file for r in RELEASES.values() for file in (r.checkpoint, r.lora) if file] + [*COMPONENTS, TAEHV]
    published = {file.local(model.root): file for file in known}
    published |= {file.local(model.root).parent: file for file in TOKENIZER}
    manifest = Manifest(model.root)
    name = model.generator.rpartition(".")[2] if model.checkpoint is None else model.checkpoint
    place = "" if model.weights_root is None else f" root={shlex.quote(str(model.root))}"
    weights = f"python -m experiments.weights {name if name in RELEASES else 'self_forcing'}{place}"
    for what, path in model.files().items():
        file = published.get(path)
        if not path.exists():
            size = 0.0 if file is None else file.gigabytes or 6.0  # a checkpoint of 1.4 G numbers in float32
            mend = f"{weights} download=true" if file else f"copy it to {path}"
            yield Finding(what, False, f"{path} is not there", mend, needed=True), size
            continue
        if path.is_dir():
            yield Finding(what, True, str(path)), 0.0
            continue
        recorded = None
        if path.is_relative_to(model.root):
            recorded = (file.sha256 if file else None) or manifest.digest(path)
        yield digest(what, path, recorded, f"{weights} verify=true"), 0.0


def digest(what: str, path: Path, recorded: str | None, verify: str) -> Finding:
    """A file's sha256 beside the recorded one. A large file that was never hashed is not hashed now: that takes minutes."""
    from deepforcing.wan.weights import remembered

    size = f"{path.stat().st_size / 1e9:.2f} GB"
    found = remembered(path)
    if found is None:
        return Finding(what, True, f"{path} ({size}), sha256 not computed yet: {verify}")
    if recorded is not None and recorded != found:
        text = f"{path} ({size}) has changed: its sha256 begins {found[:12]}, recorded is {recorded[:12]}"
        return Finding(what, False, text, f"rm {path}, then fetch it again", needed=True)
    return Finding(
        what, True, f"{path} ({size}), sha256 {found[:12]}{' as recorded' if recorded else ', not recorded'}"
    )


def check(spec: GeneratorSpec, total_frames: int, device: str, batch: int) -> Finding:
    """What the rollout would refuse before its work, and what it would take."""
    from deepforcing.memory import plan_memory
    from deepforcing.wan.model import WanSpec
    from experiments.request import check_room, pick_device

    try:
        place = pick_device(device)
        spec.check(total_frames)
        check_room(spec, total_frames, place, batch)
    except (ValueError, OSError) as error:
        return Finding("rollout", False, " ".join(str(error).split()), "", needed=True)
    plan = f", about {plan_memory(spec, total_frames, batch=batch)}" if isinstance(spec.model, WanSpec) else ""
    return Finding("rollout", True, f"{spec.name} on {spec.model.name}, {spec.dtype} on {place}{plan}")


def metric_networks() -> Iterator[Finding]:
    """VBench's networks, where the vbench package looks for them."""
    from eval.networks.weights import FILES, vbench_cache

    lacking = [file.what for file in FILES.values() if file.find() is None and not file.by_hand]
    every = sum(not file.by_hand for file in FILES.values())
    text = f"{every - len(lacking)} of {every} files under {vbench_cache()}"
    text += f"; missing: {', '.join(lacking)}" if lacking else ""
    yield Finding("VBench's networks", not lacking, text, "python -m experiments.weights metrics download=true")
