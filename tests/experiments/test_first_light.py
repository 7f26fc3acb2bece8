"""The first real rollout: every fault that it is to recognise is made to happen on the embedded world's own weights."""

from __future__ import annotations

import dataclasses
import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from commands import RED, Command, composed
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor

from deepforcing.generator import GeneratorSpec
from deepforcing.prompts import prompts_from_texts
from deepforcing.rollout.schedule import Schedule
from deepforcing.tiny.model import SHIPPED, TINY_CONFIG, TinyModel, TinySpec
from deepforcing.wan.lora import LoraSpec, layer_shapes
from deepforcing.wan.weights import load_wan
from experiments.cli import CONF
from experiments.health.causes import EMA, LORA, SHIFT, VAE
from experiments.health.checks import joints, of_video
from experiments.health.light import Light, first_light
from experiments.health.observed import Numbers, smoothness
from experiments.health.resume import resume
from experiments.request import build_spec

RANGES = yaml.safe_load((CONF / "first_light.yaml").read_text())["ranges"]["tiny"]
RANK = 4


@dataclass(frozen=True)
class Files(TinySpec):
    """The embedded world with its transformer in files as the real ones are: averaged and raw weights, perhaps a LoRA."""

    folder: str = ""
    use_ema: bool | None = None
    lora: str | None = None
    vae: str | None = None

    @property
    def averaged(self) -> bool:
        return True if self.use_ema is None else self.use_ema

    @property
    def lora_spec(self) -> LoraSpec | None:
        path = Path(self.folder, "lora.pt")
        return LoraSpec(path, RANK, float(RANK)) if self.lora != "none" and path.exists() else None

    @property
    def vae_path(self) -> Path:
        return Path(self.folder, self.vae or "right.pth")

    def build(self, device: torch.device, dtype: torch.dtype) -> TinyModel:
        model = TinyModel.load(SHIPPED).eval().requires_grad_(False)
        model.wan = load_wan(
            Path(self.folder, "checkpoint.pt"), TINY_CONFIG, dtype, device, self.averaged, self.lora_spec
        )
        if self.vae is not None or Path(self.folder, "spoiled").exists():
            # Another autoencoder's channels: as many, and other ones.
            decode, order = model.codec.decode, torch.randperm(48, generator=torch.Generator().manual_seed(1))
            model.codec.decode = lambda latents, first: decode(latents[:, :, order] * 2, first=first)  # type: ignore[method-assign]
        return model


def shipped() -> dict[str, Tensor]:
    return {name.removeprefix("wan."): t for name, t in load_file(SHIPPED).items() if name.startswith("wan.")}


