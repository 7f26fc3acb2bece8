"""Runs as a folder that travels: records, per-video scores, checksums, a Croissant file; no videos. `--help`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from experiments.command import command

if TYPE_CHECKING:
    from omegaconf import DictConfig


def export_task(config: DictConfig) -> None:
    from deepforcing.runs import check_writable
    from experiments.command.terminal import console
    from experiments.results.export import check_place_of, export  # pandas: --help does without
    from experiments.results.exported import digest_of
    from experiments.results.runs import find_runs, read_runs
    from experiments.tables.comparisons import words

    if config.out is None:
        raise ValueError("out=FOLDER is missing: name the folder that is to be written")
    out = Path(str(config.out))
    check_place_of(out)
    runs = read_runs(find_runs(words(config.runs)))
    check_writable(out.parent, key="out")
    metrics = words(config.metrics)
    export(runs, out, None if metrics == ["all"] else metrics)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    console().print(
        f"{len(runs)} runs, {sum(len(run.samples) for run in runs)} videos, {size / 1e6:.1f} MB: {out.absolute()}"
    )
    console().print(f"digest of the folder (sha256 of its SHA256SUMS): {digest_of(out)}")


main = command("export")(export_task)

if __name__ == "__main__":
    main()
