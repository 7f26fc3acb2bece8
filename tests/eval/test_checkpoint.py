"""Checkpoints of the metrics' networks: what they hold is read, and nothing in them is run."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from eval.networks import raft, viclip
from eval.networks.checkpoint import Foreign, read_state
from eval.networks.torchscript import read_torchscript
from eval.weights import clip_package


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
    assert isinstance(Foreign(1, a=2)(3), Foreign)


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


@pytest.mark.parametrize("damage", [lambda b: b[:1000], lambda b: b[:500] + bytes(100) + b[600:], lambda _: b"<html>"])
def test_a_damaged_vocabulary_is_named(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "words.txt.gz"
    path.write_bytes(damage(VOCABULARY.read_bytes()))
    with pytest.raises(
        ValueError, match=r"vocabulary, \S*words.txt.gz, is damaged or something else; download it again$"
    ):
        viclip.load(tmp_path / "none.pth", path, torch.device("cpu"))
