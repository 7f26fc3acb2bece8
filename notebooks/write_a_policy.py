# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
# ---

# %% [markdown]
# # Writing a policy
# A cache policy says what stays of the past and where it is read (`deepforcing/cache/policy.py`). Here is a new
# one, from its rule to its first video: no file of the library changes.

# %%
import os
from dataclasses import dataclass

import torch

from baselines.self_forcing import self_forcing
from deepforcing.cache.policy import CachePolicy, Plan, Slot, View
from deepforcing.cache.retention import SinkWindow
from deepforcing.prompts import prompts_from_texts
from deepforcing.tiny.model import TinySpec
from experiments.figures.figure import drawn
from experiments.figures.filmstrip import Film, Filmstrip, Strip
from experiments.figures.style import inks

# %% [markdown]
# ## The rule
# The sink stays. Of the rest every other frame stays, most recent first: the window reaches back twice as far.


# %%
@dataclass(frozen=True)
class EveryOther(SinkWindow):
    def plan(self, view: View) -> Plan:
        sinks = min(self.sink_frames, len(view.slots))
        room = self.window_frames - view.chunk - sinks
        tail = range(sinks, len(view.slots))
        return Plan((*range(sinks), *sorted([*tail[::-1][::2], *tail[::-1][1::2]][:room])))


# %% [markdown]
# A rule is plain Python, so it can be looked at without any model: of 24 frames of the past, which stay?

# %%
past = tuple(Slot("tail", frame) for frame in range(24))
for retention in (SinkWindow(window_frames=15, sink_frames=4), EveryOther(window_frames=15, sink_frames=4)):
    print(f"{type(retention).__name__:12}", retention.plan(View(past, start=24)).stored)

# %% [markdown]
# ## The first video
# Beside the plain window with the same sink, from the same noise.

# %%
seconds = float(os.environ.get("SECONDS", "30"))
(prompt,) = prompts_from_texts(["a red disc starts at the left and circles clockwise on a slate background"])
policies = {
    "sink_window": CachePolicy(
        name="sink_window", retention=SinkWindow(window_frames=21, sink_frames=4), alignment="slot"
    ),
    "every_other": CachePolicy(
        name="every_other", retention=EveryOther(window_frames=21, sink_frames=4), alignment="slot"
    ),
}
strips = []
for (name, cache), ink in zip(policies.items(), inks([*policies], [False, False]), strict=True):
    spec = self_forcing(TinySpec(), cache)
    generator = spec.build(torch.device("cpu"))
    total = spec.latent_frames(seconds)
    chunks = [torch.from_numpy(chunk.frames) for chunk in generator.generate(prompt.text, prompt.id, 0, total)]
    frames = torch.cat(chunks)
    index = torch.linspace(0, len(frames) - 1, 13).long()
    strips.append(Strip(name, ink, frames[index].numpy(), (index / 16).tolist()))
drawn(Filmstrip(), Film(prompt.text, strips, []))

# %% [markdown]
# ## What comes next
# Put the class into `deepforcing/cache/every_other.py` and a yaml beside those in `conf/cache/`, and every command
# knows it: the README shows both. A line in `tests/driver.py` holds it against uncached attention, written from the
# formulas.
