"""`latents=keep`: decoded again, and gone on from, against videos that were rolled out whole."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import BLUE, RED, Command
from safetensors.torch import load_file, save_file
from wan_files import CONFIG, write_taehv

from deepforcing import video
from deepforcing.cache.ahead import waits_for_queries
from deepforcing.frames import PixelChunk
from deepforcing.generator import Generator, GeneratorSpec
from deepforcing.prompts import Prompt
from experiments.command.compose import compose
from experiments.command.conf import groups
from experiments.request import build_spec

TWO = f"prompts=['{RED}','{BLUE}']"
GIVEN, ALL = 24, 30  # latent frames: past the windows of 21


def files(root: Path, suffix: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(root.glob(f"*/samples/*{suffix}"))}


def only(root: Path) -> Path:
    (run,) = (path for path in root.iterdir() if not path.name.startswith("."))
    return run


# ---- kept --------------------------------------------------------------------------------------------------------


def test_they_change_nothing_and_are_what_was_decoded(make: Command, checkpoint: Path, tmp_path: Path) -> None:
    """The same directory and videos; a run that was made without gets them by the same command."""
    assert make(TWO, "dtype=bfloat16").status == 0
    run = only(tmp_path / "runs")
    before = files(tmp_path / "runs", ".mp4")
    assert not list(run.rglob("*.safetensors"))
    status, out, err = make(TWO, "dtype=bfloat16", "latents=keep")
    assert (status, err) == (0, "")
    told = " ".join(out.split())
    assert "latents are kept: 0.0 MB a video, 0.00 GB in all" in told
    assert "2 finished videos were made without: they are made again" in told
    assert only(tmp_path / "runs") == run
    assert files(tmp_path / "runs", ".mp4") == before
    spec = build_spec(compose("rollout", [f"model.checkpoint={checkpoint}", "dtype=bfloat16"]))
    prompt = Prompt(RED)
    chunks = spec.build(torch.device("cpu")).generate(prompt.text, prompt.id, 0, 6)
    made = load_file(run / "samples" / f"{prompt.id}-s0.safetensors")["latents"]
    assert made.dtype == torch.bfloat16
    assert torch.equal(made, torch.cat([chunk.latents for chunk in chunks]))
    times = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    for key in ("latents=keep", "latents=drop"):
        status, out, _ = make(TWO, "dtype=bfloat16", key)
        assert (status, "2 already there" in out) == (0, True)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == times


@pytest.mark.slow
def test_latents_that_were_deleted_are_made_again_when_asked_for(make: Command, tmp_path: Path) -> None:
    assert make("latents=keep").status == 0
    (path,) = (tmp_path / "runs").glob("*/samples/*.safetensors")
    whole = path.read_bytes()
    path.unlink()
    assert make().status == 0
    assert not path.exists()
    assert make("latents=keep").status == 0
    assert path.read_bytes() == whole


def test_a_batch_keeps_each_video_its_own(make: Command, tmp_path: Path) -> None:
    assert make(TWO, "latents=keep", "batch=2").status == 0
    assert make(TWO, "latents=keep", f"runs_root={tmp_path / 'single'}").status == 0
    for path in (tmp_path / "runs").glob("*/samples/*.safetensors"):
        (single,) = (tmp_path / "single").glob(f"*/samples/{path.name}")
        torch.testing.assert_close(load_file(path)["latents"], load_file(single)["latents"], atol=1e-3, rtol=1e-3)


def test_a_full_disk_is_told_before(make: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepforcing.runs.shutil.disk_usage", lambda _: type("", (), {"free": 50_005_000}))
    monkeypatch.setattr(GeneratorSpec, "build", None)
    assert "MB are needed" in make("latents=keep").err


# ---- gone on from ------------------------------------------------------------------------------------------------


@cache
def rolled(policy: str, checkpoint: Path) -> tuple[Generator, list[PixelChunk]]:
    spec = build_spec(compose("rollout", [f"cache={policy}", f"model.checkpoint={checkpoint}"]))
    generator, prompt = spec.build(torch.device("cpu")), Prompt(RED)
    return generator, list(generator.generate(prompt.text, prompt.id, 0, ALL))


CHEAP = ("deep_sink", "dummy_forcing", "deep_forcing")
UNEQUAL = (  # docs/policies.md says so
    "adaptive_sink_gate",
    "deep_forcing",
    "deep_forcing_decoprune",
    "deep_forcing_frames",
    "deep_forcing_mass",
    "deep_forcing_one_shift",
    "deep_forcing_own_frames",
    "deep_forcing_release",
    "echo_forcing",
    "echo_forcing_release",
)
NEED_FILES = ("pyramid_forcing",)
POLICIES = [
    pytest.param(name, marks=[] if name in CHEAP else [pytest.mark.slow])
    for name in groups()["cache"]
    if name not in NEED_FILES
]


@pytest.mark.parametrize("policy", POLICIES)
def test_which_policies_go_on_to_the_bit(policy: str, checkpoint: Path) -> None:
    """Against rolling on, for every policy: equal bits, or, where a choice waits for a denoising pass, others."""
    generator, whole = rolled(policy, checkpoint)
    latents, prompt = torch.cat([chunk.latents for chunk in whole]), Prompt(RED)
    asked = [(prompt.text, prompt.id, 0)]
    going_on = [c for (c,) in generator.generate_batch(asked, ALL, latents[None, :GIVEN], goes_on=True)]
    first = GIVEN // generator.spec.chunk_frames
    assert all(np.array_equal(a.frames, b.frames) for a, b in zip(whole[:first], going_on, strict=False))
    equal = all(torch.equal(a.latents, b.latents) for a, b in zip(whole, going_on, strict=True))
    assert equal == (policy not in UNEQUAL)
    assert equal != waits_for_queries(generator.spec.cache.retention, generator.spec.chunk_frames)


@pytest.mark.parametrize(
    "words",
    [
        ("cache=deep_sink", TWO),
        ("generator=causal_forcing_2step", "cache=deep_sink"),  # its first chunk has a list of steps of its own
        ("generator=longlive", f"prompts=['{RED} [1.3s] | {BLUE}']"),  # the change computes the cache again
        pytest.param(("cache=deep_sink", "cache.store=rtn", "dtype=bfloat16"), marks=[pytest.mark.slow]),
    ],
)
def test_a_run_goes_on_as_if_it_had_never_ended(words: tuple[str, ...], make: Command, tmp_path: Path) -> None:
    """From the command line: the longer run's videos and latents, byte for byte, and the records say where they began."""
    runs, whole = tmp_path / "runs", tmp_path / "whole"
    assert make(*words, "seconds=2", "latents=keep").status == 0
    short = only(runs)
    assert make(*words, "seconds=3", "latents=keep", f"runs_root={whole}").status == 0
    assert make(*words, "seconds=3", "latents=keep", f"runs_root={tmp_path / 'on'}", f"start_from={short}").status == 0
    for suffix in (".mp4", ".safetensors"):
        assert files(tmp_path / "on", suffix) == files(whole, suffix)
    for path in only(tmp_path / "on").glob("samples/*.json"):
        record = json.loads(path.read_text())
        assert record["start_from"]["run"] == short.name
        assert record["start_from"]["sha256"] == video.sha256_file(short / "samples" / f"{path.stem}.safetensors")
        given = [chunk.get("given", False) for chunk in record["chunks"]].count(True)
        assert given * record["chunk_frames"] == record["start_from"]["latent_frames"]
    assert only(tmp_path / "on").name != only(whole).name  # made in another way, and the identity says it


