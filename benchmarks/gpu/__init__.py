"""The table of speeds on one GPU: `python -m experiments.bench gpu-table`. It needs torch; what else a row needs, it says."""
