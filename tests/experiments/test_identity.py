"""A run's identity: every field of every specification changes it, but for those that change no pixel.

The fields are found by walking the specifications, so that a new one fails here until it is part of the identity or listed
below as changing no pixel.
"""

from __future__ import annotations

import copy
import dataclasses
import shutil
import typing
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import composed
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file
from wan_files import CONFIG, write_generator, write_taehv, write_tokenizer, write_umt5

from deepforcing.cache.alignment import NAMED
from deepforcing.cache.scorers import Random
from deepforcing.generator import GeneratorSpec
from deepforcing.geometry import Geometry
from deepforcing.identity import plain, unusual
from deepforcing.runs import identity_hash
from deepforcing.tiny.model import SHIPPED, TinySpec
from deepforcing.video import VideoWriter
from deepforcing.wan.config import WanConfig
from deepforcing.wan.model import WanSpec
from deepforcing.wan.origin import SOURCE, TAKEN
from deepforcing.wan.vae import random_vae
from experiments.cli import CONF, groups
from experiments.request import build_spec, check_request

FRAMES = 12


@dataclass(frozen=True)
class Fixed:
    """In the place of a model, whose own fields have their own tests."""


@dataclass(frozen=True)
class Other:
    """A part of a specification by somebody else."""

    frames: int = 3


def another(value: Any) -> Any:
    """Another value for a field, whether or not it would make sense: an identity looks at values only."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, str):
        return f"{value}, another"
    return (*value, 1) if isinstance(value, tuple) else Other()


def changes(value: Any) -> Iterator[tuple[str, Any]]:
    """Each field of a dataclass, and of those inside it, with the whole changed in this field alone."""
    for field in fields(value):
        own = getattr(value, field.name)
        yield f"{type(value).__name__}.{field.name}", changed_in(value, field.name, another(own))
        if is_dataclass(own):
            for where, inner in changes(own):
                yield where, changed_in(value, field.name, inner)


def changed_in(value: Any, name: str, content: Any) -> Any:
    """dataclasses.replace without the checks that a class makes of its values."""
    other = copy.copy(value)
    object.__setattr__(other, name, content)
    return other


def presets() -> list[tuple[str, str]]:
    return [(group, option) for group in ("cache", "generator") for option in groups()[group]]


def spec_of(group: str, option: str) -> GeneratorSpec:
    return build_spec(composed("rollout", f"{group}={option}", "model=tiny"))


@pytest.mark.parametrize(("group", "option"), presets())
def test_every_field_of_every_preset(group: str, option: str) -> None:
    spec = spec_of(group, option)
    usual = identity_hash(spec.identity(FRAMES))
    seen = {}
    for where, changed in changes(changed_in(spec, "model", Fixed())):
        if not where.startswith("Fixed.") and where not in ("GeneratorSpec.model", "GeneratorSpec.cache"):
            seen[where] = identity_hash(changed_in(changed, "model", spec.model).identity(FRAMES)) != usual
    labels = {"GeneratorSpec.name", f"{type(spec.cache).__name__}.name"}  # they change no pixel
    assert {where for where, differs in seen.items() if not differs} == labels
    assert len(seen) > 10
    assert identity_hash(spec.identity(FRAMES + 3)) != usual
    assert identity_hash(spec.identity(FRAMES, "ab" * 32)) != usual
    assert identity_hash(spec.identity(FRAMES, device="cuda")) == usual  # the noise is drawn on the CPU


@pytest.mark.parametrize("value", [Random(), *NAMED.values()], ids=lambda v: type(v).__name__)
def test_every_field_of_what_no_preset_has(value: Any) -> None:
    for where, changed in changes(value):
        assert plain(changed) != plain(value), where


def test_parts_in_place_of_others() -> None:
    """Retentions, alignments, scorers and rules of equal fields are told apart by their class."""
    spec = spec_of("cache", "deep_forcing")
    cases = [replace(spec, cache=replace(spec.cache, alignment=alignment)) for alignment in NAMED.values()]
    retention: Any = spec.cache.retention
    cases += [
        replace(spec, cache=replace(spec.cache, retention=replace(retention, scorer=s))) for s in (Random(), Random(1))
    ]
    hashes = {identity_hash(case.identity(FRAMES)) for case in cases}
    assert len(hashes) == len(cases)


def test_the_class_counts() -> None:
    @dataclass(frozen=True)
    class One:
        frames: int = 3

    @dataclass(frozen=True)
    class Two:
        frames: int = 3

    assert plain(One()) != plain(Two())
    assert plain([One()]) != plain([Two()])
    assert plain(One()) == plain(One())
    assert plain(One(4)) != plain(One())
    spec = spec_of("cache", "sink")
    mine = [replace(spec, rule=typing.cast("Any", rule)) for rule in (One(), Two())]
    assert len({identity_hash(s.identity(FRAMES)) for s in mine}) == 2


def test_what_is_no_plain_value_is_refused() -> None:
    for value in (object(), Path("x"), {"a": 1}, torch.zeros(1), WanConfig):
        with pytest.raises(ValueError, match="cannot be part of a run's identity"):
            plain(value)


def test_unusual_fields_only() -> None:
    @dataclass(frozen=True)
    class Sizes:
        needed: int
        height: int = 480
        steps: tuple[int, ...] = dataclasses.field(default_factory=lambda: (1, 2))

    assert unusual(Sizes(1)) == {"needed": 1}
    assert unusual(Sizes(1, 480, (1, 2)), without=["needed"]) == {}
    assert unusual(Sizes(1, 128, (1,)), without=["needed"]) == {"height": 128, "steps": [1]}


# ---- models -------------------------------------------------------------------------------------------------------


def random_spec(config: WanConfig | None = None, geometry: Geometry | None = None) -> WanSpec:
    return WanSpec(config=config or WanConfig(), geometry=geometry or Geometry(), random_weights=True)


@pytest.mark.parametrize("small", [False, True])
def test_every_field_of_config_and_geometry(small: bool) -> None:
    config, geometry = (CONFIG, Geometry(height=32, width=48)) if small else (WanConfig(), Geometry())
    usual = identity_hash(random_spec(config, geometry).identity())
    hashes = {"usual": usual}
    for where, changed in [*changes(config), *changes(geometry)]:
        a, b = (changed, geometry) if isinstance(changed, WanConfig) else (config, changed)
        if where == "WanConfig.in_dim":  # the two go together
            b = changed_in(b, "latent_channels", a.in_dim)
        elif where == "Geometry.latent_channels":
            a = changed_in(a, "in_dim", b.latent_channels)
        hashes[where] = identity_hash(random_spec(a, b).identity())
    assert len(hashes) == 1 + len(fields(WanConfig)) + len(fields(Geometry))
    pairs = {"WanConfig.in_dim", "Geometry.latent_channels"}
    assert len({h for where, h in hashes.items() if where not in pairs}) == len(hashes) - 2
    assert usual not in {hashes[where] for where in pairs}


def test_the_sizes_of_the_report() -> None:
    sizes = [Geometry(), Geometry(832, 480), Geometry(128, 192)]
    specs = [*(random_spec(geometry=g) for g in sizes), random_spec(WanConfig(num_layers=2))]
    assert len({identity_hash(s.identity()) for s in specs}) == 4
    assert random_spec().identity() == random_spec(WanConfig(), Geometry(480, 832)).identity()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that a Wan run reads, small; and the same with other content, and the same at another place."""
    root = tmp_path_factory.mktemp("files")
    for seed, name in enumerate(("here", "other")):
        folder = root / name
        write_generator(folder / "w.pt", seed=3 * seed)
        write_umt5(folder / "t5.safetensors", seed=seed)
        write_tokenizer(folder / "tokenizer")
        write_taehv(folder / "taehv.safetensors", seed=seed)
        save_file(random_vae(4, seed=seed).vae.state_dict(), folder / "vae.safetensors")
        g = torch.Generator().manual_seed(seed)
        pair = {
            f"blocks.0.self_attn.q.lora_{p}.weight": torch.randn(s, generator=g)
            for p, s in (("A", (2, 24)), ("B", (24, 2)))
        }
        save_file(pair, folder / "lora.safetensors")
    tokenizer = root / "other" / "tokenizer" / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace('"red"', '"green"'))
    return root


