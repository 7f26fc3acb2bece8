"""The table's rows: what each is, what is published, what is wanted, and what the number includes."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

NOT_REACHED = "not measured: the time was up"


@dataclass(frozen=True)
class Row:
    """unit: of the value. published, target: numbers in that unit, as text beside. higher: whether more is better."""

    what: str
    unit: str
    published: str
    target: float
    higher: bool
    includes: str

    def met(self, value: float) -> bool:
        return value >= self.target if self.higher else value <= self.target


DIT = "transformer alone, window full, warm, random weights; no decoding, no file"
ROWS = {
    "passes": Row(
        "4 denoise passes, 21-frame window", "ms a chunk", "344 (FlashDreams, H100)", 300, False,
        f"{DIT}; the clean pass not counted",
    ),
    "self_forcing": Row("4 + 1 passes, Self Forcing", "FPS", "about 27.5 (derived)", 33, True, DIT),
    "deep_forcing": Row("4 + 1 passes, Deep Forcing", "FPS", "15.75", 38, True, f"{DIT}; compression included"),
    "ratio": Row(
        "Deep Forcing over Self Forcing", "x", ".998", 1.12, True, "the two rows above, repeat by repeat in turn"
    ),
    "aligned": Row(
        "cost of re-alignment: deep_sink over a plain window, both 21 frames", "%", "1.5", 1, False,
        f"{DIT}; 4 + 1 passes, repeat by repeat in turn",
    ),
    "vae": Row(
        "end to end, Wan VAE, streaming", "FPS", "16.9", 24, True, "Self Forcing 4 + 1 passes, decoding, mp4 written"
    ),
    "tiny": Row(
        "end to end, tiny decoder, sustained", "FPS", "35.8 (4 passes); 31-34 (sparse)", 36, True,
        "Self Forcing 4 + 1 passes, decoding, mp4 written, a whole video from its first chunk on",
    ),
    "memory": Row(
        "peak memory, 60 s", "GB", "24-48 asked for", 14, False,
        "weights, cache, tiny decoder; torch's allocator (on a CPU the process's largest size)",
    ),
    "growth": Row("peak memory, 600 s over 60 s", "%", "", 2, False, "the row above; one denoising step, as large"),
    "vbench": Row(
        "VBench's eight dimensions, a 60 s video", "s", "150-240 (estimate)", 30, False,
        "vbench_long, full-size random networks, decoding and second encoding; imports not counted",
    ),
}  # fmt: skip


@dataclass
class Measured:
    """Of one row in one mode. values: one per repeat. singles: of single chunks, for the 95th percentile; empty: as values.
    flops: operations of one chunk, where the row has a floor. problem: why there is no number."""

    row: str
    mode: str
    values: Sequence[float] = ()
    singles: Sequence[float] = ()
    flops: float | None = None
    problem: str | None = None
    note: str = ""


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def line(found: Measured, rate: float | None, frames: int, judged: bool = True) -> dict[str, Any]:
    """A row of the table: median over repeats, 95th percentile of the worse side, part of the floor reached.

    rate: operations a second of matrix products. frames: pixel frames of a chunk. judged: whether the targets are for what was
    measured.
    """
    row = ROWS[found.row]
    known = {**asdict(row), "row": found.row, "mode": found.mode, "problem": found.problem, "note": found.note}
    if not found.values:
        known["problem"] = found.problem or NOT_REACHED
        return known | dict.fromkeys(("median", "p95", "floor", "reached", "met")) | {"repeats": 0}
    median = statistics.median(found.values)
    singles = found.singles or found.values
    p95 = -percentile([-v for v in singles], 0.95) if row.higher else percentile(singles, 0.95)
    floor = reached = None
    if found.flops is not None and rate is not None:
        seconds = found.flops / rate
        floor = frames / seconds if row.unit == "FPS" else 1e3 * seconds
        reached = median / floor if row.higher else floor / median
    return known | {
        "median": median, "p95": p95, "repeats": len(found.values), "floor": floor, "reached": reached,
        "met": row.met(median) if judged else None, "values": [*found.values],
    }  # fmt: skip


def markdown(result: dict[str, Any]) -> str:
    """The whole as Markdown: the card, the attention backends, a line per row and mode."""
    card = result["card"]
    head = ["what", "mode", "median", "p95", "repeats", "target", "met", "published", "floor", "reached", "includes"]
    lines = [head, ["---"] * len(head)]
    for row in result["rows"]:
        if row["median"] is None:
            value = [f"{row['problem']}", "", "0"]
        else:
            value = [f"{number(row['median'])} {row['unit']}", number(row["p95"]), str(row["repeats"])]
        target = f"{'>=' if row['higher'] else '<='} {row['target']:g} {row['unit']}"
        met = {None: "", True: "yes", False: "no"}[row["met"]]
        floor = ["" if row["floor"] is None else number(row["floor"])]
        floor += ["" if row["reached"] is None else f"{row['reached']:.0%}"]
        includes = row["includes"] + (f"; {row['note']}" if row["note"] else "")
        lines.append([row["what"], row["mode"], *value, target, met, row["published"], *floor, includes])
    table = "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |" for cells in lines)
    clocks = ", ".join(f"{name.replace('_', ' ')} {card[name]}" for name in card if name in SHOWN and card[name])
    attention = "; ".join(
        f"{tokens} keys: "
        + ", ".join(f"{name} {t if isinstance(t, str) else f'{1e3 * t:.2f} ms'}" for name, t in found.items())
        for tokens, found in result["attention"].items()
    )
    speed = "an unknown rate" if result["rate"] is None else f"{result['rate'] / 1e12:.3g} TFLOP/s"
    problems = "".join(f"\n- {name}: {why}" for name, why in result["problems"].items())
    return (
        f"**{card['device']}**, torch {card['torch']}; {clocks or 'no clocks to be read'}\n\n{table}\n\n"
        f"Size {result['size']}, {result['dtype']}, {result['threads']} CPU threads. Floor: matrix products and attention at "
        f"{speed}, the best matrix product measured here. p95: of single chunks where a chunk was "
        f"timed alone, on the slow side. Attention: {attention or 'not measured'}. Took {result['seconds']:.0f} s.{problems}\n"
    )


SHOWN = ("driver", "cuda", "cudnn", "clock_mhz", "memory_clock_mhz", "top_clock_mhz", "power_limit_w", "temperature_c")


def number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
