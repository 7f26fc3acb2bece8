"""Scores of a set of videos: each is looked at alone, and then what was seen of all is compared.

Such a score belongs to the set. Its rows carry a digest of the set (eval.videos.Videos.digest), and with another video, or
one made anew, all are scored again. A look at a few frames of every window is enough, so the videos are decoded once more
for it, and little else is done.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch

from deepforcing.runs import check_writable
from eval.measure.metric import Row, rows_of
from eval.measure.one_pass import OnePass
from eval.measure.set_metric import SetMetric
from eval.protocol import Protocol
from eval.store import COLUMNS, KEYS, add_rows, scored, scores_path, settle
from eval.videos import Video, Videos, checked


def score_set(
    group: Videos, sound: Sequence[Video], metric: SetMetric, protocol: Protocol, weights_sha256: str,
    device: torch.device,
) -> list[str]:  # fmt: skip
    """Score the sound videos of a group together, unless all of them have been. Returns one line for each that cannot be.

    Raises ValueError if a scores file is unreadable, OSError if nothing can be written.
    """
    path = scores_path(group.home, metric.name, metric.version)
    done, digest = scored(path, protocol, weights_sha256), group.digest
    if all((video.name, video.sha256, digest) in done for video in sound):
        return []
    check_writable(group.home / "scores", key="out" if group.folder else "runs")
    kept: list[tuple[Video, OnePass]] = []
    problems = []
    for video in sound:
        try:
            one = OnePass([metric], protocol, checked(video), video, group, device)
            one.run()
            if one.failed:
                raise ValueError(one.failed[metric.name])
            kept.append((video, one))
        except ValueError as error:
            problems.append(f"{group.name}: sample {video.name}: {metric.name}: {error}")
    prompts = [video.name if video.prompt is None else video.prompt for video, _ in kept]
    found = metric.compare([one.features[metric.name] for _, one in kept], prompts)
    parts = []
    for (video, one), numbers in zip(kept, found, strict=True):
        rows = [row for value in metric.values for row in rows_of(value.name, one.clips, numbers[value.name])]
        part = pd.DataFrame(rows, columns=list(Row._fields))
        parts.append(part.assign(sample=video.name, video_sha256=video.sha256))
    if not parts:
        return problems
    table = pd.concat(parts, ignore_index=True).assign(
        run=group.name,
        version=metric.version,
        protocol=protocol.name,
        weights_sha256=weights_sha256,
        prompt_sha256=digest,
        window_seconds=protocol.length_key,
    )
    add_rows(path, table[COLUMNS + KEYS])  # all at once: a set is scored or it is not
    settle(path)
    return problems
