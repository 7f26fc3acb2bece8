"""Plain folders of videos: what of them is scored, which prompt belongs to which file, and what costs one video."""

from __future__ import annotations

import json
import os
from pathlib import Path

import av
import pytest

from deepforcing.video import sha256_file
from eval.videos import checked, open_folder

NAMES = ("a red-0.mp4", "b_blue.mp4", "c.mp4")
PROMPTS = ("a red ball", "a blue, blue ball", "nothing “at all”")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in reversed(NAMES):
        (folder / name).write_bytes(name.encode())
    (folder / "notes.txt").write_text("not a video")
    (folder / "deeper").mkdir()
    return folder


def listed(kind: str) -> str:
    by_name = dict(zip(NAMES, PROMPTS, strict=True))
    by_stem = {Path(name).stem: prompt for name, prompt in by_name.items()}
    rows = [{"video": name, "prompt": prompt} for name, prompt in by_name.items()]
    return {
        "named.json": json.dumps(by_name),
        "stems.json": json.dumps(by_stem),
        "paths.json": json.dumps({f"/elsewhere/{name}": prompt for name, prompt in by_name.items()}),
        "list.json": json.dumps(list(PROMPTS)),
        "rows.json": json.dumps(rows),
        "rows.jsonl": "\n".join(map(json.dumps, reversed(rows))) + "\n",
        "table.csv": "video,prompt\n" + "".join(f'{name},"{prompt}"\n' for name, prompt in by_name.items()),
        "lines.txt": "\n".join(PROMPTS) + "\n",
    }[kind]


KINDS = ("named.json", "stems.json", "paths.json", "list.json", "rows.json", "rows.jsonl", "table.csv", "lines.txt")


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_find_their_videos(folder: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / kind).write_text(listed(kind), encoding="utf-8-sig")
    group = open_folder(folder, tmp_path / kind, tmp_path / "out")
    assert [(video.path.name, video.prompt) for video in group.videos] == list(zip(NAMES, PROMPTS, strict=True))
    assert [video.name for video in group.videos] == ["a red-0", "b_blue", "c"]
    assert [video.sha256 for video in group.videos] == [sha256_file(folder / name) for name in NAMES]
    assert group.home == tmp_path / "out"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("short.txt", "one\ntwo\n", "2 prompts for 3 videos"),
        ("less.json", json.dumps({NAMES[0]: "x"}), r"no prompt for b_blue\.mp4, c\.mp4"),
        ("broken.json", "{", "cannot be read"),
        ("numbers.json", json.dumps({NAMES[0]: 3}), "cannot be read"),
        ("columns.csv", "film,text\na,b\n", "cannot be read"),
        ("latin.txt", b"caf\xe9", "not UTF-8"),
        ("texts.jsonl", '"a"\n"b"\n"c"\n', "every row needs a video"),
        ("numbers_only.json", "[1, 2, 3]", "every row needs a video"),
        ("endless.json", "[" * 100_000, "cannot be read"),
    ],
)
def test_prompts_that_do_not_fit_are_named(
    folder: Path, tmp_path: Path, name: str, content: str | bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ValueError, match=reason) as error:
        open_folder(folder, tmp_path / name, tmp_path / "out")
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_folders_without_videos_are_named(folder: Path, tmp_path: Path) -> None:
    for wrong in (tmp_path / "nowhere", folder / "notes.txt", folder / "deeper"):
        with pytest.raises(ValueError, match=str(wrong)):
            open_folder(wrong, None, tmp_path)
    assert all(video.prompt is None for video in open_folder(folder, None, tmp_path).videos)


def test_a_prompt_keeps_its_lines(folder: Path, tmp_path: Path) -> None:
    """A line ends where the format says: not at U+2028, and not at a newline between a csv's quotes."""
    prompts = ["first\u2028half", "b", "c"]
    rows = [{"video": name, "prompt": prompt} for name, prompt in zip(NAMES, prompts, strict=True)]
    (tmp_path / "p.txt").write_bytes("\r\n".join(prompts).encode())
    (tmp_path / "p.jsonl").write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    for name in ("p.txt", "p.jsonl"):
        group = open_folder(folder, tmp_path / name, tmp_path)
        assert [video.prompt for video in group.videos] == prompts
    (tmp_path / "p.csv").write_text(f'video,prompt\n{NAMES[0]},"two\nlines"\n{NAMES[1]},b\n{NAMES[2]},c\n')
    assert open_folder(folder, tmp_path / "p.csv", tmp_path).videos[0].prompt == "two\nlines"


