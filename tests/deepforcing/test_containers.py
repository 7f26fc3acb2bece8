"""Checkpoint containers: which tensors are taken, what is said of the wrong file, and how much memory loading takes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from deepforcing.wan.config import WanConfig
from deepforcing.wan.containers import open_checkpoint
from deepforcing.wan.recognise import looks_like
from deepforcing.wan.weights import load_wan, random_wan

CONFIG = WanConfig(
    dim=12, ffn_dim=16, freq_dim=8, in_dim=2, out_dim=2, num_heads=2, num_layers=2, text_dim=6, text_len=3
)
FSDP = "model._fsdp_wrapped_module."


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return random_wan(CONFIG, seed=4).state_dict()


def prefixed(state: dict[str, Tensor], prefix: str, plus: float = 0.0) -> dict[str, Tensor]:
    return {prefix + name: tensor + plus for name, tensor in state.items()}


def test_raw_or_averaged_is_a_choice(state: dict[str, Tensor], tmp_path: Path) -> None:
    content = {"generator": prefixed(state, "model."), "critic": {}, "generator_ema": prefixed(state, FSDP, 1)}
    torch.save(content, tmp_path / "w.pt")
    name = "blocks.0.ffn.0.bias"
    taken = {
        ema: float(
            (load_wan(tmp_path / "w.pt", CONFIG, torch.float32, use_ema=ema).state_dict()[name] - state[name])[0]
        )
        for ema in (True, False, None)
    }
    assert taken == {True: 1, False: 0, None: 1}


def test_averaged_weights_that_are_not_there(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({"generator": state, "critic": {}}, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"no averaged weights.*it holds generator, critic; use use_ema=false"):
        open_checkpoint(tmp_path / "w.pt", use_ema=True)
    torch.save({"generator_ema": state}, tmp_path / "ema.pt")
    with pytest.raises(ValueError, match="alone; use use_ema=true"):
        open_checkpoint(tmp_path / "ema.pt", use_ema=False)
    torch.save(state, tmp_path / "bare.pt")
    with pytest.raises(ValueError, match="it holds tensors directly"):
        open_checkpoint(tmp_path / "bare.pt", use_ema=True)


def test_the_same_tensor_under_two_wrappers_is_refused(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({**state, **prefixed(state, "_orig_mod.")}, tmp_path / "w.pt")
    with pytest.raises(ValueError, match="twice, under different wrappers"):
        open_checkpoint(tmp_path / "w.pt")


def shards(state: dict[str, Tensor], directory: Path) -> Path:
    names = sorted(state)
    places = {}
    for i, part in enumerate((names[::2], names[1::2])):
        file = f"diffusion_pytorch_model-0000{i + 1}-of-00002.safetensors"
        save_file({n: state[n].contiguous() for n in part}, directory / file)
        places |= dict.fromkeys(part, file)
    index = directory / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return index


def test_shards_and_directories(state: dict[str, Tensor], tmp_path: Path) -> None:
    index = shards(state, tmp_path)
    for path in (index, tmp_path):
        got = load_wan(path, CONFIG, torch.float32).state_dict()
        assert all(torch.equal(got[n], state[n]) for n in state)
    next(tmp_path.glob("*-00002-of-*")).unlink()
    with pytest.raises(ValueError, match=r"shard .*00002-of-00002.safetensors is missing"):
        open_checkpoint(index)


def test_a_shard_index_does_not_leave_its_directory(state: dict[str, Tensor], tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    save_file({n: t.contiguous() for n, t in state.items()}, tmp_path / "outside.safetensors")
    index = tmp_path / "in" / "w.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict.fromkeys(state, "../outside.safetensors")}))
    with pytest.raises(ValueError, match="not a file beside the index"):
        open_checkpoint(index)


def test_a_directory_without_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is a directory without"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda s: {"generator": prefixed(s, "model."), "critic": {}, "generator_ema": s}, "Self Forcing style"),
        (lambda s: {"generator_ema": prefixed(s, FSDP)}, "Rolling Forcing style"),
        (lambda s: {"generator": prefixed(s, "model."), "critic": {}}, "CausVid style"),
        (lambda s: {"generator": prefixed(s, "model.")}, "LongLive style base"),
        (lambda s: s, "official Wan file, not an autoregressive generator.*width 12 with 2 layers"),
        (lambda s: {**s, "img_emb.proj.0.weight": torch.zeros(1)}, "image-to-video"),
        (lambda s: {f"wan.{n}": t for n, t in s.items()}, "embedded world"),
        (lambda s: {"decoder.upsamples.0.shortcut.bias": torch.zeros(1)}, "a Wan VAE"),
        (lambda s: {"token_embedding.weight": torch.zeros(1)}, "UMT5"),
        (lambda s: {"encoder.block.0.layer.0.SelfAttention.q.weight": torch.zeros(1)}, "UMT5"),
        (lambda s: {"base_model.model.blocks.0.ffn.0.lora_A.weight": torch.zeros(1)}, "a LoRA"),
        (lambda s: {"generator_lora": {"x": torch.zeros(1)}, "step": 3}, "a LoRA"),
        (lambda s: {"condition_embedder.time_proj.bias": torch.zeros(1)}, "diffusers' own names"),
        (lambda s: {"conv.weight": torch.zeros(1)}, "nothing known .1 tensors, such as conv.weight"),
        (
            lambda s: (
                {"patch_embedding.weight": torch.zeros(5120, 1, 1, 1, 1)}
                | {f"blocks.{i}.modulation": torch.zeros(1) for i in range(40)}
            ),
            "Wan2.1 14B",
        ),
    ],
)
def test_the_wrong_file_is_recognised(content, words: str, state: dict[str, Tensor], tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    torch.save(content(state), tmp_path / "w.pt")
    assert re.search(words, looks_like(open_checkpoint(tmp_path / "w.pt")))
    other = WanConfig(dim=24, num_heads=2, num_layers=1)
    with pytest.raises(ValueError, match=rf"does not fit this model: .*it looks like .*{words}") as caught:
        load_wan(tmp_path / "w.pt", other)
    assert "\n" not in str(caught.value)


MEASURE = """
import sys, threading, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from deepforcing.wan.config import WanConfig
from deepforcing.wan.transformer import CausalWan
from deepforcing.wan.weights import load_wan

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(x for x in lines if x.startswith("RssAnon")).split()[1]) * 1024

