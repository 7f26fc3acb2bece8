"""Weights of VBench's image networks: absent, cut, of another network, archives that would run code."""

from __future__ import annotations

import os
import pickle
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import vbench_files as files
from vbench_files import DIMENSIONS

from eval.measure.metric import ClipInfo
from eval.networks import clip
from eval.networks.torchscript import read_torchscript

pytestmark = [  # what the vbench package and the archives that it needs warn of
    pytest.mark.filterwarnings(f"ignore:.*{text}")
    for text in ("pkg_resources", "torch.jit", "Converting a tensor", "Failed to load image")
]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield from files.image_cache(tmp_path_factory.mktemp("vbench"))


@pytest.mark.parametrize("name", DIMENSIONS)
def test_absent_weights_are_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("VBENCH_CACHE_DIR", "TORCH_HOME", "HOME"):
        monkeypatch.setenv(variable, str(tmp_path))
    with pytest.raises(ValueError, match=r"is not at <.*python -m experiments\.weights metrics") as told:
        DIMENSIONS[name].start(ClipInfo(8, 8.0, 64, 96), CPU)
    assert str(tmp_path) not in str(told.value)  # it stands in pages that people publish


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("background_consistency", "clip_model/ViT-B-32.pt"),
        ("aesthetic_quality", "clip_model/ViT-L-14.pt"),
        ("aesthetic_quality", "aesthetic_model/emb_reader/sa_0_4_vit_l_14_linear.pth"),
        ("imaging_quality", "pyiqa_model/musiq_spaq_ckpt-358bb6af.pth"),
        ("subject_consistency", "torch_home/hub/checkpoints/dino_vitbase16_pretrain.pth"),
    ],
)
@pytest.mark.parametrize("fault", ["text", "cut", "other", "code"])
def test_weights_that_do_not_fit_are_named(
    name: str, file: str, fault: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = tmp_path / file
    folder = tmp_path / file.split("/")[0]
    for variable, path in (("VBENCH_CACHE_DIR", tmp_path), ("TORCH_HOME", tmp_path / "torch_home")):
        monkeypatch.setenv(variable, str(path))
    if name == "subject_consistency":
        shutil.copytree(cache / "dino_model", tmp_path / "dino_model")
    elif folder.name != "clip_model":
        os.symlink(cache / "clip_model", tmp_path / "clip_model")
    bad.parent.mkdir(parents=True, exist_ok=True)
    contents: dict[str, Any] = {
        "text": b"<html>404</html>",
        "cut": (cache / "clip_model" / "ViT-B-32.pt").read_bytes()[:5000],
        "other": (cache / "aesthetic_model/emb_reader/sa_0_4_vit_l_14_linear.pth").read_bytes(),
        "code": pickle.dumps(Bomb(tmp_path / "boom")),
    }
    bad.write_bytes(contents[fault])
    if fault == "other" and "emb_reader" in file:
        torch.save(torch.nn.Linear(512, 1).state_dict(), bad)
    with pytest.raises(ValueError, match=str(bad)) as error:
        DIMENSIONS[name].start(ClipInfo(8, 8.0, 64, 96), CPU)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "boom").exists()


class Bomb:
    """Pickled, it makes a file when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_archives_are_read_without_running_them(cache: Path, tmp_path: Path) -> None:
    path = cache / "clip_model" / "ViT-B-32.pt"
    state = torch.jit.load(path, map_location="cpu").state_dict()
    assert len(state) > 40
    found = read_torchscript(path, "")
    assert {name: value.dtype for name, value in found.items()} == {name: v.dtype for name, v in state.items()}
    assert all(torch.equal(found[name], state[name]) for name in state)
    hostile = tmp_path / "hostile.pt"
    with zipfile.ZipFile(path) as good, zipfile.ZipFile(hostile, "w") as bad:
        for name in good.namelist():
            bomb = pickle.dumps(Bomb(tmp_path / "boom"))
            bad.writestr(name, bomb if name.endswith("/data.pkl") else good.read(name))
    with pytest.raises(ValueError, match="hold no tensor"):
        read_torchscript(hostile, "visual.")
    assert not (tmp_path / "boom").exists()


def test_a_traced_archive_gives_the_tower_that_clip_load_gives(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenAI's archives are traced modules, with more in them than parameters."""
    from clip import load
    from clip.model import build_model

    state = {k: v.clone() for k, v in torch.jit.load(cache / "clip_model" / "ViT-B-32.pt").state_dict().items()}
    network = build_model(state).float()
    for parameter in network.parameters():
        parameter.data.mul_(1.0003)  # no longer a number of half precision, to which the package rounds large weights
    images = torch.rand(2, 3, 224, 224)
    traced = torch.jit.trace(network, (images, torch.zeros(1, 77, dtype=torch.int64)))
    path = tmp_path / "ViT-B-32.pt"
    torch.jit.save(traced, path)
    theirs = load(str(path), device="cpu")[0].encode_image(images)
    assert torch.equal(clip.clip_tower(path, CPU)(images), theirs)
    elsewhere = clip.clip_tower(path, torch.device("meta"))  # as on a GPU, where the package computes in half precision
    assert elsewhere.get_parameter("conv1.weight").dtype == elsewhere.get_parameter("proj").dtype == torch.float16
    assert elsewhere.get_parameter("ln_pre.weight").dtype == torch.float32