def test_files_that_cannot_be_videos_of_a_table_are_named(folder: Path, tmp_path: Path) -> None:
    (folder / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (folder / os.fsdecode(b"caf\xe9.mp4")).write_bytes(b"x")
    group = open_folder(folder, None, tmp_path)
    assert [video.path.name for video in group.videos] == list(NAMES)
    assert len(group.problems) == 2
    assert "gone.mp4: a link to nothing" in group.problems
    assert any("not UTF-8" in problem and problem.isprintable() for problem in group.problems)


def test_a_broken_file_keeps_its_place_in_a_list_by_order(folder: Path, tmp_path: Path) -> None:
    (folder / "b_lue.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (tmp_path / "p.txt").write_text("\n".join([*PROMPTS[:2], "of the link", PROMPTS[2]]))
    group = open_folder(folder, tmp_path / "p.txt", tmp_path)
    assert [video.prompt for video in group.videos] == list(PROMPTS)
    assert group.problems == ("b_lue.mp4: a link to nothing",)
    (tmp_path / "p.txt").write_text("\n".join(PROMPTS))
    with pytest.raises(ValueError, match="3 prompts for 4 videos"):
        open_folder(folder, tmp_path / "p.txt", tmp_path)


@pytest.mark.parametrize("name", ["two\nlines.mp4", "two\u2028lines.mp4", " .mp4", "esc\x1b[31m.mp4"])
def test_a_name_that_no_table_can_hold_is_told_in_one_line(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).write_bytes(b"x")
    group = open_folder(folder, None, tmp_path)
    assert [video.path.name for video in group.videos] == list(NAMES)
    assert len(group.problems) == 1
    assert group.problems[0].isprintable()


@pytest.mark.parametrize("bad", ["half \ud83d", "nul \0", "escape \x1b[31m", "x" * 10_001, " "])
@pytest.mark.parametrize("kind", ["named.json", "list.json", "rows.jsonl", "rows.json"])
def test_a_caption_that_is_none_costs_its_video(folder: Path, tmp_path: Path, kind: str, bad: str) -> None:
    content = listed(kind).replace(json.dumps(PROMPTS[1]), json.dumps(bad))
    assert json.dumps(bad) in content
    (tmp_path / kind).write_text(content, encoding="utf-8")
    group = open_folder(folder, tmp_path / kind, tmp_path / "out")
    assert [video.path.name for video in group.videos] == [NAMES[0], NAMES[2]]
    assert len(group.problems) == 1
    assert group.problems[0].startswith(f"{NAMES[1]}: the prompt ")
    assert group.problems[0].isprintable()
    assert all(len(video.prompt_sha256) == 64 for video in group.videos)


def test_a_long_cell_costs_its_video_too(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(f"video,prompt\n{NAMES[0]},x\n{NAMES[1]},{'y' * 200_000}\n{NAMES[2]},z\n")
    group = open_folder(folder, tmp_path / "p.csv", tmp_path)
    assert [video.prompt for video in group.videos] == ["x", "z"]
    assert group.problems == (f"{NAMES[1]}: the prompt has 200000 characters, the limit is 10000",)


def test_other_containers_are_videos_too_and_the_rest_is_named(folder: Path, tmp_path: Path) -> None:
    for name in ("d.MOV", "e.mkv", "f.webm", "g.m4v", "h.avi", "c.mov", "i.gif", "j.gif", "k.mpg", ".hidden.gif"):
        (folder / name).write_bytes(name.encode())
    (folder / "deeper" / "still").mkdir()
    assert open_folder(folder, None, tmp_path).notes == (
        f"videos={folder}: left out: 2 .gif, 1 .mpg; only .mp4, .m4v, .mov, .mkv, .webm or .avi files are scored",
    )
    (folder / "deeper" / "still" / "l.webm").write_bytes(b"l")
    group = open_folder(folder, None, tmp_path)
    assert [video.name for video in group.videos] == ["a red-0", "b_blue", "c.mov", "c.mp4", *"defgh"]
    assert "2 .gif, 1 .mpg, 1 folder with videos" in group.notes[0]


def test_a_folder_of_other_things_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("a.gif", "b.gif", "c.png", "notes"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ValueError, match=r"no \.mp4, .* file; it holds 2 \.gif, .*1 folder") as error:
        open_folder(tmp_path, None, tmp_path)
    assert "1 .png" in str(error.value)
    assert "1 file without an ending" in str(error.value)


def test_sample_names_are_never_shared(tmp_path: Path) -> None:
    for name in ("a.mp4", "a.mov", "a.mp4.mkv"):
        (tmp_path / name).write_bytes(name.encode())
    names = [video.name for video in open_folder(tmp_path, None, tmp_path).videos]
    assert len(set(names)) == 3


def test_numbers_in_names_go_by_value(tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / f"{number}-0_ema.mp4").write_bytes(bytes([number]))
    (tmp_path / "p.txt").write_text("\n".join(f"prompt {number}" for number in range(12)))
    group = open_folder(tmp_path, tmp_path / "p.txt", tmp_path)
    assert [(video.name, video.prompt) for video in group.videos] == [(f"{i}-0_ema", f"prompt {i}") for i in range(12)]


def test_a_small_file_of_huge_frames_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "v" / "bomb.mp4"
    path.parent.mkdir()
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=16)
        stream.width = stream.height = 4096
        stream.pix_fmt, stream.options = "yuv420p", {"preset": "ultrafast"}
        frame = av.VideoFrame(4096, 4096, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        for _ in range(2):
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    assert path.stat().st_size < 100_000
    (video,) = open_folder(path.parent, None, tmp_path / "out").videos
    with pytest.raises(ValueError, match=r"bomb\.mp4 is 4096 x 4096 pixels; up to 9\.4 million a frame can be scored"):
        checked(video)