def wan(folder: Path, **other: Any) -> WanSpec:
    return WanSpec(**{
        "name": "small", "config": CONFIG, "geometry": Geometry(height=32, width=48), "checkpoint": str(folder / "w.pt"),
        "lora": str(folder / "lora.safetensors"), "vae": str(folder / "vae.safetensors"), "decoder": "taehv",
        "taehv": str(folder / "taehv.safetensors"), "text_encoder": str(folder / "t5.safetensors"),
        "tokenizer": str(folder / "tokenizer"), **other,
    })  # fmt: skip


PLACES = ("checkpoint", "lora", "vae", "taehv", "text_encoder", "tokenizer")
DIFFERS: dict[str, Any] = {
    "name": "another", "use_ema": False, "lora_alpha": 4.0, "vae_dtype": "bfloat16", "taehv_dtype": "float32",
    "channels_last": True, "decoder": "vae", "pixel_scale": 2,
}  # fmt: skip
SAME: dict[str, Any] = {
    "generator": "longlive", "use_ema": True, "lora_rank": 2, "lora_alpha": 2.0, "vae_dim": 8, "embeddings": "elsewhere",
    "weights_root": "elsewhere", "random_weights": True, "world": "tiny", "train_frames": 81,
}  # fmt: skip
ELSEWHERE = {"config", "geometry"}  # every field of these: above


def test_every_field_of_a_wan_model(files: Path) -> None:
    assert {f.name for f in fields(WanSpec)} == {*PLACES, *DIFFERS, *SAME, *ELSEWHERE}
    spec = wan(files / "here")
    usual = identity_hash(spec.identity())
    for name, value in DIFFERS.items():
        changed = replace(spec, **{name: value}, **({"taehv": None} if name == "decoder" else {}))
        assert identity_hash(changed.identity()) != usual, name
    for name, value in SAME.items():
        assert identity_hash(replace(spec, **{name: value}).identity()) == usual, name
    for name in PLACES:
        changed = replace(spec, **{name: getattr(wan(files / "other"), name)})
        assert identity_hash(changed.identity()) != usual, name


def test_files_count_by_content_not_by_place(files: Path, tmp_path: Path) -> None:
    shutil.copytree(files / "here", tmp_path / "copy")
    assert wan(tmp_path / "copy").identity() == wan(files / "here").identity()


def test_vae_dim_is_of_a_random_vae() -> None:
    assert len({identity_hash(WanSpec(random_weights=True, vae_dim=d).identity()) for d in (4, 8)}) == 2


def test_converted_files_of_one_source_are_told_apart(files: Path, tmp_path: Path) -> None:
    """Both have the source's digest in their notes: which of its weights they hold must count as well."""
    state = load_file(files / "here" / "vae.safetensors")  # any tensors: identity does not look at them
    for name, taken in (("ema", "generator_ema"), ("raw", "generator")):
        save_file(state, tmp_path / f"{name}.safetensors", metadata={SOURCE: "ab" * 32, TAKEN: taken})
    specs = [WanSpec(checkpoint=str(tmp_path / f"{n}.safetensors"), random_weights=True) for n in ("ema", "raw")]
    a, b = (identity_hash(s.identity()) for s in specs)
    assert a != b
    with pytest.raises(ValueError, match="was converted from the raw weights, so use_ema=False is all it has"):
        replace(specs[1], use_ema=True).choice(tmp_path / "raw.safetensors")


