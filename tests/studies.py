"""Studies of experiments.search whose truth is known."""

from __future__ import annotations

from pathlib import Path


def write_study(root: Path) -> list[Path]:
    """Forty trials, in which a decides drift and motion and b nothing; the directory that stands for their runs."""
    import optuna

    from experiments.searching.importance import storage_of

    (root / ".searches").mkdir(parents=True)
    (root / "run").mkdir()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = storage_of(root / ".searches" / "known.journal")
    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(
        study_name="known", storage=storage, sampler=sampler, directions=["minimize", "maximize"]
    )

    def made(trial: optuna.Trial) -> tuple[float, float]:
        a, _ = trial.suggest_int("cache.a", 0, 20), trial.suggest_int("cache.b", 0, 20)
        return float(a), float(-a)

    study.optimize(made, n_trials=40)
    return [root / "run"]
