"""What a checkpoint seems to be, from its containers, names, shapes and types: for messages about the wrong one."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from deepforcing.wan.names import listed

# Entries of training checkpoints: averaged weights, raw ones, and LongLive's LoRA.
AVERAGED = "generator_ema"  # Self Forcing's and most others'
AVERAGED_ENTRIES = (AVERAGED, "ema", "model_ema", "ema_model", "params_ema", "ema_state_dict")
RAW_ENTRIES = (
    "generator",
    "model",
    "state_dict",
    "model_state_dict",
    "module",
    "transformer",
    "diffusion_model",
    "params",
)
LORA = "generator_lora"
SIZES = {(1536, 30): "Wan2.1 1.3B", (5120, 40): "Wan2.1 14B", (3072, 30): "Wan2.2 5B"}
OTHER_KINDS = "use the bfloat16, float16 or float32 file of the same release"
# What quantisers store beside weights: ComfyUI and diffusers (fp8), bitsandbytes, GPTQ and AWQ, torchao and quanto.
SCALE = re.compile(r"(^|\.)(scaled_fp8|scale_weight|weight_scale(_inv)?|scale_input|input_scale|comfy_quant)$")
QUANTISED = re.compile(r"(^|\.)(qweight|qzeros|g_idx|SCB|absmax|quant_map|quant_state\..+|weight_format|_data|_scale)$")
FP8 = tuple(d for d in vars(torch).values() if isinstance(d, torch.dtype) and str(d).startswith("torch.float8"))


@dataclass(frozen=True)
class Contents:
    """What was found in a checkpoint.

    tensors: by bare name (names.bare_name), those of diffusers' transformer under our names. held: the top-level entries
    of the file that are no tensors. taken: the path of entries to the tensors. wrapped: whether training wrappers were in
    the names. prefixed: whether something stood before them. diffusers: whether the file has diffusers' names.
    """

    tensors: dict[str, Tensor]
    held: tuple[str, ...] = ()
    taken: tuple[str, ...] = ()
    wrapped: bool = False
    prefixed: bool = False
    diffusers: bool = False


def looks_like(contents: Contents) -> str:
    names, tensors = contents.tensors.keys(), contents.tensors
    if any(".base_layer." in n for n in names):
        return "a model with a LoRA that is not merged into it (base_layer); save it merged"
    if LORA in contents.held or any(re.search(r"\.lora_([AB]|down|up)\b", n) for n in names):
        return "a LoRA, which goes over a base checkpoint (model.lora)"
    if "token_embedding.weight" in names or any(n.startswith("encoder.block.") for n in names):
        return "a UMT5 text encoder (model.text_encoder)"
    if any(n.startswith(("decoder.upsamples.", "decoder.up_blocks.")) for n in names):
        return "a Wan VAE (model.vae)"
    if {"decoder.1.weight", "decoder.3.conv.0.weight"} <= names:
        shape = tensors["decoder.1.weight"].shape[:2]
        return f"a TAEHV tiny autoencoder of width {shape[0]} for {shape[-1]} latent channels (model.decoder=taehv)"
    if any(n.startswith("wan.blocks.") for n in names):
        return "a checkpoint of an embedded world (model=tiny, tiny_crowd or tiny_pan)"
    patch = tensors.get("patch_embedding.weight")
    if patch is None or not patch.ndim or not any(n.startswith("blocks.") for n in names):
        if contents.diffusers:
            return system_of(contents)
        inside = f", such as {listed([min(names)])}" if names else ""
        held = f"; it holds {listed(contents.held)}" if contents.held else ""
        return f"nothing known ({len(names)} tensors{inside}{held})"
    layers = len({n.split(".")[1] for n in names if n.startswith("blocks.")})
    size = SIZES.get((patch.shape[0], layers), f"Wan of width {patch.shape[0]} with {layers} layers")
    if any(n.startswith(("img_emb.", "condition_embedder.image_embedder.")) for n in names):
        size += ", image-to-video with a CLIP branch"
    if any(n.startswith("vace_") for n in names):
        size += ", VACE"
    return f"{system_of(contents)}, {size}"


def system_of(contents: Contents) -> str:
    """Which system's container a transformer came in. The weights themselves do not tell."""
    if AVERAGED in contents.held:
        return "a Rolling Forcing style checkpoint" if contents.wrapped else "a Self Forcing style checkpoint"
    if "critic" in contents.held:
        return "a CausVid style checkpoint"
    if "generator" in contents.held:
        return "a LongLive style base checkpoint"
    if contents.diffusers:
        return "a transformer under diffusers' own names (WanTransformer3DModel)"
    if contents.prefixed or contents.held:
        return "a generator's state dict"
    return "an official Wan file, not an autoregressive generator"


def quantised(contents: Contents) -> str | None:
    """How the weights are quantised if they cannot be used without their scales, and what to use instead."""
    tensors = contents.tensors
    scales = [n for n in tensors if SCALE.search(n)]
    if scales:
        kind = "scaled fp8" if any(t.dtype in FP8 for t in tensors.values()) or "scaled_fp8" in tensors else "scaled"
        kind = "int8 quantised" if any(t.dtype == torch.int8 for t in tensors.values()) else kind
        return f"holds {kind} weights (it has {listed(scales[:1])}), which are not read; {OTHER_KINDS}"
    whole = [n for n, t in tensors.items() if not t.is_floating_point() and n.endswith((".weight", ".weight._data"))]
    if whole:
        kind = str(tensors[whole[0]].dtype).removeprefix("torch.")
        return f"holds quantised weights ({listed(whole[:1])} is {kind}), which are not read; {OTHER_KINDS}"
    others = [n for n in tensors if QUANTISED.search(n)]
    if others:
        return f"holds quantised weights (it has {listed(others[:1])}), which are not read; {OTHER_KINDS}"
    return None
