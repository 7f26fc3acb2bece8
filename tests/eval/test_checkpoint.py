"""Checkpoints of the metrics' networks: what they hold is read, and nothing in them is run."""

from __future__ import annotations

import ast
import gzip
import os
import pickle
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from deepforcing.pickles import Foreign
from deepforcing.torch_files import read_torch_file
from eval.metrics.vbench import aesthetic_quality
from eval.networks import amt, clip, dino, dinov2, dreamsim, musiq, raft, viclip
from eval.networks.checkpoint import data_only, read_state
from eval.networks.torchscript import MOST_MODULES, read_torchscript
from eval.networks.weights import clip_package


class Runs:
    """An object whose pickle runs a command."""

    def __init__(self, function: Callable[[str], object], argument: str) -> None:
        self.function, self.argument = function, argument

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return self.function, (self.argument,)


def test_a_checkpoint_runs_nothing(tmp_path: Path) -> None:
    path, sign = tmp_path / "evil.pth", tmp_path / "ran"
    state = {"weight": torch.arange(6.0).view(2, 3)}
    evil = [Runs(os.system, f"touch {sign}"), Runs(exec, f"open({str(sign)!r}, 'w')"), Runs(eval, "1/0")]
    torch.save({"state_dict": state, "evil": evil, "as a key": {Runs(os.system, f"touch {sign}"): 1}}, path)
    torch.testing.assert_close(read_state(path, "state_dict"), state)
    assert not sign.exists()
    with pytest.raises(ZeroDivisionError):  # such a file does run where it is simply loaded
        torch.load(path, weights_only=False)
    assert sign.exists()


def test_foreign_objects_of_every_kind_are_passed_over(tmp_path: Path) -> None:
    from collections import Counter, OrderedDict, defaultdict, deque

    from easydict import EasyDict
    from omegaconf import OmegaConf

    path = tmp_path / "c.pth"
    state = OrderedDict(weight=torch.nn.Parameter(torch.ones(2)), half=torch.ones(3, dtype=torch.float16))
    others = [EasyDict(a={"b": [1]}), OmegaConf.create({"a": [1, 2]}), np.float64(3.5), np.arange(4), deque([1, 2])]
    others += [Counter("aab"), defaultdict(list, a=[1]), Path("x"), {1, 2}, torch.device("cpu"), torch.float32]
    optimiser = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))]).state_dict()
    torch.save({"state_dict": state, "others": others, "optim": optimiser, Path("key"): 1}, path)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    found = read_state(path, "state_dict")
    assert [(name, tensor.dtype) for name, tensor in found.items()] == [
        ("weight", torch.float32),
        ("half", torch.float16),
    ]
    torch.testing.assert_close(found["weight"], torch.ones(2))
    torch.save(EasyDict(state_dict=EasyDict(weight=torch.ones(2))), path)
    torch.testing.assert_close(read_state(path, "state_dict"), {"weight": torch.ones(2)})
    assert isinstance(read_torch_file(path, foreign=True), Foreign)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_old_format_and_files_that_are_no_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "c.pth"
    torch.save({"module.a": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    torch.testing.assert_close(read_state(path), {"module.a": torch.ones(2)})
    torch.save({"other": 1}, path)
    with pytest.raises(ValueError, match="not the checkpoint that is expected"):
        read_state(path, "model")
    with pytest.raises(ValueError, match=r"holds no tensors$"):
        read_state(path)
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), path)
    with pytest.raises(ValueError, match="TorchScript"):
        read_state(path)
    path.write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(ValueError, match="truncated or not"):
        read_state(path)


SCRIPT = """
import torch

class Module(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))

    @torch.jit.export
    def __getstate__(self):
        return self.weight

    @torch.jit.export
    def __setstate__(self, state: torch.Tensor):
        torch.save(state, {sign!r})

    def forward(self, x):
        return x
"""


def torchscript_attack(directory: Path, sign: Path, disguised: bool) -> Path:
    """A checkpoint that torch.load takes for a TorchScript program, which then writes a file of its choosing.

    disguised: no entry has the name by which Python tells such archives: torch's reader cuts names at 511 bytes when it lists
    them, and ignores case when it looks one up.
    """
    (directory / "module.py").write_text(SCRIPT.format(sign=str(sign)))
    source = types.ModuleType("module_of_an_attack")
    source.__file__ = str(directory / "module.py")
    sys.modules[source.__name__] = source
    exec(compile((directory / "module.py").read_text(), source.__file__, "exec"), source.__dict__)
    plain, path = directory / "plain.pth", directory / "attack.pth"
    torch.jit.save(torch.jit.script(source.Module()), plain)
    with zipfile.ZipFile(plain) as archive:
        entries = {name.split("/", 1)[1]: archive.read(name) for name in archive.namelist()}
    if not disguised:
        return plain
    top = "a" * (511 - len("/constants.pkl"))
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(f"{top}/{name.replace('constants.pkl', 'CONSTANTS.PKL')}", content)
        archive.writestr(f"{top}/constants.pkl+", b"")
    return path


