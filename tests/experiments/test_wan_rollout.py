"""Wan end to end at reduced size on the CPU: prompts through a small UMT5, two chunks, VAE, mp4; nothing from the hub."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from commands import Command, Outcome
from safetensors.torch import save_file
from wan_files import CONFIG, write_generator, write_taehv, write_tokenizer, write_umt5

from deepforcing.video import VideoWriter, read_video
from deepforcing.wan.catalogue import TAEHV
from deepforcing.wan.vae import random_vae
from experiments.results.runs import find_runs, read_runs

PROMPTS = "prompts=['a red dog runs','a blue cat sleeps']"
SMALL = [
    "model=wan2.1-1.3b",
    *(f"+model.config.{k}={getattr(CONFIG, k)}" for k in ("dim", "ffn_dim", "freq_dim", "num_heads", "num_layers")),
    *(f"+model.config.{k}={getattr(CONFIG, k)}" for k in ("in_dim", "out_dim", "text_dim", "text_len")),
    "+model.config._target_=deepforcing.wan.config.WanConfig",
    "+model.geometry={_target_:deepforcing.geometry.Geometry,height:32,width:48}",
    "model.vae_dim=4",
]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEEPFORCING_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path / "weights"


@pytest.fixture
def roll(command: Command, root: Path, tmp_path: Path) -> Command:
    def call(*overrides: str) -> Outcome:
        return command(
            "rollout", *SMALL, PROMPTS, "seconds=1.3", "device=cpu", f"runs_root={tmp_path / 'runs'}", *overrides
        )

    return call


def samples(tmp_path: Path) -> list[dict[str, object]]:
    return [json.loads(p.read_text()) for p in sorted(tmp_path.glob("runs/*/samples/*.json"))]


def test_random_transformer_and_vae_behind_a_small_text_encoder(roll: Command, root: Path, tmp_path: Path) -> None:
    """Two prompts through a tiny random UMT5, a two-chunk rollout, mp4; again: nothing is redone."""
    files = (
        f"model.text_encoder={write_umt5(root / 't5.pth')}",
        f"model.tokenizer={write_tokenizer(root / 'tokenizer')}",
        "model.random_weights=true",
    )
    done = roll(*files)
    assert done.status == 0, done.err
    records = samples(tmp_path)
    assert [(r["frames"], r["latent_frames"], r["width"], r["height"]) for r in records] == [(21, 6, 48, 32)] * 2
    assert len({r["sha256"] for r in records}) == 2  # the prompts matter
    assert len(list((root / "embeddings").rglob("*.safetensors"))) == 2
    [run] = tmp_path.glob("runs/*/run.json")
    identity = json.loads(run.read_text())["identity"]["model"]
    assert identity["checkpoint"] == "random"
    assert len(identity["text"]) == 64
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("runs/*/samples/*")}
    assert roll(*files).status == 0
    assert {p: p.stat().st_mtime_ns for p in tmp_path.glob("runs/*/samples/*")} == before


def test_a_checkpoint_in_its_place_with_everything_else_random(roll: Command, root: Path, tmp_path: Path) -> None:
    write_generator(root / "Self-Forcing" / "checkpoints" / "self_forcing_dmd.pt")
    done = roll("model.random_weights=true", "model.checkpoint=self_forcing", "cache=deep_forcing", "dtype=bfloat16")
    assert done.status == 0, done.err
    assert len(samples(tmp_path)) == 2


def test_sizes_make_runs_of_their_own(roll: Command, root: Path, tmp_path: Path) -> None:
    """The report: an upright video found the horizontal one's directory and was "already there"."""
    common = ("model.random_weights=true", "prompts=['a red dog runs']")
    for overrides in ((), ("model.geometry.height=48", "model.geometry.width=32"), ("model.config.num_layers=1",)):
        done = roll(*common, *overrides)
        assert done.status == 0, done.err
        assert "0 already there" in " ".join(done.out.split())
    assert [(r["width"], r["height"]) for r in samples(tmp_path)].count((32, 48)) == 1
    runs = sorted(tmp_path.glob("runs/*/run.json"))
    assert len(runs) == len(samples(tmp_path)) == 3
    record = json.loads(runs[0].read_text())
    runs[0].write_text(json.dumps({**record, "geometry": {**record["geometry"], "height": 480}}))
    refused = [
        roll(*common, *o)
        for o in ((), ("model.geometry.height=48", "model.geometry.width=32"), ("model.config.num_layers=1",))
    ]
    [line] = "".join(done.err for done in refused if done.status == 2).splitlines()
    assert "is of a run with geometry.height=480, not " in line


