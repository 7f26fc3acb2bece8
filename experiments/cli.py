"""Where experiments/command/ was before: its names, for those who import them from here."""

from omegaconf import DictConfig

from experiments.command import CONF, command, groups, say
from experiments.command.entry import FAILED, Task, guarded
from experiments.command.words import describe, explain, is_list, positive, shown, whole

__all__ = ["CONF", "FAILED", "command", "describe", "explain", "groups", "is_list", "positive", "say", "shown", "whole"]


def run_task(task: Task, config: DictConfig) -> int:
    """The task's exit status; FAILED after one line on stderr for whatever went wrong."""
    return guarded(lambda: task(config))
