"""What tensors and layers of a Wan transformer are called: by its authors (and here), by training wrappers, by diffusers.

    here                              diffusers (WanTransformer3DModel)
    text_embedding.0, .2              condition_embedder.text_embedder.linear_1, _2
    time_embedding.0, .2              condition_embedder.time_embedder.linear_1, _2
    time_projection.1                 condition_embedder.time_proj
    head.head, head.modulation        proj_out, scale_shift_table
    blocks.N.modulation, .norm3       blocks.N.scale_shift_table, .norm2
    blocks.N.self_attn, .cross_attn   blocks.N.attn1, .attn2
        .q .k .v .o                       .to_q .to_k .to_v .to_out.0
    blocks.N.ffn.0, .ffn.2            blocks.N.ffn.net.0.proj, .ffn.net.2

Source: the two projects' own state dicts; a test compares with diffusers' module, names and numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

# Parts of a name that wrappers put there: FSDP, activation checkpointing, torch.compile, DDP and DeepSpeed.
WRAPPERS = frozenset(
    ("_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_orig_mod", "_fpw_module", "_forward_module", "module")
)
# Parts before a transformer's own names: ComfyUI's model.diffusion_model, trainers' attributes.
PREFIXES = frozenset(("model", "diffusion_model", "generator", "transformer", "dit", "net", "student", "pipe"))

_TOP = {
    "condition_embedder.text_embedder.linear_1": "text_embedding.0",
    "condition_embedder.text_embedder.linear_2": "text_embedding.2",
    "condition_embedder.time_embedder.linear_1": "time_embedding.0",
    "condition_embedder.time_embedder.linear_2": "time_embedding.2",
    "condition_embedder.time_proj": "time_projection.1",
    "proj_out": "head.head",
    "scale_shift_table": "head.modulation",
}
_ATTENTION = {"to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "o", "norm_q": "norm_q", "norm_k": "norm_k"}
_BLOCK = {
    "scale_shift_table": "modulation",
    "norm2": "norm3",
    "ffn.net.0.proj": "ffn.0",
    "ffn.net.2": "ffn.2",
    **{f"attn1.{theirs}": f"self_attn.{ours}" for theirs, ours in _ATTENTION.items()},
    **{f"attn2.{theirs}": f"cross_attn.{ours}" for theirs, ours in _ATTENTION.items()},
}
_NAME = re.compile(r"(?P<block>blocks\.\d+\.)?(?P<layer>.+?)(?P<kind>\.weight|\.bias)?")


def unwrapped(name: str) -> str:
    """A tensor's name without the parts that training wrappers put into it."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def bare_name(name: str) -> str:
    """A tensor's name without wrappers and without what comes before a transformer's own names."""
    parts = unwrapped(name).split(".")
    while len(parts) > 1 and parts[0] in PREFIXES:
        parts.pop(0)
    return ".".join(parts)


def is_diffusers(names: Iterable[str]) -> bool:
    """Whether bare names are those of diffusers' transformer."""
    return any(n.startswith("condition_embedder.") or ".attn1.to_q" in n for n in names)


def official_name(name: str) -> str:
    """Our name for a layer or tensor that diffusers names; another name stays as it is, and will be told."""
    match = _NAME.fullmatch(name)
    if match is None:
        return name
    table = _TOP if match["block"] is None else _BLOCK
    return f"{match['block'] or ''}{table.get(match['layer'], match['layer'])}{match['kind'] or ''}"


def diffusers_name(name: str) -> str:
    """diffusers' name for a layer or tensor of ours."""
    match = _NAME.fullmatch(name)
    if match is None:
        return name
    table = _TOP if match["block"] is None else _BLOCK
    theirs = next((t for t, ours in table.items() if ours == match["layer"]), match["layer"])
    return f"{match['block'] or ''}{theirs}{match['kind'] or ''}"


def shown(name: object, limit: int = 80) -> str:
    """A name out of a file, for a message: short, and on one line whatever is in it."""
    text = "".join(c if c.isprintable() else "?" for c in str(name)[: limit + 1])
    return text if len(text) <= limit else f"{text[:limit]}..."


def listed(names: Sequence[object], most: int = 3) -> str:
    """The first few names, for a message."""
    return ", ".join([*(shown(n) for n in names[:most]), *(["..."] if len(names) > most else [])])
