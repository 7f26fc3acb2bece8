"""experiments.weights: lists, verifies, converts; downloads only when asked, resumes, pins, and says what to copy."""

from __future__ import annotations

import dataclasses
import io
import json
import sys
import urllib.request
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from wan_files import CONFIG, write_generator, write_taehv

from deepforcing.wan.catalogue import RELEASES, TAEHV
from deepforcing.wan.model import WanSpec
from deepforcing.wan.weights import sha256
from experiments.weights import files_of, main


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    monkeypatch.setenv("DEEPFORCING_WEIGHTS", str(tmp_path))

    def run(*arguments: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["weights", *arguments])
        status: object = 0
        try:
            main()
        except SystemExit as stop:
            status = stop.code
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """A hub of small files; every call is noted."""
    import huggingface_hub

    calls: list[tuple[str, str, str]] = []

    def fetch(repo: str, path: str, revision: str, local_dir: Path) -> str:
        calls.append((repo, path, revision))
        target = Path(local_dir) / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(f"{repo}/{path}".encode())
        return str(target)

    class Api:
        def model_info(self, repo: str):  # type: ignore[no-untyped-def]
            return type("Info", (), {"sha": f"head-of-{repo}"})

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    return calls


def test_the_list_names_every_release_and_downloads_nothing(call, hub) -> None:  # type: ignore[no-untyped-def]
    status, out, _ = call()
    assert status == 0
    for name, release in RELEASES.items():
        assert f"{name}:" in out
        assert release.checkpoint.path in out
    for part in (
        "taehv:",
        "safetensors/taew2_1.safetensors",
        "0.02 GB, MIT, sha256 04766eac0221",
        "moviegen_128:",
        "Wan2.1_VAE.pth",
        "11.40 GB",
        "Apache-2.0",
        "sha256 not known yet",
        "50293c2717c8",
    ):
        assert part in out
    assert hub == []


def test_without_a_network_it_says_what_to_copy_where(call, hub, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    status, out, _ = call("longlive")
    assert status == 1
    for file in files_of("longlive"):
        assert f"https://huggingface.co/{file.repo}/resolve/main/{file.path}\n    to {file.local(tmp_path)}" in out
    assert "experiments.weights longlive download=true" in out
    assert hub == []


def test_download_fetches_what_is_missing_once_at_a_pinned_revision(call, hub, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    there = RELEASES["longlive"].checkpoint.local(tmp_path)
    there.parent.mkdir(parents=True)
    there.write_bytes(b"mine")
    status, _, err = call("longlive", "download=true")
    assert (status, err) == (0, "")
    assert there.read_bytes() == b"mine"
    assert [c[1] for c in hub] == [f.path for f in files_of("longlive")][1:]
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    entry = manifest["Wan2.1-T2V-1.3B/Wan2.1_VAE.pth"]
    assert entry["revision"] == "head-of-Wan-AI/Wan2.1-T2V-1.3B"
    assert entry["sha256"] == sha256(tmp_path / "Wan2.1-T2V-1.3B/Wan2.1_VAE.pth")
    hub.clear()
    assert call("longlive", "download=true")[0] == 0
    assert hub == []
    (tmp_path / "Wan2.1-T2V-1.3B/Wan2.1_VAE.pth").unlink()
    entry["revision"] = "pinned"
    (tmp_path / "manifest.json").write_text(json.dumps({"Wan2.1-T2V-1.3B/Wan2.1_VAE.pth": entry}))
    assert call("longlive", "download=true")[0] == 0
    assert [c[2] for c in hub] == ["pinned"]


def test_a_file_that_differs_from_its_record(call, hub, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert call("causvid", "download=true", "revision=abc")[0] == 0
    assert hub[0][2] == "abc"
    assert call("causvid", "verify=true")[0] == 0
    path = RELEASES["causvid"].checkpoint.local(tmp_path)
    path.write_bytes(b"something else")
    status, _, err = call("causvid", "verify=true")
    assert status == 2
    assert "has changed: its sha256 begins" in err
    assert len(err.splitlines()) == 1


def test_offline_is_respected(call, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    import huggingface_hub
    from huggingface_hub.errors import OfflineModeIsEnabled

    class Api:
        def model_info(self, repo: str) -> None:
            raise OfflineModeIsEnabled("offline")  # what the hub's client does under HF_HUB_OFFLINE=1

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    status, _, err = call("causvid", "download=true")
    assert status == 2
    assert "HF_HUB_OFFLINE is set, so nothing is downloaded; copy https://huggingface.co/tianweiy/CausVid" in err


def test_no_network_is_one_line(call, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    import huggingface_hub

    def fail(*a: object, **k: object) -> None:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", fail)
    status, _, err = call("causvid", "download=true")
    assert status == 2
    assert (
        "cannot be downloaded (no connection to huggingface.co); copy https://huggingface.co/tianweiy/CausVid/resolve/main/"
        in err
    )
    assert len(err.splitlines()) == 1


def test_convert_once_and_use_it(call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = write_generator(RELEASES["self_forcing"].checkpoint.local(tmp_path))
    spec = WanSpec(config=CONFIG, vae="none", text_encoder="none", random_weights=True, checkpoint="self_forcing")
    before = spec.transformer(torch.device("cpu"), torch.float32).state_dict()
    identity = spec.identity()
    status, out, err = call("self_forcing", "convert=true")
    assert (status, err) == (1, "")  # the other files are missing
    target = path.with_name("self_forcing_dmd.ema.safetensors")
    assert f"converted: {target}" in out
    assert spec.checkpoint_path == target
    after = spec.transformer(torch.device("cpu"), torch.float32).state_dict()
    assert all(torch.equal(before[n], after[n]) for n in before)
    assert spec.identity() == identity  # the same weights make the same run
    raw = WanSpec(config=CONFIG, checkpoint="self_forcing", use_ema=False)
    assert raw.checkpoint_path == path
    written = target.stat().st_mtime_ns
    assert call("self_forcing", "convert=true")[0] == 1
    assert target.stat().st_mtime_ns == written


def test_convert_what_is_not_there(call) -> None:  # type: ignore[no-untyped-def]
    status, _, err = call("causvid", "convert=true")
    assert status == 2
    assert "does not exist" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["longlve"], "'longlve' is unknown; there are wan2.1-1.3b, self_forcing"),
        (["download=yes"], "'download=yes' is not NAME, download=true"),
        (["download=true"], "say which: NAME download=true"),
        (["revision=abc"], "revision=REV goes with one NAME"),
        (["taehv", "revision=abc"], "revision=REV does not go with taehv"),
    ],
)
def test_wrong_arguments(arguments: list[str], words: str, call) -> None:  # type: ignore[no-untyped-def]
    status, _, err = call(*arguments)
    assert status == 2
    assert words in err
    assert len(err.splitlines()) == 1


class Answer(io.BytesIO):
    """A server's answer that does not say how long it is."""

    headers: ClassVar[dict[str, str]] = {}


def test_prompts_are_kept_only_when_they_are_the_published_ones(
    call,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,  # type: ignore[no-untyped-def]
) -> None:
    monkeypatch.setattr("urllib.request.urlopen", lambda request, timeout: Answer(b"a page that says not found\n"))
    status, _, err = call("moviegen_128", "download=true")
    assert status == 2
    assert "is not the published MovieGenVideoBench_extended.txt" in err
    assert not list((tmp_path / "prompts").iterdir())


def test_the_tiny_decoder_is_kept_only_when_it_is_the_pinned_file(
    call,
    hub,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,  # type: ignore[no-untyped-def]
) -> None:
    import hashlib

    asked = []

    def open_url(request: urllib.request.Request, timeout: float) -> Answer:
        asked.append(request.full_url)
        return Answer(b"some tensors")

    monkeypatch.setattr("urllib.request.urlopen", open_url)
    status, _, err = call("taehv", "download=true")
    assert status == 2
    assert "is not the expected file: its sha256 begins" in err
    assert ", not 04766eac0221" in err
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    good = dataclasses.replace(TAEHV, sha256=hashlib.sha256(b"some tensors").hexdigest())
    monkeypatch.setattr("experiments.downloads.models.TAEHV", good)
    assert call("taehv", "download=true", "convert=true")[0] == 0
    assert good.local(tmp_path).read_bytes() == b"some tensors"
    entry = json.loads((tmp_path / "manifest.json").read_text())["taehv/safetensors/taew2_1.safetensors"]
    assert (entry["revision"], entry["sha256"]) == (good.commit, good.sha256)
    assert call("taehv", "download=true", "verify=true")[0] == 0
    assert set(asked) == {f"https://raw.githubusercontent.com/madebyollin/taehv/{TAEHV.commit}/{TAEHV.path}"}
    assert len(asked) == 2
    assert hub == []


def test_a_mirrors_tiny_decoder_is_told_from_the_authors(call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    write_taehv(TAEHV.local(tmp_path))
    status, _, err = call("taehv", "verify=true")
    assert status == 2
    assert "recorded is 04766eac0221" in err


def test_help(call) -> None:  # type: ignore[no-untyped-def]
    status, out, _ = call("--help")
    assert status == 0
    assert "python -m experiments.weights longlive download=true" in out
