"""What every command shares: help for a newcomer, one clear line for whatever goes wrong, an end that loses nothing.

A command is a function of a checked config. Nothing here imports torch or Hydra before it is needed: help is quick.
"""

from experiments.command.conf import CONF, groups
from experiments.command.entry import command, program
from experiments.command.terminal import say

__all__ = ["CONF", "command", "groups", "program", "say"]