def test_a_lora_tells_how_much_it_updates(roll: Command, root: Path, tmp_path: Path) -> None:
    """In kohya's format, its alpha in the file; another alpha on the command line is refused before any work."""
    base = write_generator(root / "base.pt")
    tensors = {}
    for block in range(2):
        name = f"lora_unet_blocks_{block}_self_attn_q"
        tensors |= {f"{name}.lora_down.weight": torch.randn(4, 24), f"{name}.lora_up.weight": torch.randn(24, 4)}
        tensors |= {f"{name}.alpha": torch.tensor(2.0)}
    save_file(tensors, root / "style.safetensors")
    common = (f"model.checkpoint={base}", f"model.lora={root / 'style.safetensors'}", "model.random_weights=true")
    done = roll(*common, "prompts=['a red dog runs']")
    assert done.status == 0, done.err
    assert "2 of 27 modules matched, rank 4, scale 0.5 (alpha from the file)" in " ".join(done.out.split())
    [run] = tmp_path.glob("runs/*/run.json")
    assert json.loads(run.read_text())["identity"]["model"]["lora"]["scale"] == 0.5
    done = roll(*common, "model.lora_alpha=4")
    assert done.status == 2
    assert "lora_alpha=4" in done.err
    assert done.err.count("\n") == 1
    done = roll(*common, "model.checkpoint=null")
    assert done.status == 2
    assert "goes over a checkpoint" in done.err


@pytest.mark.slow
def test_the_tiny_decoder_makes_a_labelled_run_of_its_own(roll: Command, root: Path, tmp_path: Path) -> None:
    """A published-size file in the author's layout, found by hand, decodes to mp4; the VAE's run is another one."""
    common = ("model.random_weights=true", "label=mine", "prompts=['a red dog runs']")
    tiny = (
        *common,
        "model.decoder=taehv",
        f"model.taehv={write_taehv(TAEHV.local(root))}",
        "model.taehv_dtype=float16",
    )
    for overrides in (common, tiny):
        done = roll(*overrides)
        assert done.status == 0, done.err
    runs = read_runs(find_runs([str(tmp_path / "runs" / "*")]))
    assert {run.label for run in runs} == {"mine", "mine (tiny decoder)"}
    [run] = [run for run in runs if run.mark]
    assert run.spec["model"]["decoder"] == "taehv"
    known = run.record["identity"]["model"]
    assert (len(known["taehv"]["sha256"]), known["taehv"]["dtype"]) == (64, "float16")
    [sample] = run.samples
    assert (sample["frames"], sample["latent_frames"], sample["width"], sample["height"]) == (21, 6, 48, 32)
    assert len({r["sha256"] for r in samples(tmp_path)}) == 2
    before = (run.path / "samples" / str(sample["video"])).stat().st_mtime_ns
    assert roll(*tiny).status == 0
    assert (run.path / "samples" / str(sample["video"])).stat().st_mtime_ns == before


def test_a_missing_tiny_decoder_is_one_line(roll: Command, root: Path) -> None:
    done = roll("model.decoder=taehv")
    assert done.status == 2
    [line] = done.err.strip().splitlines()
    assert f"tiny decoder {TAEHV.local(root)}" in line
    assert "python -m experiments.weights self_forcing taehv" in line


def test_missing_weights_are_one_line(roll: Command, root: Path) -> None:
    done = roll()
    assert done.status == 2
    [line] = done.err.strip().splitlines()
    assert line.startswith(f"error: model wan2.1-1.3b lacks checkpoint {root}")
    assert "python -m experiments.weights self_forcing" in line


