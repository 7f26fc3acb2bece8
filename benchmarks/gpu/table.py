"""`python -m experiments.bench gpu-table`: every measurement in a process of its own, put together as JSON and Markdown.

A process of its own, because an illegal access or a hanging compiler ends what follows it in the same one. What a process
has told before it ends counts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.measure import GROUPS, ROWS_OF, failure
from benchmarks.gpu.rows import NOT_REACHED, ROWS, Measured, line, markdown
from benchmarks.gpu.settings import Settings, read
from benchmarks.gpu.size import SIZES

SHARES = {
    "card": 0.06,
    "passes": 0.2,
    "faster": 0.4,
    "vae": 0.25,
    "tiny": 0.3,
    "memory": 0.4,
    "vbench": 0.5,
    "batches": 1.0,
}
"""Of the time that is left when a group begins, how much of it the group may use up before it ends by itself."""
GRACE = 0.1  # of that, before it is ended
Run = Callable[[str, Settings, Path, float], str | None]


def gpu_table(words: list[str]) -> int:
    """The command. Raises ValueError or OSError in one line for wrong words and a folder that cannot be written."""
    settings = read(words)
    device = pick(settings.device)
    settings.folder.mkdir(parents=True, exist_ok=True)
    result = measured(settings, device, in_a_process)
    for name, text in (("gpu_table.json", json.dumps(result, indent=1) + "\n"), ("gpu_table.md", markdown(result))):
        partial = settings.folder / f"{name}.partial"
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, settings.folder / name)
    print(markdown(result), flush=True)
    return 0


def pick(choice: str) -> torch.device:
    """Raises ValueError for a device that is not there."""
    if choice == "auto":
        if not torch.cuda.is_available():
            raise ValueError("torch sees no GPU here; device=cpu size=toy tries the table out")
        return torch.device("cuda")
    try:
        device = torch.device(choice)
    except RuntimeError:
        raise ValueError(f"device={choice!r} is unknown; use auto, cuda, cuda:1 ... or cpu") from None
    if device.type not in ("cpu", "cuda") or (
        device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()
    ):
        raise ValueError(f"device={choice}: torch sees {torch.cuda.device_count()} CUDA devices here; use one, or cpu")
    return device


def measured(settings: Settings, device: torch.device, run: Run) -> dict[str, Any]:
    """All groups one after the other, and what they told. run: one group; gives why it ended early, if it did."""
    began = time.time()
    end = began + 60 * settings.minutes
    size = SIZES[settings.size]
    result: dict[str, Any] = {
        "size": settings.size, "dtype": size.dtype, "threads": torch.get_num_threads(), "rate": None,
        "card": {"device": str(device), "torch": torch.__version__}, "attention": {}, "batches": {}, "problems": {},
    }  # fmt: skip
    told: list[Measured] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in settings.groups:
            left, out = end - time.time(), Path(folder) / f"{name}.jsonl"
            problem = run(name, settings, out, SHARES[name] * left) if left > 1 else NOT_REACHED
            found = [json.loads(text) for text in whole_lines(out)]
            mine = [Measured(**item["measured"]) for item in found if "measured" in item]
            for item in found:
                for key, value in item.items():
                    if key in ("attention", "batches"):
                        result[key] |= value
                    elif key in ("card", "rate"):
                        result[key] = value
            if problem is not None:
                result["problems"][name] = problem
            missing = [row for row in ROWS_OF.get(name, ()) if row not in {m.row for m in mine}]
            told += [
                *mine,
                *(
                    Measured(row, "" if name == "faster" else "plain", problem=problem or NOT_REACHED)
                    for row in missing
                ),
            ]
    rows = [m for row in ROWS for m in told if m.row == row]
    frames = 3 * size.model.geometry.temporal_stride
    judged = settings.size == "full" and device.type == "cuda"
    result["rows"] = [line(m, result["rate"], frames, judged) for m in rows]
    return result | {"seconds": time.time() - began}


def whole_lines(path: Path) -> list[str]:
    """The last may have been cut off when its writer was ended."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return text.split("\n")[:-1]


def in_a_process(name: str, settings: Settings, out: Path, seconds: float) -> str | None:
    """One group. Gives why it ended early."""
    job = {**asdict(settings), "name": name, "told": str(out), "until": time.time() + seconds}
    command = [sys.executable, "-m", "benchmarks.gpu.table", json.dumps(job)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds * (1 + GRACE) + 1)
    except subprocess.TimeoutExpired:
        return f"ended after {seconds:.0f} s, its share of the time"
    if done.returncode == 0:
        return None
    last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    return f"it ended with status {done.returncode}: {last[:200]}"


def one_group(job: dict[str, Any]) -> None:
    """In the process: run the group, a line for whatever it tells."""
    size, device = SIZES[job["size"]], pick(job["device"])
    with open(job["told"], "a", encoding="utf-8") as file:

        def tell(found: Measured | dict[str, Any]) -> None:
            item = {"measured": asdict(found)} if isinstance(found, Measured) else found
            file.write(json.dumps(item) + "\n")
            file.flush()

        GROUPS[job["name"]](size, device, tell, job["until"])


if __name__ == "__main__":
    try:
        one_group(json.loads(sys.argv[1]))
    except Exception as error:
        sys.exit(failure(error))
