"""Prompt schedules: one line that says which prompt holds when.

    a red disc ... [10s] | a blue disc ... [10s-25s] | a green ring ...

Parts are separated by "|". Each ends with how long it holds, [10s], or from when to when, [10s-25s]; the last may leave
that off and then holds to the end. "#" behind the time, [10s#] or [#], says that the part begins with a cut, for cache
policies that have a rule for cuts. A prompt with neither "|" nor a time at its end is an ordinary one. The line as a whole
is the sample's prompt, so the schedule is part of its identity.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from deepforcing.geometry import Geometry

NUMBER = r"\s*([0-9]+(?:\.[0-9]+)?)\s*s\s*"
TIME = re.compile(rf"(.*)\[{NUMBER}(?:-{NUMBER})?(#?)\s*\]\s*", re.S)
CUT_TO_END = re.compile(r"(.*)\[\s*#\s*\]\s*", re.S)


@dataclass(frozen=True)
class Cue:
    """One prompt of a schedule. begin, end: seconds of the video; end None: to its end. cut: it begins with a cut."""

    text: str
    begin: float
    end: float | None
    cut: bool = False


def is_schedule(text: str) -> bool:
    return "|" in text or TIME.fullmatch(text) is not None


def parse(text: str) -> tuple[Cue, ...]:
    """The cues of a line, in order and without gaps; one cue for an ordinary prompt. Raises ValueError in one line."""
    if not is_schedule(text):
        return (Cue(text, 0, None),)
    cues: list[Cue] = []
    parts = text.split("|")
    for number, part in enumerate(parts, start=1):
        where = f"part {number} of the prompt schedule"
        now = (cues[-1].end or 0.0) if cues else 0.0
        match, to_end = TIME.fullmatch(part), CUT_TO_END.fullmatch(part)
        cut = bool(match[4]) if match else to_end is not None
        part = to_end[1] if to_end else part
        if cut and not cues:
            raise ValueError(f"{where} has a cut, [#], before it, where the video begins: only later parts can")
        words = (match[1] if match else part).strip()
        if not words:
            raise ValueError(f"{where} has no prompt; write PROMPT [10s] | PROMPT [10s-25s] | PROMPT")
        if match is None:
            if number < len(parts) or words.endswith("]"):
                raise ValueError(
                    f"{where} ({words[-40:]!r}) must end with how long it holds, [10s], or from when to when, [10s-25s]; "
                    "only the last may hold to the end"
                )
            cues.append(Cue(words, now, None, cut))
            continue
        begin, end = (now, now + float(match[2])) if match[3] is None else (float(match[2]), float(match[3]))
        if end <= begin:
            raise ValueError(f"{where} ends at {end:g} s and begins at {begin:g} s: it must last longer than 0 s")
        if begin != now:
            problem = f"overlaps the part before, which holds until {now:g} s" if begin < now else "leaves a gap"
            raise ValueError(f"{where} begins at {begin:g} s and {problem}: it must begin at {now:g} s")
        cues.append(Cue(words, begin, end, cut))
    return tuple(cues)


def chunk_starts(cues: tuple[Cue, ...], geometry: Geometry, chunk_frames: int, total_frames: int) -> dict[int, str]:
    """Prompts by the latent frame of the chunk at which they begin; a video of n seconds and a cue of n seconds are
    equally long (Geometry.latent_frames). Raises ValueError for schedules that do not end where the video ends, and for
    prompts shorter than a chunk."""
    seconds = geometry.seconds(total_frames)
    starts: dict[int, str] = {}
    for number, cue in enumerate(cues, start=1):
        begin = geometry.latent_frames(cue.begin, chunk_frames) if cue.begin else 0
        if begin >= total_frames:
            raise ValueError(
                f"part {number} of the prompt schedule begins at {cue.begin:g} s, past the end of a video of {seconds:.1f} s"
            )
        if begin in starts:
            raise ValueError(
                f"parts {number - 1} and {number} of the prompt schedule begin in one chunk; "
                f"each must last at least {geometry.temporal_stride * chunk_frames / geometry.fps:g} s"
            )
        starts[begin] = cue.text
    end = cues[-1].end
    last = total_frames if end is None else geometry.latent_frames(end, chunk_frames)
    if last != total_frames:
        problem = "runs past the end of" if last > total_frames else "ends before"
        raise ValueError(
            f"the prompt schedule ends at {end:g} s and so {problem} a video of {seconds:.1f} s; "
            "leave the last part's time off to go on to the end"
        )
    return starts
