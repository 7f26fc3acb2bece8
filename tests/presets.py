"""Every policy of conf/cache on a small random model."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from deepforcing.cache.policy import CachePolicy
from deepforcing.wan.config import WanConfig
from deepforcing.wan.weights import random_wan

CONF = Path(__file__).parents[1] / "conf" / "cache"
CONFIG = WanConfig(
    dim=64, ffn_dim=48, freq_dim=16, in_dim=3, out_dim=3, num_heads=4, num_layers=3, text_dim=10, text_len=4
)
MODEL = random_wan(CONFIG)
TEXT = MODEL.encode_text(torch.randn(1, 4, 10, generator=torch.Generator().manual_seed(8)))
HEADS = Path(__file__).parent / "deepforcing" / "head_classes.json"  # of this model
NAMES = sorted(path.stem for path in CONF.glob("*.yaml"))


@cache
def policy(name: str) -> CachePolicy:
    """The preset, with files of this model where it needs any."""
    config: Any = OmegaConf.load(CONF / f"{name}.yaml")
    for base in config.pop("defaults", []):
        if base != "_self_":
            config = OmegaConf.merge(OmegaConf.load(CONF / f"{base}.yaml"), config)
    if "heads" in config.get("retention", {}):
        config.retention.heads = str(HEADS)
    if "labels" in config.get("retention", {}):
        config.retention.labels = str(HEADS.with_name("head_labels.csv"))
    made: CachePolicy = instantiate(config, _convert_="object")
    return made
