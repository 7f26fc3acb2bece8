"""Settings for all tests: one thread (tiny tensors run slower on more), and `import naive` for the slow reference."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

torch.set_num_threads(1)
sys.path.append(str(Path(__file__).parent))