def test_every_field_of_the_embedded_world(tmp_path: Path) -> None:
    differs: dict[str, Any] = {"name": "another", "pixel_scale": 4, "shipped": "tiny_second"}
    same: dict[str, Any] = {"world": None, "train_frames": 81}
    assert {f.name for f in fields(TinySpec)} == {*differs, *same, "checkpoint"}
    usual = identity_hash(TinySpec().identity())
    assert all(identity_hash(replace(TinySpec(), **{n: v}).identity()) != usual for n, v in differs.items())
    assert all(identity_hash(replace(TinySpec(), **{n: v}).identity()) == usual for n, v in same.items())
    other_world = replace(TinySpec(str(SHIPPED)), world="tiny_pan")
    assert identity_hash(other_world.identity()) != usual
    state = load_file(SHIPPED)
    (tmp_path / "copy.safetensors").write_bytes(SHIPPED.read_bytes())
    assert identity_hash(TinySpec(str(tmp_path / "copy.safetensors")).identity()) == usual
    save_file({n: t + 1 for n, t in state.items()}, tmp_path / "other.safetensors")
    assert identity_hash(TinySpec(str(tmp_path / "other.safetensors")).identity()) != usual


@pytest.mark.parametrize(
    ("words", "frames", "name"),
    [
        ("model=tiny cache=self_forcing", 21, "1badfc8d"),
        ("model=tiny cache=deep_sink", 21, "9f5b1ed1"),
        ("model=tiny cache=deep_forcing", 21, "6bf124e3"),
        ("model=tiny generator=rolling_forcing", 21, "39e50519"),
        ("model=tiny generator=longlive", 21, "94847fa9"),
        ("model=wan2.1-1.3b model.random_weights=true cache=deep_forcing", 21, "7eb263e8"),
        ("model=wan2.1-1.3b model.random_weights=true generator=causvid", 21, "ee5a148e"),
    ],
)
def test_published_identities_stay(words: str, frames: int, name: str) -> None:
    """As in version 0.1.0: directories of default runs go on being found."""
    assert identity_hash(build_spec(composed("rollout", *words.split())).identity(frames)) == name


# ---- from the command line ----------------------------------------------------------------------------------------

OTHER_RUN = {
    "model": "+model.pixel_scale=4", "cache": "cache=sink", "generator": "generator.noise=upstream", "seconds": "seconds=2",
    "start_from": "start_from={clip}", "dtype": "dtype=bfloat16", "backend": "backend=packed",
    "lossy": "lossy=teacache",
}  # fmt: skip
SAME_RUN = {  # batch: last bits, as the device; each sample's record says it
    "prompts": "prompts=dev", "seeds": "seeds=[5,6]", "name": "name=another", "label": "label=another",
    "runs_root": "runs_root={clip}.runs", "shard": "shard=1/2", "device": "device=auto", "threads": "threads=1",
    "batch": "batch=2", "watch": "watch=experiments.probes.attention.Attention",
    "latents": "latents=keep", "attention": "attention=measured",  # on a CPU, which has one kernel
    "tracker": "tracker=wandb",
}  # fmt: skip


def test_every_key_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample is identified by its run, prompt and seed; a run's name is the first part of its directory's."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    clip = tmp_path / "clip.mp4"
    with VideoWriter(clip, 16, 16, 16, pixel_scale=8) as writer:
        writer.write(np.zeros((9, 16, 16, 3), np.uint8))

    def identity(*words: str) -> str:
        given = [w.format(clip=clip) for w in ("seconds=1", f"runs_root={tmp_path}", "device=cpu", *words)]
        return identity_hash(check_request(composed("rollout", *given)).identity)

    keys = {k for k in OmegaConf.load(CONF / "rollout.yaml") if k not in ("defaults", "hydra")} | {
        "model",
        "cache",
        "generator",
        "lossy",
    }
    assert keys == {*OTHER_RUN, *SAME_RUN}
    usual = identity()
    assert {key for key, words in OTHER_RUN.items() if identity(words) == usual} == set()
    assert {key for key, words in SAME_RUN.items() if identity(words) != usual} == set()
    assert identity(f"model.checkpoint={SHIPPED}") == usual
