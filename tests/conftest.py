"""Settings for all tests: one thread (tiny tensors run slower on more), and `import naive`, `import driver`.

These two helpers lie beside this file: a slow reference implementation, and what drives a cache without a model.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from hypothesis import settings

torch.set_num_threads(1)
sys.path.append(str(Path(__file__).parent))

# Machines that run tests are shared: a deadline per example measures the neighbours.
settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")
