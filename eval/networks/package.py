"""Modules of the vbench package, whose import would otherwise set up logging and warn on the whole process's behalf."""

from __future__ import annotations

import importlib
import logging
import warnings
from typing import Any

from deepforcing.torchvision_cpu import make_importable


def vbench_module(name: str) -> Any:
    """The module vbench.`name`. Raises ValueError in one line where the package is not installed."""
    make_importable()
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(f"vbench.{name}")
    except ImportError as error:
        raise ValueError(
            f"the vbench package cannot be imported ({error}); pip install as requirements.lock says"
        ) from None
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers
