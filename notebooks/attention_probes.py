# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
# ---

# %% [markdown]
# # Where attention goes
# An observer is told of every layer of every pass: queries, keys as they are read, and what each slot of the cache
# is. It costs nothing when there is none, and changes no pixel when there is one. On the command line it is
# `watch=experiments.probes.attention.Attention`.

# %%
import os
import tempfile
from pathlib import Path

import matplotlib
import numpy as np
import torch

from baselines.self_forcing import self_forcing
from deepforcing.cache.observe import Seen
from deepforcing.cache.policy import CachePolicy
from deepforcing.cache.retention import SinkWindow
from deepforcing.prompts import prompts_from_texts
from deepforcing.tiny.model import TinySpec
from experiments.figures.figure import Picture, styled
from experiments.probes.attention import EVERY, Attention

seconds = float(os.environ.get("SECONDS", "30"))
(prompt,) = prompts_from_texts(["a red disc starts at the left and circles clockwise on a slate background"])
caches = {
    "no sink": CachePolicy(name="self_forcing", retention=SinkWindow(window_frames=21), alignment="absolute"),
    "sink of 10": CachePolicy(
        name="deep_sink", retention=SinkWindow(window_frames=21, sink_frames=10), alignment="sink"
    ),
}

# %% [markdown]
# ## The last chunk that was looked at, per layer and head
# The probe sums the softmax over each latent frame's tokens and averages over the chunk's queries; it looks at
# every fourth chunk. Below, a row is a head, four to a layer, and a column a frame that it reads; the last three are the
# chunk's own. Many heads look at the chunk and at what is right before it, others at everything alike; the second
# head of layer 2 gives a little to the oldest frames that there are, whichever these are.

# %%
found = {}
for name, cache in caches.items():
    spec = self_forcing(TinySpec(), cache)
    total = spec.latent_frames(seconds)
    with tempfile.TemporaryDirectory() as folder:
        probe = Attention(Path(folder), ["video"])
        for _ in spec.build(torch.device("cpu")).generate(prompt.text, prompt.id, 0, total, watch=probe):
            pass
        probe.close()
        with np.load(Path(folder) / "attention-video.npz") as file:
            found[name] = dict(file)
EVERY, {name: of["mass"].shape for name, of in found.items()}

# %%
with styled():
    picture = Picture(figsize=(7, 2.6), layout="constrained")
    panels = picture.subplots(1, len(found))
    for axes, (name, of) in zip(panels, found.items(), strict=True):
        last = (of["start"] == of["start"].max()) & (of["kind"] == 0) & (of["step"] == of["step"].max())
        order = np.argsort(of["slots"][last][0], kind="stable")
        mass = np.concatenate(of["mass"][last][:, :, order])  # layers x heads, in order of layers
        image = axes.imshow(mass, aspect="auto", vmin=0, vmax=0.3, cmap="viridis")
        labels = of["slots"][last][0][order]
        axes.set_xticks(range(0, len(labels), 4), labels[::4])
        layers, heads = of["mass"][last].shape[:2]
        axes.set_yticks(range(0, layers * heads, heads), range(1, layers + 1))
        axes.set(title=name, xlabel="latent frame", ylabel="layer, its heads below" if axes is panels[0] else "")
        axes.grid(visible=False)
    picture.colorbar(image, ax=panels, label="share of attention")
picture

# %% [markdown]
# ## An observer of one's own is a function
# How much of its attention a chunk gives to the sink, step by step of the denoising: over half of it while the past is
# nearly all sink, and then a fifth, though ten of the 21 frames are sink. The four steps hardly differ.

# %%
to_sink: dict[tuple[int, int], list[float]] = {}


def watch(seen: Seen) -> None:
    if seen.kind != "denoise":
        return
    weights = (seen.queries @ seen.keys.mT / seen.queries.shape[3] ** 0.5).softmax(3).mean((0, 1, 2))
    of_slots = weights.view(len(seen.slots), -1).sum(1)
    share = sum(float(of_slots[i]) for i, slot in enumerate(seen.slots) if slot.role == "sink")
    to_sink.setdefault((seen.start, seen.step), []).append(share)


spec = self_forcing(TinySpec(), caches["sink of 10"])
for _ in spec.build(torch.device("cpu")).generate(prompt.text, prompt.id, 0, spec.latent_frames(seconds), watch=watch):
    pass

# %%
with styled():
    picture = Picture(figsize=(3.4, 2.2), layout="constrained")
    axes = picture.subplots()
    for step in range(4):
        points = [(start / 4, float(np.mean(shares))) for (start, of), shares in to_sink.items() if of == step]
        axes.plot(*zip(*points, strict=True), color=matplotlib.colormaps["viridis"](step / 4), label=f"step {step + 1}")
    axes.set(title="attention to the sink", xlabel="seconds", ylabel="share of attention", ylim=(0, None))
    axes.legend(ncols=2)
picture
