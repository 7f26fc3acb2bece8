"""A study as it lies on disk, and which of its settings matter."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState


def storage_of(journal: Path) -> JournalStorage:
    return JournalStorage(JournalFileBackend(str(journal)))


def importances(journal: Path) -> tuple[dict[str, dict[str, float]], int]:
    """{objective: {key: importance}} over the finished trials, and how many those are. Raises ValueError for fewer than 4."""
    study = optuna.load_study(study_name=journal.stem, storage=storage_of(journal))
    finished = [trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.COMPLETE]
    if len(finished) < 4:
        raise ValueError(f"study {journal.stem} has {len(finished)} finished trials; importances need 4 at least")
    settings = study.user_attrs.get("settings", {})
    found = {}
    for number, (title, sign) in enumerate(
        ((settings.get("drift", "drift"), 1), (settings.get("motion", "motion"), -1))
    ):

        def target(trial: FrozenTrial, number: int = number, sign: int = sign) -> float:
            return sign * float(trial.values[number])

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that low is taken for good, which the sign is for
            shares = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(), target=target)
        every = {name: value if math.isfinite(value) else 0.0 for name, value in sorted(shares.items())}
        found[str(title).replace("_", " ")] = every
    return found, len(finished)