def test_the_generator_decides_which_weights(command: Command, root: Path) -> None:
    done = command("rollout", *SMALL, PROMPTS, "generator=causal_forcing_2step", "seconds=1", "device=cpu")
    assert done.status == 2
    assert "framewise-2step.pt" in done.err


def test_nothing_is_fetched_behind_the_users_back(
    roll: Command, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every way out raises; a rollout through text encoder and VAE does not notice."""
    import socket

    def refuse(*a: object, **k: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    hub = sys.modules.get("huggingface_hub")
    if hub is not None:
        for name in ("hf_hub_download", "snapshot_download"):
            monkeypatch.setattr(hub, name, refuse)
    done = roll(
        f"model.text_encoder={write_umt5(root / 't5.pth')}",
        f"model.tokenizer={write_tokenizer(root / 'tokenizer')}",
        "model.random_weights=true",
    )
    assert done.status == 0, done.err


GENERATORS = sorted(path.stem for path in (Path(__file__).parents[2] / "conf" / "generator").glob("*.yaml"))


KIN = ("causal_forcing_1step", "causal_forcing_2step", "longlive_infinity")  # of a rule and cache that another has too


@pytest.mark.parametrize("generator", [pytest.param(g, marks=pytest.mark.slow if g in KIN else ()) for g in GENERATORS])
def test_every_generator_makes_a_video(command: Command, root: Path, tmp_path: Path, generator: str) -> None:
    """Random weights, random VAE: a whole rollout of each rule through streaming decode to an mp4 of the right length."""
    done = command(
        "rollout", *SMALL, "prompts=['a red dog runs']", "device=cpu", f"runs_root={tmp_path / 'runs'}",
        f"generator={generator}", "seconds=6", "model.random_weights=true",
    )  # fmt: skip
    assert done.status == 0, done.err
    [record] = samples(tmp_path)
    assert record["frames"] == 4 * (int(str(record["latent_frames"])) - 1) + 1
    assert abs(float(str(record["seconds"])) - 6) <= 0.75


@pytest.mark.parametrize(
    ("name", "generator", "given"), [("clip.mp4", "self_forcing", 9), ("image.png", "causal_forcing_2step", 1)]
)
def test_start_from_a_clip_or_an_image(roll: Command, tmp_path: Path, name: str, generator: str, given: int) -> None:
    """The video shows the file as the VAE encodes and decodes it, whatever the prompt, and then goes on by the prompt."""
    frames = (24 * np.indices((given, 32, 48)).sum(0) % 256)[..., None].astype(np.uint8).repeat(3, 3)
    path = tmp_path / name
    if given == 1:
        cv2.imwrite(str(path), frames[0])
    else:
        with VideoWriter(path, 48, 32, 16) as file:
            file.write(frames)
        frames = read_video(path)[0]
    done = roll("model.random_weights=true", f"start_from={path}", f"generator={generator}")
    assert done.status == 0, done.err
    vae = random_vae(4)
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2)[None] / 255
    with VideoWriter(tmp_path / "wanted.mp4", 48, 32, 16) as file:
        file.write(vae.decoder()(vae.encode(pixels))[0])
    wanted = read_video(tmp_path / "wanted.mp4")[0].astype(int)
    videos = [read_video(p)[0].astype(int) for p in sorted(tmp_path.glob("runs/*/samples/*.mp4"))]
    assert [len(video) for video in videos] == [21, 21]
    noise = max(np.abs(video[:given] - wanted).mean() for video in videos)
    assert noise < 1  # H.264, of other neighbours
    assert np.abs(videos[0][given:] - videos[1][given:]).mean() > 2 * noise
    assert wanted.std() > 5  # there is something to be compared
    assert {record["start_from"]["frames"] for record in samples(tmp_path)} == {given}  # type: ignore[index]


def test_a_clip_of_another_size_is_refused_before_weights_are_looked_for(roll: Command, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "image.png"), np.zeros((48, 32, 3), np.uint8))
    done = roll(f"start_from={tmp_path / 'image.png'}", "generator=causal_forcing_2step")
    assert done.status == 2
    assert "is 32 x 48 pixels (width x height), model wan2.1-1.3b takes 48 x 32: resize or crop it first" in done.err
