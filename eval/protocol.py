"""Which clips of a video are scored, and from which pixels: the protocol that a number belongs to.

vbench               the whole video is one clip (VBench 0.1.5, mode custom_input)
vbench_long          clips of 2 s, each encoded once more as VBench-Long does, scores of the second generation
vbench_long_memory   the same clips of the video's own pixels: faster, and not the published protocol
vbench_last          the last of these clips, of the video's own pixels: what is left of a long video, at a fraction of the cost
windows              clips of any length, one after the other, of the video's own pixels: for curves over time
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from eval.measure.windows import Window, windows

NAMES = ("vbench", "vbench_long", "vbench_long_memory", "vbench_last", "windows")
LONG_SECONDS = 2  # VBench-Long's mode long_custom_input


@dataclass(frozen=True)
class Protocol:
    """window_seconds: of `windows` alone."""

    name: str = "windows"
    window_seconds: float = 2.0

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise ValueError(f"protocol={self.name!r} is unknown; there are {', '.join(NAMES)}")

    @property
    def length_key(self) -> float:
        """The length of the windows in seconds, 0 where the protocol has no choice of it: part of a score's identity."""
        return self.window_seconds if self.name == "windows" else 0.0

    @property
    def encodes(self) -> bool:
        """Whether clips are encoded once more before they are scored."""
        return self.name == "vbench_long"

    def clips(self, n_frames: int, fps: float) -> list[Window]:
        """The clips of a video, in order; the last may overlap the one before it (VBench-Long)."""
        if self.name == "windows":
            return windows(n_frames, fps, self.window_seconds)
        if self.name == "vbench":
            return [Window(0, n_frames, 0.0, n_frames / fps)]
        clips = long_clips(n_frames, fps)
        return clips[-1:] if self.name == "vbench_last" else clips

    def clip_fps(self, fps: float) -> float:
        """Frames a second of a clip (ClipInfo.fps) of a video with `fps`: VBench-Long's files have whole numbers."""
        return fps if self.name in ("vbench", "windows") else int(fps)

    def without_times(self, path: Path, fault: str) -> str:
        """What becomes of a video whose frames come unevenly. ValueError under `windows`, which are cut by time."""
        if self.name == "windows":
            raise ValueError(
                f"{path} has no even frame rate ({fault}), so windows of time cannot be cut by its frames' numbers; encode "
                f"it once more at one rate, for example with ffmpeg -i {path.name} -vf fps=16 OUT.mp4"
            )
        return (
            f"its frame rate is not even ({fault}); protocol={self.name} goes by the numbers of frames, as VBench does, and "
            "its times are number / mean frame rate"
        )


def long_clips(n_frames: int, fps: float) -> list[Window]:
    """VBench-Long's clips: n = 2 int(fps) frames each; a remainder becomes a clip of the video's last n frames.

    A video shorter than n frames is one clip of all of them. (vbench2_beta_long.utils, split_video_into_clips.)
    Raises ValueError for less than one frame a second, of which VBench-Long can make no clip.
    """
    if not fps >= 1:
        raise ValueError(f"fps={fps} is less than one frame a second, which VBench-Long cannot cut into clips")
    length = LONG_SECONDS * int(fps)
    if n_frames < length:
        starts, length = [0], n_frames
    else:
        starts = list(range(0, n_frames - length + 1, length))
        if n_frames % length:
            starts.append(n_frames - length)
    return [Window(start, start + length, start / fps, (start + length) / fps) for start in starts]
