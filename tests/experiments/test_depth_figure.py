"""The probe of an adaptive sink's depth, and its figure: what was told is what is written and drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from depths import write_depths
from matplotlib.figure import Figure
from report_runs import write_run

from experiments.figures.depth import Depth, course_of
from experiments.probes.depth import Depth as Probe


def test_each_video_has_its_own_file(tmp_path: Path) -> None:
    write_depths(Probe(tmp_path, ["a", "b"]))
    one = course_of(Probe.file(tmp_path, "b"))
    assert one["start"].tolist() == [21, 24, 27]
    assert one["layer"].tolist() == [0, 1]
    assert one["depth"].tolist() == [[11, 12], [10, 11], [9, 10]]
    assert one["drift"].tolist() == [[1, 1], [3, 3], [5, 5]]


def test_a_policy_that_chooses_no_depth_has_an_empty_file_and_no_figure(tmp_path: Path) -> None:
    run = write_run(tmp_path, "deep_sink")
    probe = Probe(run / "probes", [file.stem for file in (run / "samples").glob("*.json")])
    probe.close()
    assert all(course_of(Probe.file(run / "probes", sample)) == {} for sample in probe.samples)
    with pytest.raises(ValueError, match="adaptive_sink_motion"):
        Depth().read([run])


def test_the_drawn_points_are_means_over_videos_and_layers(tmp_path: Path) -> None:
    run = write_run(tmp_path, "adaptive_sink_motion")
    probe = Probe(run / "probes", [file.stem for file in sorted((run / "samples").glob("*.json"))])
    write_depths(probe)
    canvas, last = Figure(), (len(probe.samples) - 1) / 2
    data = Depth().read([run])
    Depth().draw(canvas, data)
    depth, motion, drift = (axes.lines[0].get_xydata() for axes in canvas.axes)
    np.testing.assert_allclose(depth, [[21, 10.5 + last], [24, 9.5 + last], [27, 8.5 + last]])
    np.testing.assert_allclose(motion, [[21, 1], [24, 3], [27, 5]])
    np.testing.assert_allclose(drift, motion)
