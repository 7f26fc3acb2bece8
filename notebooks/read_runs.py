# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
# ---

# %% [markdown]
# # Reading runs
# Run directories hold everything: videos, what made them, and one tidy table of scores. Set `DEEPFORCING_RUNS` to a
# directory of runs, or make some with `make demo`.

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt

from eval.stats.means import curves, first_last, paired_difference, pivot
from eval.store import load_scores
from experiments.results.runs import find_runs, read_runs

root = Path(os.environ.get("DEEPFORCING_RUNS", "runs/demo"))
runs = read_runs(find_runs([f"{root}/*"]))
label = {run.name: run.label for run in runs}
label

# %% [markdown]
# ## The tidy table: run, sample, metric, version, t_start, t_end, value

# %%
table = load_scores([run.path for run in runs])
table.tail()

# %% [markdown]
# ## First five seconds, last five seconds, drift

# %%
ends = first_last(table)
pivot(ends, column="drift").rename(index=label)

# %% [markdown]
# ## Curves with 95 % bands over prompts

# %%
metric = "background_error" if "background_error" in set(table["metric"]) else table["metric"].iloc[0]
for name, rows in curves(table).query("metric == @metric").groupby("run"):
    middle = (rows["t_start"] + rows["t_end"]) / 2
    plt.plot(middle, rows["mean"], label=label[name])
    plt.fill_between(middle, rows["low"], rows["high"], alpha=0.15)
plt.xlabel("seconds")
plt.title(metric)
plt.legend()

# %% [markdown]
# ## Is a difference real? Paired over prompts

# %%
if len(runs) > 1:
    print(paired_difference(table, runs[1].name, runs[0].name, metric))
