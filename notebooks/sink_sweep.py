# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
# ---

# %% [markdown]
# # A sweep over the sink's depth
# Deep Sink keeps the first S latent frames of a window of 21 for ever. How many should it be? One run for every S,
# drawn against it: the same as `experiments.rollout -m cache=deep_sink cache.retention.sink_frames=0,4,10,15,18`
# and `experiments.figure figure=sweep`.

# %%
import os
from pathlib import Path

from eval.metrics import WEIGHT_FREE
from eval.score import score_run
from experiments.command.compose import compose
from experiments.command.terminal import console
from experiments.figures.drift import Drift
from experiments.figures.figure import drawn
from experiments.figures.sweep import Sweep
from experiments.request import find_prompts
from experiments.videos import rollout

seconds, first = float(os.environ.get("SECONDS", "30")), int(os.environ.get("PROMPTS", "4"))
texts = [prompt.text for prompt in find_prompts("demo")[:first]]
paths: list[Path] = []
METRICS = [m for m in WEIGHT_FREE if m.name in ("background_colour", "background_texture", "motion_progress")]
for sink in (0, 4, 10, 15, 18):
    config = compose("rollout", ["cache=deep_sink", f"cache.retention.sink_frames={sink}"])
    config.update(prompts=texts, seconds=seconds, runs_root="runs/notebooks")
    paths.append(rollout(config, console(quiet=True)).path)
    score_run(paths[-1], METRICS)
[path.name for path in paths]

# %% [markdown]
# ## Over the last five seconds, against S
# Which key was swept is found from the runs' configurations. A deep sink holds colours and texture; one that fills
# nearly the whole window leaves no room for what has just happened, and motion stops.

# %%
figure = Sweep(metrics=("background_drift", "texture", "progress"), number="last")
drawn(figure, figure.read(paths))

# %% [markdown]
# ## The same runs over time
# Colours follow the swept number, dark to light.

# %%
curves = Drift(metrics=("background_drift", "texture", "progress"))
drawn(curves, curves.read(paths))
