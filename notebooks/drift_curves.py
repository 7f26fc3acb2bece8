# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
# ---

# %% [markdown]
# # Drift curves
# Video models drift when they roll out beyond the length that they were trained on. Here three cache policies make
# the same prompts from the same noise on the embedded world, are scored over time, and are drawn beside real video.
# `SECONDS` and `PROMPTS` in the environment make it longer; whatever is in `runs/notebooks` already is not made
# again.

# %%
import os
from pathlib import Path

from deepforcing.prompts import plan_samples
from eval.metrics import WEIGHT_FREE
from eval.score import score_run
from eval.stats.means import first_last, paired_difference, pivot
from eval.store import load_scores
from experiments.command.compose import compose
from experiments.command.terminal import console
from experiments.figures.drift import Drift
from experiments.figures.figure import drawn
from experiments.figures.filmstrip import Filmstrip
from experiments.reference import reference_run
from experiments.request import find_prompts
from experiments.results.runs import read_runs
from experiments.videos import rollout

seconds, first = float(os.environ.get("SECONDS", "30")), int(os.environ.get("PROMPTS", "4"))
root = Path("runs/notebooks")
METRICS = [m for m in WEIGHT_FREE if m.name in ("background_colour", "background_texture", "motion_progress")]
prompts = find_prompts("demo")[:first]
texts = [prompt.text for prompt in prompts]
texts

# %% [markdown]
# ## Videos and scores
# A run is made from a configuration, as on the command line. Real video is the renderer of the world that the model
# was trained on.

# %%
paths = []
for cache in ("self_forcing", "deep_sink", "deep_forcing"):
    config = compose("rollout", [f"cache={cache}"])
    config.update(prompts=texts, seconds=seconds, runs_root=str(root))
    paths.append(rollout(config, console(quiet=True)).path)
paths.append(reference_run(root, plan_samples(prompts, [0]), seconds).path)
for path in paths:
    score_run(path, METRICS)
label = {run.name: run.label for run in read_runs(paths)}
label

# %% [markdown]
# ## What it looks like

# %%
strip = Filmstrip(frames=11, metrics=())
drawn(strip, strip.read(paths))

# %% [markdown]
# ## Curves over time
# Lines are means over prompts, bands their 95 % intervals, the dotted line is the length of the training clips.
# With few prompts the bands are wide: that is what few prompts say.

# %%
figure = Drift(metrics=("background_error", "texture", "progress"))
drawn(figure, figure.read(paths))

# %% [markdown]
# ## In numbers: last seconds minus first seconds

# %%
table = load_scores(paths)
drift = pivot(first_last(table), column="drift").rename(index=label)
drift[["background_error", "texture", "progress"]].round(3)

# %% [markdown]
# ## Is a difference real? Paired over prompts, with the interval of the mean difference

# %%
paired_difference(table, paths[1].name, paths[0].name, "texture")
