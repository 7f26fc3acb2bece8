"""The judge against an endpoint of this machine: what goes out, what comes back, what is written, and what never is."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from commands import Command, Outcome
from report_runs import write_run

from deepforcing.video import VideoWriter
from experiments.raters import vlm
from experiments.raters.vlm import Judge, pictures, read

KEY = "sk-very-secret-key"
Reply = Callable[[int, dict[str, Any]], tuple[int, str]]


def completion(content: str, model: str = "served-model") -> str:
    return json.dumps({"model": model, "choices": [{"message": {"role": "assistant", "content": content}}]})


class Endpoint:
    """An OpenAI-compatible server that answers as it is told, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.reply: Reply = lambda number, body: (200, completion('{"score": 70, "reason": "calm"}'))
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                endpoint.asked.append(body)
                endpoint.headers.append({"path": self.path, **dict(self.headers)})
                status, text = endpoint.reply(len(endpoint.asked), body)
                self.send_response(status)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *of: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setattr(vlm.time, "sleep", lambda seconds: None)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    made = Endpoint()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    return [
        write_run(
            tmp_path / "runs", "plain", spec={"generator": {"name": "self_forcing"}, "cache": {"name": "self_forcing"}}
        ),
        write_run(tmp_path / "runs", "other"),
    ]


@pytest.fixture
def judge(command: Command, endpoint: Endpoint, runs: list[Path]) -> Callable[..., Outcome]:
    def call(*words: str) -> Outcome:
        given = [f"runs=[{','.join(map(str, runs))}]", f"endpoint={endpoint.address}", "vlm=a-model", "frames=4"]
        keys = {word.partition("=")[0] for word in words}
        return command("judge", *(word for word in given if word.partition("=")[0] not in keys), *words)

    return call


