"""wandb's settings, wherever it is used: nothing is collected but what is logged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

START_SECONDS = 20  # that wandb's service and a run may take to start
FINISH_SECONDS = 60  # that a run's files may take to be written


def quiet(wandb: Any, root: Path, mode: str = "offline") -> Any:
    """Under root/wandb."""
    return wandb.Settings(
        mode=mode, root_dir=str(root), silent=True, console="off", host="-", program="-",
        save_code=False, disable_code=True, disable_git=True, disable_job_creation=True, x_save_requirements=False,
        x_disable_meta=True, x_disable_stats=True, x_disable_machine_info=True,
        init_timeout=START_SECONDS, x_service_wait=START_SECONDS, finish_timeout=FINISH_SECONDS,
    )  # fmt: skip
