"""Small random components in the real file layouts: a UMT5 encoder with its tokenizer, a VAE, a generator checkpoint."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from deepforcing.torchvision_cpu import make_importable
from deepforcing.wan.config import WanConfig
from deepforcing.wan.taehv import WIDTHS, random_taehv
from deepforcing.wan.text import IN_BLOCK, OFFICIAL, SHARED, TIED
from deepforcing.wan.weights import random_wan

WORDS = "a an the red blue dog cat runs sleeps over under grass sea at night & < > ,".split()  # noqa: SIM905
TEXT_DIM = 16
CONFIG = WanConfig(
    dim=24, ffn_dim=32, freq_dim=8, in_dim=16, out_dim=16, num_heads=2, num_layers=2, text_dim=TEXT_DIM, text_len=12
)


def umt5(seed: int = 0) -> Any:
    make_importable()
    from transformers import UMT5Config, UMT5EncoderModel

    config = UMT5Config(
        vocab_size=32, d_model=TEXT_DIM, d_kv=4, d_ff=24, num_layers=2, num_heads=3, relative_attention_num_buckets=8,
        feed_forward_proj="gated-gelu", dropout_rate=0.0,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = UMT5EncoderModel(config).eval()
        for p in model.parameters():
            torch.nn.init.normal_(p, std=0.4)
    return model


def official_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The official file's names for transformers' tensors."""
    back = {new: old for old, new in IN_BLOCK.items()}
    out = {OFFICIAL: state[SHARED], "norm.weight": state["encoder.final_layer_norm.weight"]}
    for name, tensor in state.items():
        match = re.fullmatch(r"encoder\.block\.(\d+)\.(.+)\.weight", name)
        if match:
            out[f"blocks.{match[1]}.{back[match[2]]}.weight"] = tensor
    return out


def write_tokenizer(directory: Path) -> Path:
    """Whole words, padding 0, end mark 1, unknown 2, as transformers saves a fast tokenizer."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from tokenizers.processors import TemplateProcessing

    make_importable()
    from transformers import PreTrainedTokenizerFast

    vocabulary = {w: i for i, w in enumerate(["<pad>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    fast.save_pretrained(str(directory))
    return directory


def write_umt5(path: Path, seed: int = 0, dtype: torch.dtype = torch.float32) -> Path:
    """transformers' names for .safetensors, the official file's for .pth."""
    state = {n: t.to(dtype) for n, t in umt5(seed).state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file({n: t.clone() for n, t in state.items() if n != TIED}, path)
    else:
        torch.save(official_names(state), path)
    return path


def write_generator(path: Path, config: WanConfig = CONFIG, seed: int = 0) -> Path:
    """A Self Forcing style training checkpoint: averaged weights of `seed`, raw ones of `seed + 1`."""
    averaged, raw = (random_wan(config, seed=s).state_dict() for s in (seed, seed + 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "generator": {f"model.{n}": t for n, t in raw.items()},
        "critic": {},
        "generator_ema": {f"model.{n}": t for n, t in averaged.items()},
    }
    torch.save(content, path)
    return path


def write_taehv(path: Path, widths: tuple[int, ...] = WIDTHS, channels: int = 16, seed: int = 0) -> Path:
    """A tiny autoencoder as published: float16, the decoder beside tensors of the encoder."""
    state = random_taehv(channels, widths=widths, seed=seed).state_dict()
    shapes = {
        "encoder.0.weight": (4, 3, 3, 3), "encoder.0.bias": (4,), "encoder.2.conv.weight": (4, 8, 1, 1),
        "encoder.3.weight": (4, 4, 3, 3), "encoder.4.conv.0.weight": (4, 8, 3, 3), "encoder.17.bias": (channels,),
    }  # fmt: skip
    state |= {name: torch.ones(shape) for name, shape in shapes.items()}
    state = {name: t.half() for name, t in state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path