def test_scores_like_any_metrics_and_nothing_asked_twice(
    judge: Callable[..., Outcome],
    command: Command,
    endpoint: Endpoint,
    runs: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    endpoint.reply = lambda number, body: (200, completion(f'Sure: {{"score": {10 * number}, "reason": "x"}}'))
    status, out, err = judge()
    assert (status, err) == (0, "")
    assert len(endpoint.asked) == 6
    assert "| plain | 3 | 20.0 [" in out
    assert "| 43.94 |" in out  # of Self Forcing; the other run is none of the paper's
    assert "| other | 3 | 50.0 [" in out
    first = endpoint.asked[0]
    assert (first["model"], first["temperature"]) == ("a-model", 0)
    text, *images = first["messages"][0]["content"]
    assert "These are 4 frames" in text["text"]
    assert len(images) == 4
    assert {h["Authorization"] for h in endpoint.headers} == {f"Bearer {KEY}"}
    assert {h["path"] for h in endpoint.headers} == {"/v1/chat/completions"}
    judges = json.loads((runs[0] / "scores" / "judges.json").read_text())
    (told,) = judges.values()
    assert (told["model"], told["answered_by"], told["frames"]) == ("a-model", ["served-model"], 4)
    assert "visual stability" in told["prompt"]
    assert judge().out.splitlines()[-1] == out.splitlines()[-1]
    assert len(endpoint.asked) == 6, "nothing is asked twice"
    written = [path for run in runs for path in run.rglob("*") if path.is_file()]
    assert not [path for path in written if KEY.encode() in path.read_bytes()]
    assert KEY not in out
    status, out, err = command(
        "table", f"runs=[{runs[0]},{runs[1]}]", "metrics=visual_stability", "protocol=vbench", "baseline=plain"
    )
    assert status == 0, err
    assert "20.0" in out
    assert "50.0" in out


def test_scores_by_another_judge_are_kept_apart(
    judge: Callable[..., Outcome], command: Command, endpoint: Endpoint, runs: list[Path]
) -> None:
    judge(f"runs={runs[0]}")
    judge(f"runs={runs[1]}", "vlm=b-model")
    status, out, err = command("table", f"runs=[{runs[0]},{runs[1]}]", "metrics=visual_stability", "protocol=vbench")
    assert (status, out) == (2, "")
    assert "different weights" in err
    assert (
        "| plain | 0 |"
        in judge(f"runs={runs[0]}", "prompt='Score? {frames}'", "tries=1", "endpoint=http://127.0.0.1:9/v1").out
    )


def test_answers_that_are_none(judge: Callable[..., Outcome], endpoint: Endpoint, runs: list[Path]) -> None:
    """They are asked again; at last the video has no score, and the others have theirs."""

    def reply(number: int, body: dict[str, Any]) -> tuple[int, str]:
        if number <= 3:
            return 200, completion("I would say 80 out of 100.")
        if number == 4:
            return 503, "busy"
        if number == 5:
            return 200, completion('{"score": 101}')
        return 200, completion('```json\n{"score": 60}\n```')

    endpoint.reply = reply
    status, out, err = judge(f"runs={runs[0]}")
    assert status == 1
    assert err.count("\n") == 1
    assert "the answer has no score from 0 to 100 (3 tries)" in err
    assert "| plain | 2 | 60.0" in out
    endpoint.reply = lambda number, body: (200, completion('{"score": 0}'))
    assert judge(f"runs={runs[0]}").status == 0
    assert len(endpoint.asked) == 3 + 3 + 1 + 1


def test_a_refusal_ends_it_and_does_not_show_the_key(
    judge: Callable[..., Outcome], endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    endpoint.reply = lambda number, body: (401, f"Incorrect API key provided:\n {KEY}")
    status, out, err = judge()
    assert status == 1
    assert len(endpoint.asked) == 1
    assert "status 401: Incorrect API key provided: ***" in err
    assert err.count("\n") == 1
    assert KEY not in out + err


def test_nobody_answers(judge: Callable[..., Outcome], runs: list[Path]) -> None:
    status, _, err = judge("endpoint=http://127.0.0.1:9/v1", f"runs={runs[0]}", "tries=2")
    assert status == 1
    assert err.count("no answer (ConnectError) (2 tries)") == 3


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["endpoint=null"], "the judge is off: say endpoint="),
        (["vlm=null"], "the judge is off"),
        (["runs=null"], "no runs given"),
        (["endpoint=ftp://127.0.0.1"], "must be an address such as"),
        (["endpoint=somewhere"], "must be an address such as"),
        (["endpoint=https://user:hidden@host/v1"], "must hold no user, key or query"),
        (["'endpoint=\"https://host/v1?key=hidden\"'".strip("'")], "must hold no user, key or query"),
        (["endpoint=http://example.org/v1"], "would travel in the clear"),
        (["frames=0"], "frames=0 must be a whole number"),
        (["prompt='{secret}'"], "only {frames} and {seconds} have a meaning"),
        (["prompt=' '"], "must have 1 to 20000 characters"),
    ],
)
def test_wrong_words(
    words: list[str], says: str, judge: Callable[..., Outcome], endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    status, out, err = judge(*words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert says in err
    assert not {"hidden", KEY} & set(err.replace(":", " ").replace("@", " ").split())
    assert endpoint.asked == []


def test_pictures_are_the_videos_frames(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "v.mp4", 64, 32, fps=8) as writer:
        writer.write(np.stack([np.full((32, 64, 3), 10 * n, np.uint8) for n in range(21)]))
    found = [
        cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR) for image in pictures(tmp_path / "v.mp4", 5, 32)
    ]
    assert [image.shape for image in found] == [(16, 32, 3)] * 5
    assert [float(image.mean()) for image in found] == pytest.approx([0, 50, 100, 150, 200], abs=2)
    assert len(pictures(tmp_path / "v.mp4", 100, 32)) == 21
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 255
    assert cv2.imdecode(np.frombuffer(vlm.jpeg(red, 8), np.uint8), cv2.IMREAD_COLOR)[0, 0].tolist() == pytest.approx(
        [0, 0, 254], abs=3
    )


NONE = ["70", '{"score": "70"}', '{"score": true}', '{"score": NaN}', '{"score": -1}', "{" * 9999]


@pytest.mark.parametrize("text", ["", "[]", "{}", *map(completion, NONE)], ids=range(9))
def test_no_number_is_guessed(text: str) -> None:
    with pytest.raises(ValueError, match="the answer"):
        read(text)


def test_the_key_is_no_part_of_a_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    judge = Judge("https://host/v1", "m")
    assert judge.key == KEY
    assert KEY not in repr(judge) + json.dumps(judge.identity())
    assert base64.b64encode(KEY.encode()).decode() not in repr(judge)