@pytest.fixture(params=[True, False], ids=["disguised", "plain"])
def attack(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """Such a checkpoint, and the file that its program writes."""
    sign = tmp_path / "ran"
    path = torchscript_attack(tmp_path, sign, request.param)
    with pytest.raises(
        RuntimeError, match="uninitialized after '__setstate__'"
    ):  # it does run where it is simply loaded
        torch.load(path, weights_only=False)
    assert sign.exists()
    sign.unlink()
    return path, sign


CPU = torch.device("cpu")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_no_network_runs_a_torchscript_program(
    attack: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, sign = attack
    (tmp_path / "hubconf.py").write_text("def dino_vitb16(pretrained): import torch; return torch.nn.Linear(2, 2)\n")
    package = types.ModuleType("dreamsim")
    package.dreamsim = lambda pretrained, cache_dir, device: torch.load(path, map_location="cpu")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "dreamsim", package)
    loads: list[Callable[[], object]] = [
        lambda: musiq.musiq(path, CPU),
        lambda: raft.load(path, CPU),
        lambda: amt.load(path, CPU),
        lambda: dino.dino(tmp_path, path, CPU),
        lambda: dinov2.dinov2(tmp_path, path, CPU),
        lambda: viclip.load(path, VOCABULARY, CPU),
        lambda: clip.clip_tower(path, CPU),
        lambda: aesthetic_quality.aesthetic_head(path, CPU),
        lambda: dreamsim.dreamsim_model(tmp_path, CPU),
    ]
    for load in loads:
        with pytest.raises(ValueError) as caught:
            load()
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500
    assert not sign.exists()


def test_somebody_elses_loading_makes_tensors_alone(tmp_path: Path) -> None:
    path, sign = tmp_path / "c.pth", tmp_path / "ran"
    torch.save({"state_dict": {"a": torch.ones(2)}, "other": Runs(os.system, f"touch {sign}")}, path)
    own = torch.load, torch.jit.load
    with data_only():
        for file in (path, str(path), open(path, "rb")):  # noqa: SIM115
            found = torch.load(file, map_location="cuda", weights_only=False)
            assert torch.equal(found["state_dict"]["a"], torch.ones(2))
        with pytest.raises(ValueError, match="TorchScript program, which is never run"):
            torch.jit.load(path)
        path.write_bytes(b"PK\x03\x04 not really")
        with pytest.raises(ValueError, match=r"c\.pth is not a checkpoint that can be read here"):
            torch.load(path)
    assert (torch.load, torch.jit.load) == own
    assert not sign.exists()


def test_nobody_calls_what_runs_code_from_a_file() -> None:
    """In all the project's packages: torch.load, torch.jit.load, pickle, marshal and their kin."""
    root = Path(__file__).parents[2]
    running = {
        ("torch", "load"), ("jit", "load"), ("pickle", "load"), ("pickle", "loads"), ("pickle", "Unpickler"),
        ("marshal", "loads"), ("shelve", "open"), ("joblib", "load"), ("pandas", "read_pickle"), ("pd", "read_pickle"),
        ("yaml", "load"), ("yaml", "unsafe_load"), ("hub", "load_state_dict_from_url"),
    }  # fmt: skip
    found = []
    for file in [
        f for package in ("deepforcing", "eval", "experiments", "baselines") for f in (root / package).rglob("*.py")
    ]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Store):
                of = getattr(node.value, "attr", getattr(node.value, "id", ""))
                found += [f"{file.name}: {of}.{node.attr}"] if (of, node.attr) in running else []
            if isinstance(node, ast.keyword) and node.arg in ("trust_remote_code", "allow_pickle"):
                found.append(f"{file.name}: {node.arg}")
    assert not found


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_tree_of_modules_that_holds_itself_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One module named in two places of the next, and so on: 2^40 of them by name."""
    module: Foreign = Foreign()
    for _ in range(40):
        outer = Foreign()
        outer.state = {"a": module, "b": module}
        module = outer
    monkeypatch.setattr("eval.networks.torchscript.read_torch_file", lambda *_, **__: module)
    (tmp_path / "x.pt").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"its tree of modules has no end"):
        read_torchscript(tmp_path / "x.pt", "")
    assert MOST_MODULES > 10_000


VOCABULARY = clip_package() / "bpe_simple_vocab_16e6.txt.gz"


@pytest.mark.parametrize("load", [raft.load, lambda path, device: viclip.load(path, VOCABULARY, device)])
def test_weights_of_another_network_are_one_line(load: Callable[[Path, torch.device], object], tmp_path: Path) -> None:
    path = tmp_path / "c.pth"
    torch.save({"model": {"a": torch.ones(2)}, "b": torch.ones(2)}, path)
    with pytest.raises(ValueError, match=r"c\.pth holds other tensors than (RAFT-things|ViCLIP)$"):
        load(path, torch.device("cpu"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "are a web page or"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "are a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 5\n", "are a pointer of git-lfs"),
    ],
)
def test_what_a_failed_download_leaves_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    for read in (read_state, lambda p: read_torchscript(p, "")):
        with pytest.raises(ValueError, match=reason):
            read(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(ValueError, match="cannot be read: Is a directory"):
        read_state(path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b[:1000],
        lambda b: b[:500] + bytes(100) + b[600:],
        lambda _: b"<html>",
        lambda _: gzip.compress(bytes(100 << 20), 1),
    ],
)
def test_a_damaged_vocabulary_is_named(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "words.txt.gz"
    path.write_bytes(damage(VOCABULARY.read_bytes()))
    with pytest.raises(
        ValueError, match=r"vocabulary, \S*words.txt.gz, is damaged or something else; download it again$"
    ):
        viclip.load(tmp_path / "none.pth", path, torch.device("cpu"))
