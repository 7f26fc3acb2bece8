"""The latents of an earlier rollout that videos go on from, without the round trip through an mp4 and the encoder.

A sample's file, with which every video begins, or a run directory: then each video goes on from the sample of its own prompt
and seed, and is, for policies of which `exact` says so, to the bit what rolling on would have made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deepforcing.cache.ahead import waits_for_queries
from deepforcing.clip import check_length
from deepforcing.generator import GeneratorSpec
from deepforcing.latents import SUFFIX, latents_shape, read_latents
from deepforcing.prompts import Sample
from deepforcing.runs import RunDir, canonical_json
from deepforcing.video import sha256_file


@dataclass(frozen=True, eq=False)
class Continuation:
    """name: of the file, or of the run. sha256: of the file, or the run's identity, which goes into the new run's own.
    files: path and sha256 by sample; under "" the one for all. latent_frames, frames: of each, the latter in pixels.
    identity: of the run, if it is one."""

    name: str
    sha256: str
    files: dict[str, tuple[Path, str]]
    latent_frames: int
    frames: int
    identity: dict[str, Any] | None = None
    _kept: dict[Path, Tensor] = field(default_factory=dict, repr=False)

    def initial(self, samples: Sequence[Sample], device: torch.device, dtype: torch.dtype) -> Tensor:
        """Latents [B, n, C, Y, X] for these samples. Raises ValueError for a file that is not what its record says."""
        return torch.stack([self._read(sample.name) for sample in samples]).to(device, dtype)

    def of(self, sample: str) -> dict[str, Any]:
        """What the sample's record says of its beginning."""
        path, sha256 = self.files[sample if sample in self.files else ""]
        return {
            "file": path.name,
            "run": path.parent.parent.resolve().name,
            "sha256": sha256,
            "latent_frames": self.latent_frames,
            "frames": self.frames,
        }

    def inexact(self, spec: GeneratorSpec, identity: Mapping[str, Any]) -> str | None:
        """Why videos are not to the bit what rolling on would have made; None: they are, on one kind of device, where prompt
        and seed are those of the latents. identity: of the new run."""
        policy, name = spec.cache, spec.cache.name or "policy"
        if policy.retention.needs(spec.chunk_frames).gap is not None:
            return f"cache {name!r} chooses tokens by a chunk's denoising, of which nothing is kept with latents"
        if waits_for_queries(policy.retention, spec.chunk_frames):
            return (
                f"cache {name!r} chooses tokens in a chunk's first denoising pass, which chunks that are given have not"
            )
        if getattr(policy.store, "release", False):
            return f"cache {name!r} quantises what it stores in every pass, and chunks that are given have one only"
        if spec.noise != "keyed":
            return f"noise={spec.noise} is one stream for the whole video"
        if self.identity is None:
            return None
        theirs, ours = ({k: v for k, v in i.items() if k != "start_from"} for i in (self.identity, identity))
        length = "latent_frames"
        other = sorted(k for k in theirs.keys() | ours.keys() if k != length and theirs.get(k) != ours.get(k))
        return f"{self.name} was made with other settings ({', '.join(other)})" if other else None

    def _read(self, sample: str) -> Tensor:
        path, sha256 = self.files[sample if sample in self.files else ""]
        if "" not in self.files:
            return read_latents(path, sha256)
        if path not in self._kept:  # the one for all is read once
            self._kept[path] = read_latents(path, sha256)
        return self._kept[path]


def latents_file(value: str) -> Path | None:
    """The file or run directory of latents that `start_from` means; None: it is an image or a video. "runs/.../X" is the
    sample's file, X.safetensors."""
    path = Path(value).expanduser()
    beside = path.with_name(path.name + SUFFIX) if path.name else path
    if path.suffix == SUFFIX or path.is_dir():
        return path
    return beside if not path.exists() and beside.is_file() else None


def read_continuation(path: Path, spec: GeneratorSpec, total_frames: int, plan: Sequence[Sample]) -> Continuation:
    """Look at headers; the latents are read when their videos are made.

    Raises ValueError, in one line that says what would be right, for a generator that cannot begin with given frames, a
    folder that is no run, samples without latents, and latents of another size or length than fits.
    """
    spec.check_start()
    if not path.is_dir():
        if not path.is_file():
            raise ValueError(f"start_from={path} is not there")
        latent_frames = check_latents(path, spec, total_frames)
        sha256 = sha256_file(path)
        frames = spec.model.geometry.pixel_frames(latent_frames)
        return Continuation(path.name, sha256, {"": (path, sha256)}, latent_frames, frames)
    run = RunDir.open(path)
    records = {record["sample"]: record for record in run.samples() if run.has_latents(record)}
    missing = [sample.name for sample in plan if sample.name not in records]
    if missing:
        raise ValueError(
            f"start_from={path} has no latents of {len(missing)} of the {len(plan)} videos asked for ({missing[0]} ...): make "
            "that run with latents=keep, and ask for its prompts and seeds"
        )
    files = {s.name: (run.latents_path(s.name), str(records[s.name]["latents"]["sha256"])) for s in plan}
    lengths = {check_latents(file, spec, total_frames) for file, _ in files.values()}
    if len(lengths) > 1:
        raise ValueError(f"start_from={path} holds latents of several lengths ({sorted(lengths)} latent frames)")
    identity = run.record().get("identity") or {}
    digest = hashlib.sha256(canonical_json(identity).encode()).hexdigest()
    latent_frames = lengths.pop()
    frames = spec.model.geometry.pixel_frames(latent_frames)
    return Continuation(run.name, f"run {digest}", files, latent_frames, frames, identity)


def check_latents(path: Path, spec: GeneratorSpec, total_frames: int) -> int:
    """Latent frames of the file. Raises ValueError unless the generator can go on from them."""
    g = spec.model.geometry
    frames, *size = latents_shape(path)
    if tuple(size) != (g.latent_channels, g.latent_height, g.latent_width):
        raise ValueError(
            f"start_from={path} holds latents of {' x '.join(map(str, size))} (channels x rows x columns), model "
            f"{spec.model.name} takes {g.latent_channels} x {g.latent_height} x {g.latent_width}"
        )
    return check_length(f"start_from={path}", g.pixel_frames(frames), spec, total_frames)