def early(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """As weights far from the average are."""
    g = torch.Generator().manual_seed(0)
    return {n: t + 0.6 * t.std() * torch.randn(t.shape, generator=g) if t.ndim > 1 else t for n, t in tensors.items()}


def write(folder: Path, averaged: dict[str, Tensor], raw: dict[str, Tensor]) -> None:
    named = {"generator_ema": averaged, "generator": raw}
    torch.save({e: {f"model.{n}": t for n, t in of.items()} for e, of in named.items()}, folder / "checkpoint.pt")


def with_lora(folder: Path) -> None:
    """The weights as a base and what a LoRA adds to it."""
    g = torch.Generator().manual_seed(0)
    tensors, base = {}, shipped()
    for layer, (wide, inner) in layer_shapes(TINY_CONFIG).items():
        weight = base[f"{layer}.weight"]
        a, b = torch.randn(RANK, inner, generator=g), torch.randn(wide, RANK, generator=g)
        b = b * (0.7 * weight.norm() / (b @ a).norm())
        base[f"{layer}.weight"] = weight - b @ a
        for part, tensor in (("A", a), ("B", b)):
            tensors[f"base_model.model.{layer}.lora_{part}.weight"] = tensor
    write(folder, base, base)
    torch.save({"generator_lora": tensors}, folder / "lora.pt")


def spec_of(model: TinySpec, cache: str = "self_forcing", **changes: Any) -> GeneratorSpec:
    return dataclasses.replace(build_spec(composed("rollout", f"cache={cache}")), model=model, **changes)


def light_of(tmp_path: Path, spec: GeneratorSpec, words: tuple[str, ...] | None = None) -> Light:
    ranges = {name: (float(of[0]), float(of[1])) for name, of in RANGES.items() if name != "source"}
    (prompt,) = prompts_from_texts([RED])
    out = tmp_path / "report.json"
    return Light({"self_forcing": spec}, Schedule(), prompt, 6, torch.device("cpu"), ranges, "here", words, out)


@pytest.fixture
def shine(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Two chunks under the checks; the report."""

    def call(spec: GeneratorSpec) -> dict[str, Any]:
        held = first_light(light_of(tmp_path, spec), Console(file=io.StringIO()))
        report = json.loads((tmp_path / "report.json").read_text())
        assert report["held"] == held
        return dict(report)

    return call


Shine = Callable[[GeneratorSpec], dict[str, Any]]


def failures(report: dict[str, Any]) -> set[str]:
    return {check["name"] for of in report["checks"].values() for check in of if check["passed"] is False}


def test_good_weights_hold_and_the_report_tells_nothing_private(
    shine: Shine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "very-secret-key")
    write(tmp_path, shipped(), early(shipped()))
    report = shine(spec_of(Files(folder=str(tmp_path))))
    assert report["held"], report
    assert report["likeliest_cause"] is None
    text = (tmp_path / "report.json").read_text() + (tmp_path / "report.md").read_text()
    for secret in ("very-secret-key", str(tmp_path), str(Path.home()) + "/"):
        assert secret not in text


def test_raw_weights_where_the_averaged_are_meant(shine: Shine, tmp_path: Path) -> None:
    write(tmp_path, shipped(), early(shipped()))
    report = shine(spec_of(Files(folder=str(tmp_path), use_ema=False)))
    assert report["likeliest_cause"].startswith(
        f"{EMA}: model.use_ema=false, published with model.use_ema=null; put right"
    )
    assert {"settings", "pixels: smoothness"} <= failures(report)


def test_a_release_whose_other_weights_are_the_good_ones(shine: Shine, tmp_path: Path) -> None:
    """Everything is set as published, and what is published as averaged is not good."""
    write(tmp_path, early(shipped()), shipped())
    report = shine(spec_of(Files(folder=str(tmp_path))))
    assert report["likeliest_cause"].startswith(
        f"{EMA}: the averaged weights are used, the file has others too; put right"
    )
    assert "settings" not in failures(report)


def test_a_lora_left_out(shine: Shine, tmp_path: Path) -> None:
    with_lora(tmp_path)
    assert shine(spec_of(Files(folder=str(tmp_path))))["held"]
    report = shine(spec_of(Files(folder=str(tmp_path), lora="none")))
    assert report["likeliest_cause"].startswith(f"{LORA}: model.lora=none, published with model.lora=null; put right")
    assert "latents: deviation" in failures(report)


@pytest.mark.parametrize(
    "chosen", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["chosen", "the file is another"]
)
def test_another_autoencoder(chosen: bool, shine: Shine, tmp_path: Path) -> None:
    write(tmp_path, shipped(), shipped())
    if not chosen:
        (tmp_path / "spoiled").touch()
    report = shine(spec_of(Files(folder=str(tmp_path), vae="/somewhere/private/other.pth" if chosen else None)))
    assert report["likeliest_cause"].startswith(f"{VAE}: the latents are as they should be and the pixels are not")
    assert ("other.pth" in report["likeliest_cause"]) == chosen
    assert "private" not in json.dumps(report)


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule(shift=1.0),
        *(pytest.param(s, marks=pytest.mark.slow) for s in (Schedule(steps=(1000, 500)), Schedule(warp=False))),
    ],
    ids=str,
)
def test_another_timestep_shift_is_told_by_its_setting(schedule: Schedule, shine: Shine, tmp_path: Path) -> None:
    """The embedded world predicts x0 and shrugs it off: none of its numbers shows it."""
    write(tmp_path, shipped(), shipped())
    report = shine(spec_of(Files(folder=str(tmp_path)), schedule=schedule))
    assert report["likeliest_cause"].startswith(f"{SHIFT}: ")
    assert "settings" in failures(report)
    if schedule.shift == 1:
        assert "shift is 1.0, published 5.0" in report["likeliest_cause"]


@pytest.mark.slow
def test_weights_that_nothing_explains(shine: Shine, tmp_path: Path) -> None:
    write(tmp_path, early(early(shipped())), early(shipped()))
    report = shine(spec_of(Files(folder=str(tmp_path))))
    assert report["likeliest_cause"].startswith(f"none of the known causes (tried: {EMA})")
    nan = {name: t * math.nan if name.startswith("head") else t for name, t in shipped().items()}
    torch.save({"generator_ema": {f"model.{n}": t for n, t in nan.items()}}, tmp_path / "checkpoint.pt")
    report = shine(spec_of(Files(folder=str(tmp_path))))
    assert {"finite", "precision"} <= failures(report)
    assert json.loads((tmp_path / "report.json").read_text())["numbers"]["self_forcing"][0]["mean"] is None
    assert "could not be tried" in report["likeliest_cause"]


# ---- numbers and checks --------------------------------------------------------------------------------------------


def test_smoothness_of_known_pictures() -> None:
    noise = np.random.default_rng(0).normal(size=(2, 200, 200)).astype(np.float32)
    assert abs(smoothness(torch.from_numpy(noise))) < 0.02
    for _ in range(20):  # neighbours that correlate by .8 along both axes
        noise = np.random.default_rng(1).normal(size=(2, 200, 200)).astype(np.float32)
    for axis in (1, 2):
        moved = np.moveaxis(noise, axis, 0)
        for n in range(1, len(moved)):
            moved[n] = 0.8 * moved[n - 1] + 0.6 * moved[n]
    assert smoothness(torch.from_numpy(noise)) == pytest.approx(0.8, abs=0.03)
    assert math.isnan(smoothness(torch.ones(1, 8, 8)))


def numbers(start: int, inside: float, joint: float, **changes: Any) -> Numbers:
    return dataclasses.replace(Numbers(start, True, 0.0, 1.0, 0.1, 0.9, inside, joint), **changes)


def test_joints() -> None:
    still = [numbers(0, 0.0, math.nan), numbers(3, 0.0, 0.0), numbers(6, 0.0, 0.011)]
    assert joints(still, 3).passed
    jump = [numbers(0, 0.01, math.nan), numbers(3, 0.01, 0.012), numbers(6, 0.01, 0.05), numbers(9, 0.01, 0.01)]
    found = joints(jump, 3)
    assert not found.passed
    assert "5.00 times" in found.said
    assert "latent frame 6" in found.said
    assert joints([numbers(0, math.nan, math.nan), numbers(1, math.nan, 0.1)], 3).passed is None
    assert not joints([numbers(0, 0.01, math.nan), numbers(3, 0.01, math.nan)], 3).passed


@pytest.mark.parametrize(
    "change", [{"mean": 0.7}, {"deviation": 0.1}, {"contrast": 0.0}, {"smoothness": math.nan}, {"finite": False}]
)
def test_one_bad_chunk_fails_its_check_alone(change: dict[str, Any]) -> None:
    ranges = {
        "mean": (-0.5, 0.5),
        "deviation": (0.5, 2),
        "contrast": (0.05, 0.4),
        "smoothness": (0.5, 1),
        "joint": (0, 3),
    }
    rows = [numbers(0, 0.01, math.nan), numbers(3, 0.01, 0.01), numbers(6, 0.01, 0.01, **change)]
    failed = [check for check in of_video(rows, ranges) if not check.passed]
    assert len(failed) == 1
    assert next(iter(change)) in failed[0].name
    assert "latent frame 6" in failed[0].said


# ---- the command ---------------------------------------------------------------------------------------------------


def test_a_dry_run(command: Command, tmp_path: Path) -> None:
    out = tmp_path / "light.json"
    status, told, err = command("first_light", "model=tiny", "seconds=1", "resume=false", f"out={out}")
    assert (status, err) == (0, ""), told
    assert "everything held" in told
    report = json.loads(out.read_text())
    assert set(report["checks"]) == {"settings", "self_forcing", "deep_forcing"}
    status, told, _ = command(
        "first_light", "model=tiny", "seconds=1", "resume=false", f"out={out}", "generator.steps=[1000,500]"
    )
    assert status == 1
    assert f"likeliest cause: {SHIFT}: steps is (1000, 500), published (1000, 750, 500, 250)" in told


@pytest.mark.parametrize(
    ("words", "policies"),
    [
        ("generator=self_forcing", ["self_forcing", "deep_forcing"]),
        ("generator=deep_forcing", ["deep_forcing", "self_forcing"]),
        ("cache=sink", ["sink", "deep_forcing"]),
        ("generator=causvid", ["keep_all"]),  # it takes no other
        ("cache=sink beside=deep_sink", ["sink", "deep_sink"]),
    ],
)
def test_the_second_policy_is_another_that_can_run(
    words: str, policies: list[str], command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Light] = []
    monkeypatch.setattr("experiments.health.light.first_light", lambda light, console: seen.append(light) or True)
    assert command("first_light", "model=tiny", f"out={tmp_path / 'light.json'}", *words.split()).status == 0
    assert list(seen[0].specs) == policies
    assert f"cache={policies[-1]}" in (seen[0].words or ())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("", "lacks checkpoint"),
        ("model=tiny beside=deepsink", "did you mean deep_sink?"),
        ("model=tiny out=report.md", "must end in .json"),
        ("model=tiny device=cuda:99", "CUDA devices"),
        ("model=tiny prompt=dog", "names no shape"),
        ("model=tiny seconds=0", "seconds=0 must be"),
    ],
)
def test_wrong_words(words: str, says: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, err = command("first_light", *words.split())
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert says in err


@pytest.mark.slow
def test_a_killed_rollout_is_resumed_to_the_same_bytes(tmp_path: Path) -> None:
    words = ["model=tiny", "cache=deep_forcing", "seconds=20", f"prompts=['{RED}']", "threads=1"]
    found = resume(words, tmp_path)
    assert found.passed, found.said
    assert "killed while its video was written" in found.said
    assert not list(tmp_path.iterdir())
    wrong = resume(["model=tiny", "cache=deepsink"], tmp_path)
    assert not wrong.passed
    assert "did you mean deep_sink?" in wrong.said
