"""What is measured of a set of videos: each is looked at alone, and then what was seen of all is compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

from eval.measure.metric import Metric
from eval.measure.windows import FloatArray


@runtime_checkable
class SetMetric(Metric, Protocol):
    """A metric whose scores belong to the set of videos that they were made with, and are not made of one video by `rows`.

    They are of the videos' own pixels.
    """

    protocols: ClassVar[tuple[str, ...]] = ("windows", "vbench", "vbench_long_memory")

    def compare(self, features: Sequence[Sequence[Any]], prompts: Sequence[str]) -> Sequence[Mapping[str, FloatArray]]:
        """Of every video one array [W] per name in `values`.

        features: of each video, what `finish` gave of each of its clips. prompts: what each video shows.
        """
