"""Modules of the vbench package, whose import would otherwise set up logging and warn on the whole process's behalf."""

from __future__ import annotations

import importlib
import logging
from typing import Any

from eval.networks.files import packages


def vbench_module(name: str) -> Any:
    """The module vbench.`name`. Raises ValueError in one line where the package is not installed."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    try:
        with packages():
            return importlib.import_module(f"vbench.{name}")
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers
