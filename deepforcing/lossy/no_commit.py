"""No clean pass: what a chunk's last denoising pass computed is what later chunks attend to. One pass of five less.

Those keys and values are of the noisy chunk at the schedule's last level, not of the finished one at timestep 0, which is what
the published models were trained to read. Self Forcing's interactive demo leaves the pass out for a video's last chunk, where
nothing reads it. A shorter clean pass is cache.commit_frames (Commit Forcing).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from deepforcing.lossy.exact import Exact

if TYPE_CHECKING:
    from deepforcing.generator import GeneratorSpec


@dataclass(frozen=True)
class NoCommit(Exact):
    """Chunks that are given (start_from) still have their clean pass, the only one that they have."""

    chunkwise: ClassVar[bool] = True
    cleans: ClassVar[bool] = False

    def check(self, spec: GeneratorSpec) -> None:
        super().check(spec)
        cache = spec.cache
        why = None
        if cache.commit_frames is not None:
            why = "its clean pass reads other frames than denoising (cache.commit_frames)"
        elif cache.bias is not None:
            why = "its bias is for denoising alone"
        elif cache.retention.needs(spec.chunk_frames).gap is not None:
            why = "it chooses tokens by the finished chunk"
        if why is not None:
            raise ValueError(f"lossy={self.name} does not fit cache {cache.name or 'policy'!r}: {why}; use lossy=exact")
