"""Table 6 of the paper: frames a second, and how long a chunk takes once the window rolls."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

import numpy as np

from eval.stats.intervals import mean_interval
from experiments.reproduction.plan import Planned
from experiments.results.runs import Run
from experiments.tables.text import markdown_text
from experiments.tables.words import plural

WINDOW = 21  # latent frames of the paper's window: the first roll is the chunk that does not fit it any more
HEAD = "| method | FPS | paper | difference | min (s) | median (s) | p95 (s) | max (s) | paper, min / max (s) |"
TIMED = (
    "Seconds from one chunk's handing over to the next (denoising, the clean pass, decoding, writing; on a GPU parts run "
    "beside each other), of chunks after the first roll, in all videos. FPS: by a video's mean chunk; mean over videos. "
    "Difference: ours less the paper's, with the 95 % interval of our mean over videos. The paper's device is one "
    "H100; it does not say whether decoding is in its times."
)


def latency(runs: Mapping[str, Run], paper: Mapping[str, Mapping[str, float]], planned: Planned) -> str:
    """Markdown. runs, paper: by row; the paper's fps, fewest and most seconds a chunk."""
    wanted = {sample.name for sample in planned.samples}
    labels = {row.name: row.label for row in planned.rows}
    lines, devices = [HEAD, "|---|" + "---:|" * 8], set()
    for name, run in runs.items():
        samples = [sample for sample in run.samples if sample["sample"] in wanted]
        each = [rolled(sample) for sample in samples]
        chunks = np.concatenate(each) if each else np.empty(0)
        said = paper[name]
        if not len(chunks):
            lines.append(f"| {markdown_text(labels[name])} | – | {said['fps']:.2f} | – | – | – | – | – | |")
            continue
        stride = int((run.record.get("geometry") or {}).get("temporal_stride") or 4)
        rates = [s["chunk_frames"] * stride / fmean(c) for s, c in zip(samples, each, strict=True) if len(c)]
        (mean,), (low,), (high,), _ = mean_interval(np.array(rates)[:, None])
        away = f"{mean - said['fps']:+.2f}"
        away += (
            f" [{low - said['fps']:+.2f}, {high - said['fps']:+.2f}]"
            if np.isfinite(low)
            else " (one video: no interval)"
        )
        away = away.replace("-", "−")  # as everywhere else
        numbers = [chunks.min(), np.median(chunks), np.percentile(chunks, 95), chunks.max()]
        cells = " | ".join(f"{value:.3f}" for value in numbers)
        lines.append(
            f"| {markdown_text(labels[name])} | {mean:.2f} | {said['fps']:.2f} | {away} | {cells} | "
            f"{said['fewest']:.3f} / {said['most']:.3f} |"
        )
        devices |= {str((s.get("environment") or {}).get("device") or "unrecorded") for s in samples}
    on = ", ".join(sorted(devices)) or "–"
    of = markdown_text(f"Ours: model {planned.model}, {plural(len(wanted), 'video')} a row, on {on}.")
    other = "" if planned.paper_model else " **Another model than the paper's: levels are not comparable.**"
    return "\n\n".join(["\n".join(lines), f"{of}{other} {TIMED} Other work on the machine is in these times."]) + "\n"


def rolled(sample: Mapping[str, object]) -> np.ndarray:
    """Seconds of the chunks after the first roll."""
    frames = int(sample["chunk_frames"])  # type: ignore[call-overload]
    chunks: list[Mapping[str, float]] = list(sample.get("chunks") or [])  # type: ignore[call-overload]
    return np.array(
        [
            c["chunk_s"]
            for k, c in enumerate(chunks)
            if (k + 1) * frames > WINDOW and c.get("chunk_s") and not c.get("given")
        ]
    )
