"""A search: trial.py makes one setting, stage by stage, study.py asks Optuna for settings and tells it what came of them,
report.py draws the end."""
