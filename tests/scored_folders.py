"""Folders with scores of foreign videos: what tables are made of."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

COLUMNS = ["sample", "metric", "version", "protocol", "t_start", "t_end", "value"]
Values = dict[str, list[float]]  # metric -> one value per prompt


def rows(values: Values, protocol: str = "vbench_long", clips: int = 2) -> pd.DataFrame:
    """Clips of 2 s, all with the value of their video."""
    found = [
        (f"p{i}-s0", metric, 1, protocol, 2.0 * k, 2.0 * k + 2, value)
        for metric, numbers in values.items()
        for i, value in enumerate(numbers)
        for k in range(clips)
    ]
    return pd.DataFrame(found, columns=COLUMNS)


def folder(root: Path, name: str, table: pd.DataFrame) -> Path:
    path = root / name
    path.mkdir()
    table.to_parquet(path / "scores.parquet", index=False)
    return path


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