def test_one_sample_starts_every_video(make: Command, tmp_path: Path) -> None:
    assert make("latents=keep").status == 0
    run = only(tmp_path / "runs")
    (sample,) = run.glob("samples/*.safetensors")
    for number, start in enumerate((sample, sample.with_suffix("")), start=1):
        root = tmp_path / f"on{number}"
        assert make(TWO, f"start_from={start}", "seconds=2", f"runs_root={root}").status == 0
        assert len(files(root, ".mp4")) == 2
    assert files(tmp_path / "on1", ".mp4") == files(tmp_path / "on2", ".mp4")
    assert only(tmp_path / "on1").name == only(tmp_path / "on2").name
    status, out, _ = make(f"start_from={sample}", "seconds=2", "cache=deep_forcing", f"runs_root={tmp_path / 'pc'}")
    assert status == 0
    assert "not to the bit as rolling on would have made them: cache 'deep_forcing' chooses tokens" in " ".join(
        out.split()
    )
    status, out, _ = make(f"start_from={run}", "seconds=2", "cache=deep_sink", f"runs_root={tmp_path / 'other'}")
    assert status == 0
    assert "was made with other settings (alignment, retention)" in " ".join(out.split())


def bad_latents(folder: Path, name: str, shape: tuple[int, ...]) -> Path:
    path = folder / f"{name}.safetensors"
    save_file({"latents": torch.zeros(shape)}, path)
    return path


