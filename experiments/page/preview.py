"""Videos small enough to be put into a page."""

from __future__ import annotations

import io
from pathlib import Path

import av

from deepforcing.video import CONTAINERS, NO_VIDEO

WIDTH = 416  # pixels: half of 832
CRF = "27"


def preview(path: Path) -> bytes:
    """The video again as mp4 (H.264), at most WIDTH wide, in coarser quality. Raises ValueError naming the file."""
    buffer = io.BytesIO()
    try:
        with (
            av.open(str(path.absolute()), container_options=CONTAINERS) as source,
            av.open(buffer, "w", format="mp4") as target,
        ):
            video = source.streams.video[0]
            shrink = min(1.0, WIDTH / video.width)
            stream = target.add_stream("libx264", rate=video.average_rate)
            stream.width, stream.height = (max(2, round(size * shrink / 2) * 2) for size in (video.width, video.height))
            stream.pix_fmt, stream.options = "yuv420p", {"crf": CRF, "preset": "veryfast"}
            for frame in source.decode(video):
                small = frame.reformat(width=stream.width, height=stream.height, format="yuv420p", interpolation="AREA")
                target.mux(stream.encode(small))
            target.mux(stream.encode())
    except av.error.ArgumentError as error:
        raise ValueError(NO_VIDEO.format(path)) from error
    except av.FFmpegError as error:
        raise ValueError(
            f"{path} cannot be read as a video ({error}); delete it and its .json, roll out again"
        ) from error
    return buffer.getvalue()