config = WanConfig(dim=512, ffn_dim=2048, num_heads=4, num_layers=12, text_dim=512)
with torch.device("meta"):
    CausalWan(config)  # the meta device imports tens of megabytes of torch when it is first used
before = peak = anonymous()
done = False
def watch():
    global peak
    while not done:
        peak = max(peak, anonymous())
        time.sleep(0.001)
thread = threading.Thread(target=watch)
thread.start()
model = load_wan(Path(sys.argv[1]), config, torch.bfloat16)
done = True
thread.join()
print(peak - before, sum(p.numel() for p in model.parameters()) * 2)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads resident memory from /proc")
@pytest.mark.parametrize("kind", ["pt", "safetensors"])
def test_loading_holds_one_copy_in_the_target_dtype(kind: str, tmp_path: Path) -> None:
    """A float32 file of ~200 MB loaded as bfloat16: memory of our own peaks at the model, not at the file or its sum."""
    config = WanConfig(dim=512, ffn_dim=2048, num_heads=4, num_layers=12, text_dim=512)
    state = random_wan(config).state_dict()
    path = tmp_path / f"w.{kind}"
    if kind == "pt":
        averaged = {FSDP + n: t.clone() for n, t in state.items()}
        torch.save({"generator": prefixed(state, "model."), "critic": {}, "generator_ema": averaged}, path)
    else:
        save_file(state, path)
    del state
    done = subprocess.run([sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True)
    grown, model = map(int, done.stdout.split())
    print(
        f"{kind}: grew {grown / 1e6:.0f} MB for a model of {model / 1e6:.0f} MB from {path.stat().st_size / 1e6:.0f} MB"
    )
    assert path.stat().st_size > 180e6
    assert model > 85e6
    assert grown < 1.1 * model, f"{grown / 1e6:.0f} MB for a model of {model / 1e6:.0f} MB"