def test_what_cannot_be_gone_on_from(make: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line before any weight is loaded, and no new run."""
    assert make("latents=keep").status == 0
    run = only(tmp_path / "runs")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.safetensors").write_text("text")
    new = tmp_path / "new"
    build = GeneratorSpec.build
    monkeypatch.setattr(GeneratorSpec, "build", None)
    for words, says in (
        ((f"start_from={run}", TWO, "seconds=2"), "has no latents of 1 of the 2 videos asked for"),
        ((f"start_from={run}", "seconds=1"), "ask for at least seconds="),
        ((f"start_from={run}", "seconds=6", "generator=rolling_forcing"), "cannot start from given frames"),
        ((f"start_from={tmp_path / 'empty'}",), "is not a run directory"),
        ((f"start_from={tmp_path / 'no.safetensors'}",), "is not there"),
        ((f"start_from={tmp_path / 'text.safetensors'}",), "cannot be read as latents"),
        (
            (f"start_from={bad_latents(tmp_path, 'size', (3, 16, 8, 8))}",),
            "16 x 8 x 8 (channels x rows x columns), model",
        ),
        (
            (f"start_from={bad_latents(tmp_path, 'four', (4, 48, 8, 8))}", "seconds=2"),
            "makes chunks of 3 latent frames",
        ),
        (("latents=keep", "generator=causvid", "seconds=6"), "decodes a video in rollouts that overlap"),
        (("latents=yes",), "latents=yes must be one of keep, drop"),
    ):
        status, out, err = make(f"runs_root={new}", *words)
        assert (status, out, err.count("\n")) == (2, "", 1), words
        assert says in err
    assert not new.exists() or not [path for path in new.iterdir() if not path.name.startswith(".")]
    monkeypatch.setattr(GeneratorSpec, "build", build)
    (sample,) = run.glob("samples/*.safetensors")
    content = bytearray(sample.read_bytes())
    content[-1] ^= 1
    sample.write_bytes(content)
    status, _, err = make(f"runs_root={new}", f"start_from={run}", "seconds=2")
    assert status == 2
    assert "is damaged or was replaced" in err


# ---- decoded again -----------------------------------------------------------------------------------------------


def test_decoding_again_gives_the_same_bytes(
    make: Command, command: Command, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert make(TWO, "latents=keep").status == 0
    run = only(tmp_path / "runs")
    monkeypatch.setattr(GeneratorSpec, "build", None)  # no transformer
    words = (f"runs={run}", f"model.checkpoint={checkpoint}", f"runs_root={tmp_path / 'again'}")
    status, _, err = command("decode", *words)
    assert (status, err) == (0, "")
    again = only(tmp_path / "again")
    assert again.name == run.name
    assert files(tmp_path / "again", ".mp4") == files(tmp_path / "runs", ".mp4")
    times = {path: path.stat().st_mtime_ns for path in again.rglob("*")}
    status, out, _ = command("decode", *words)
    assert (status, "2 already there" in " ".join(out.split())) == (0, True)
    assert {path: path.stat().st_mtime_ns for path in again.rglob("*")} == times
    assert command("evaluate", f"runs={again}", "metrics=[sharpness]", "window_seconds=0.5").status == 0


def small_wan() -> list[str]:
    names = ("dim", "ffn_dim", "freq_dim", "num_heads", "num_layers", "in_dim", "out_dim", "text_dim", "text_len")
    model = ["model=wan2.1-1.3b", "model.vae_dim=4", "model.random_weights=true"]
    model += [f"+model.config.{name}={getattr(CONFIG, name)}" for name in names]
    model += ["+model.config._target_=deepforcing.wan.config.WanConfig"]
    return [*model, "+model.geometry={_target_:deepforcing.geometry.Geometry,height:32,width:48}"]


def test_what_a_compiled_decoder_made_is_decoded_by_one_again(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a compiler that leaves functions as they are, and says which it was given."""
    compiled: list[str] = []

    def compiler(function: Any, **_: Any) -> Any:
        compiled.append(type(function).__name__)
        return function

    monkeypatch.setattr("torch.compile", compiler)
    roll = ["prompts=['a red dog runs']", "seconds=0.5", "device=cpu", "backend=compiled", "latents=keep"]
    runs, again = tmp_path / "runs", tmp_path / "again"
    assert command("rollout", *small_wan(), *roll, f"runs_root={runs}").status == 0
    assert compiled.count("WanDecoder3d") == 1
    compiled.clear()
    assert command("decode", *small_wan(), f"runs={runs}/*", f"runs_root={again}", "device=cpu").status == 0
    assert compiled == ["WanDecoder3d"]
    assert only(again).name == only(runs).name
    assert files(again, ".mp4") == files(runs, ".mp4")
    monkeypatch.setattr("shutil.which", lambda name: None)
    bad = command("decode", *small_wan(), f"runs={runs}/*", f"runs_root={tmp_path / 'third'}", "device=cpu")
    assert (bad.status, bad.err.count("\n")) == (2, 1)
    assert "torch.compile needs a C++ compiler" in bad.err


def test_another_decoder_gives_what_rolling_out_with_it_gives(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wan's tiny decoder over the latents of a run that the VAE decoded: the other run's directory and bytes."""
    model = small_wan()
    tiny = ["model.decoder=taehv", f"model.taehv={write_taehv(tmp_path / 'taehv.pth')}"]
    roll = ["prompts=['a red dog runs']", "seconds=1.3", "device=cpu", "label=mine"]
    runs, other, again = tmp_path / "runs", tmp_path / "other", tmp_path / "again"
    assert command("rollout", *model, *roll, "latents=keep", f"runs_root={runs}").status == 0
    assert command("rollout", *model, *tiny, *roll, f"runs_root={other}").status == 0
    status, _, err = command("decode", *model, *tiny, f"runs={runs}/*", f"runs_root={again}", "device=cpu")
    assert (status, err) == (0, "")
    assert only(again).name == only(other).name != only(runs).name
    assert files(again, ".mp4") == files(other, ".mp4") != files(runs, ".mp4")
    status, out, _ = command("rollout", *model, *tiny, *roll, f"runs_root={again}")  # so rolling out finds it done
    assert "1 already there" in " ".join(out.split())


def test_what_cannot_be_decoded(make: Command, command: Command, checkpoint: Path, tmp_path: Path) -> None:
    assert make().status == 0
    run = only(tmp_path / "runs")
    root = f"runs_root={tmp_path / 'again'}"
    for words, says in (
        ((), "give runs=DIR"),
        ((f"runs={run}", f"model.checkpoint={checkpoint}"), "holds no latents: its own command with latents=keep"),
        ((f"runs={tmp_path / 'nowhere'}",), "no such run directory"),
    ):
        status, _, err = command("decode", root, *words)
        assert (status, err.count("\n")) == (2, 1)
        assert says in err
    assert make("latents=keep").status == 0
    status, _, err = command("decode", root, f"runs={run}")  # the shipped weights, whose codec is another
    assert (status, err.count("\n")) == (2, 1)
    assert "is of a model with another checkpoint" in err
