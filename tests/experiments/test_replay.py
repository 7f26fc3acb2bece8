"""The replay command: recorded fixtures pass, wrong ones fail, unusable ones are named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import hydra
import pytest
from safetensors.torch import load_file, save_file

from deepforcing.wan.transformer import Backend, CausalWan
from experiments.cli import CONF
from experiments.parity.published import policy_of
from experiments.parity.systems import SYSTEMS
from experiments.replay import main
from experiments.rollout import build_spec

GOLDEN = Path(__file__).parents[1] / "golden"
EVERY = sorted(d.parent for d in GOLDEN.glob("*/config.json"))
FIXTURES = [d for d in EVERY if "options" in json.loads((d / "config.json").read_text())]  # recorded rollouts


def records(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_there_are_fixtures() -> None:
    systems = {json.loads((d / "config.json").read_text())["options"]["repo"] for d in FIXTURES}
    assert {
        "sf",
        "causalf",
        "deepf",
        "longlive1",
        "rolling",
        "causvid",
        "rsink",
        "relax_forcing",
        "echo",
        "dummy",
        "fkv",
    } <= systems
    assert systems <= set(SYSTEMS)


@pytest.mark.parametrize("directory", FIXTURES, ids=lambda d: d.name)
def test_recorded_fixture_replays(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"golden={directory}"]) == 0
    *tensors, last = records(capsys)
    assert last["ok"] is True
    assert last["max_abs"] < 1e-5  # type: ignore[operator]  # far below the tolerance: nothing may creep up to it
    compared, recorded = {r["tensor"] for r in tensors}, set(load_file(directory / "outputs.safetensors"))
    if "latent_frames_compared" in tensors[0]:  # rounding makes it another run after those
        assert {"latents", "unit.k_dequantised", "unit.v_dequantised", "call0000.flow"} <= compared < recorded
        assert tensors[0]["latent_frames_compared"] >= 6  # type: ignore[operator]
    else:
        assert compared == recorded


COMPILED = ("deep_forcing_pc", "dummy_forcing", "longlive")  # compiling takes a minute for each


@pytest.mark.slow
@pytest.mark.parametrize(
    ("directory", "backend"),
    [
        *((d, "packed") for d in FIXTURES),
        *((d, "compiled") for d in FIXTURES if d.name.startswith(COMPILED) and shutil.which("g++")),
    ],
    ids=lambda x: getattr(x, "name", x),
)
def test_recorded_fixture_replays_by_every_backend(
    directory: Path, backend: Backend, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[str] = []
    plain = CausalWan.forward

    def forward(self: CausalWan, *given: Any) -> Any:
        used.append(self.backend)
        return plain(self, *given)

    monkeypatch.setattr(CausalWan, "forward", forward)
    assert main([f"golden={directory}", f"backend={backend}"]) == 0
    *_, last = records(capsys)
    assert last["max_abs"] < 1e-5  # type: ignore[operator]
    assert set(used) == {backend}


@pytest.mark.parametrize(
    ("fixture", "overrides"),
    [
        ("deep_sink_official_s10", ["cache=deep_sink_release", "cache.retention.sink_frames=10"]),
        (
            "deep_forcing_official_small",
            ["cache=deep_forcing_release", "cache.retention.sink_frames=4", "cache.retention.budget_frames=14",
             "cache.retention.recent_frames=7", "cache.retention.reuse_limit=2"],
        ),
    ],
)  # fmt: skip
def test_the_presets_of_the_release_are_what_was_recorded(fixture: str, overrides: list[str]) -> None:
    options = json.loads((GOLDEN / fixture / "config.json").read_text())["options"]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        cache = build_spec(hydra.compose("rollout", overrides)).cache
    recorded = policy_of(options)
    assert (cache.retention, cache.alignment) == (recorded.retention, recorded.alignment)


def test_what_the_release_runs_by_default() -> None:
    """Its two scripts: sink only with S = 14; compression with S = 10, N = 16, R = 4, a token at most 7 times."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        sink, both = (
            build_spec(hydra.compose("rollout", [f"cache={name}"])).cache
            for name in ("deep_sink_release", "deep_forcing_release")
        )
    wanted = policy_of({"repo": "deepf", "local": 21, "sink": 14, "pc": False})
    assert (sink.retention, sink.alignment) == (wanted.retention, wanted.alignment)
    wanted = policy_of({"repo": "deepf", "local": 21, "sink": 10, "pc": True})
    assert (both.retention, both.alignment) == (wanted.retention, wanted.alignment)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"sink": 19, "pc": False, "cap": 21}, "sink_frames=19 and the current chunk of 3 do not fit"),
        ({"sink": 21, "pc": False, "cap": 21}, "sink_frames=21 must be below window_frames=21"),
        ({"cap": 24}, "budget_frames=24 must not exceed window_frames=21"),
        ({"sink": 18}, "budget_frames=22 must not exceed window_frames=21"),
    ],
)
def test_settings_that_break_the_release_are_refused(
    options: dict[str, object], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It runs S = 19 to 21 and overwrites its sink, shifts backwards for N above 21, and raises for S + R above 21."""
    directory = copied(GOLDEN / "deep_forcing_official_small", tmp_path)
    config = json.loads((directory / "config.json").read_text())
    config["options"] |= {"R": 4, "cap": 16, **options}
    (directory / "config.json").write_text(json.dumps(config))
    assert main([f"golden={directory}"]) == 2
    (record,) = records(capsys)
    assert why in str(record["error"])


def copied(directory: Path, to: Path) -> Path:
    shutil.copytree(directory, to / "copy" / directory.name)
    shutil.copytree(GOLDEN / "weights_A", to / "copy" / "weights_A")
    return to / "copy" / directory.name


@pytest.mark.parametrize("name", ["latents", "call0000.flow", "pc.layer1.frame0021.topc_selected"])
def test_wrong_tensor_is_a_miss(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = copied(GOLDEN / "deep_forcing_pc", tmp_path)
    outputs = load_file(directory / "outputs.safetensors")
    outputs[name].view(-1)[7] += 1e-2 if outputs[name].is_floating_point() else 1
    save_file(outputs, directory / "outputs.safetensors")
    assert main([f"golden={GOLDEN / 'deep_forcing_pc'}", f"golden={directory}"]) == 1
    bad = [r for r in records(capsys) if not r["ok"]]
    assert [r.get("tensor", r["fixture"]) for r in bad] == [name, directory.name]


def test_directory_without_config_is_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = GOLDEN / "self_forcing_framewise"
    assert main([f"golden={tmp_path}", f"golden={good}"]) == 2
    out, err = capsys.readouterr()
    assert len(err.splitlines()) == 1
    assert "config.json" in err
    assert json.loads(out.splitlines()[-1])["ok"] is True  # the others are still replayed


@pytest.mark.parametrize("arguments", [[], ["gold=x"], ["golden="]])
def test_bad_arguments_are_status_2(arguments: list[str]) -> None:
    assert main(arguments) == 2


def test_truncated_fixture_is_one_line_and_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = copied(GOLDEN / "self_forcing_framewise", tmp_path)
    data = (directory / "inputs.safetensors").read_bytes()
    (directory / "inputs.safetensors").write_bytes(data[: len(data) // 2])
    assert main([f"golden={directory}"]) == 2
    (record,) = records(capsys)
    assert record["ok"] is False


# ---- checkpoint containers and the VAE ------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "lines"), [("checkpoints_micro", 12), ("wan_vae_micro", 7)])
def test_component_fixture_replays(name: str, lines: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"golden={GOLDEN / name}"]) == 0
    *tensors, last = records(capsys)
    assert last["ok"] is True
    assert last["max_abs"] < 1e-5  # type: ignore[operator]
    assert len(tensors) == lines


@pytest.mark.parametrize(
    ("name", "file", "tensor"),
    [
        ("checkpoints_micro", "expected_generator_ema.safetensors", "model.blocks.1.ffn.2.weight"),
        ("checkpoints_micro", "expected_lora_merged_generator.safetensors", "model.blocks.0.self_attn.v.weight"),
        ("checkpoints_micro", "longlive_lora_outputs.safetensors", "latents_with_lora"),
        ("checkpoints_micro", "diffusion_pytorch_model.safetensors", "head.head.bias"),
        ("wan_vae_micro", "outputs.safetensors", "decode_whole"),
        ("wan_vae_micro", "weights.safetensors", "decoder.conv1.weight"),
    ],
)
def test_one_wrong_value_in_a_component_fixture_is_a_miss(
    name: str, file: str, tensor: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "anything"
    shutil.copytree(GOLDEN / name, directory)
    tensors = load_file(directory / file)
    tensors[tensor].view(-1)[3] += 1e-2
    save_file(tensors, directory / file)
    assert main([f"golden={directory}"]) == 1
    assert not all(r["ok"] for r in records(capsys)[:-1])


# ---- what is no fixture ---------------------------------------------------------------------------------------------


def test_a_tolerance_alone_replays_nothing_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tolerance=1e-4"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "nothing to replay: give golden=DIR" in err


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("config.json", "[1, 2]", "holds a list and not an object"),
        ("config.json", "3", "holds a int and not an object"),
        ("config.json", "{", "is not JSON"),
        ("config.json", "\udcff", "is not JSON"),
        ("config.json", "[" * 100_000, "is not JSON"),
        ("config.json", "{}", "lacks the field options"),
        ("config.json", '{"options": []}', "do not fit together"),
        ("config.json", '{"options": {"repo": "sf"}}', "lacks the field"),
        ("config.json", '{"options": {"repo": "nosuch"}}', "'nosuch' is not one that this engine replays"),
        ("inputs.safetensors", "", "inputs.safetensors cannot be read"),
        ("outputs.safetensors", "<html>", "outputs.safetensors cannot be read"),
        ("outputs.safetensors", None, "outputs.safetensors is not there"),
    ],
)
def test_a_damaged_fixture_is_one_record_that_names_the_file(
    file: str, content: str | None, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = copied(GOLDEN / "self_forcing_framewise", tmp_path)
    if content is None:
        (directory / file).unlink()
    else:
        (directory / file).write_bytes(content.encode("utf-8", "surrogateescape"))
    assert main([f"golden={directory}"]) == 2
    out, err = capsys.readouterr()
    assert err == ""
    (record,) = (json.loads(line) for line in out.splitlines())
    assert (record["ok"], record["fixture"]) == (False, directory.name)
    assert says in record["error"]
    assert file in record["error"] or "nosuch" in says


@pytest.mark.slow
def test_every_field_of_a_config_may_be_missing_or_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line each, never a traceback; a field that is not needed leaves the replay as it was."""
    directory = copied(GOLDEN / "self_forcing_framewise", tmp_path)
    config = json.loads((directory / "config.json").read_text())
    for key in config:
        for wrong in ({k: v for k, v in config.items() if k != key}, {**config, key: None}, {**config, key: [["x"]]}):
            (directory / "config.json").write_text(json.dumps(wrong))
            status = main([f"golden={directory}"])
            out, err = capsys.readouterr()
            assert err == ""
            last = json.loads(out.splitlines()[-1])
            assert (status, last["ok"]) in ((0, True), (1, False), (2, False))
            if status == 2:
                assert "\n" not in last["error"]
                assert str(directory) in last["error"]


def test_a_fixture_without_any_tensor_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = copied(GOLDEN / "self_forcing_framewise", tmp_path)
    save_file({}, directory / "outputs.safetensors")
    assert main([f"golden={directory}"]) == 2
    assert "holds nothing to compare" in records(capsys)[-1]["error"]  # type: ignore[operator]
