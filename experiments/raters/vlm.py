"""A vision-language model behind an OpenAI-compatible endpoint, asked about one video at a time.

Only frames and the question go out. The key comes from the environment, goes into one header, and into nothing else: what
the server says is told without it.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import math
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import httpx
import numpy as np

from deepforcing.video import iter_frames, probe
from deepforcing.yuv import Frames

PROMPT = (
    "These are {frames} frames of one generated video, in order, at equal distances over {seconds:.0f} seconds. Judge its "
    "visual stability over time: whether colours and exposure stay the same, whether details stay as sharp, whether subject "
    "and background keep their shape and identity, without flicker, artefacts or collapse. Judge nothing else: neither "
    "motion nor taste. 100 means as stable as a recorded video, 0 that the picture has fallen apart. Answer with JSON alone: "
    '{{"score": <number from 0 to 100>, "reason": "<one sentence>"}}'
)
PASSING = (408, 429, 500, 502, 503, 504)  # statuses after which the same question may be answered
LONGEST_WAIT = 60.0  # seconds
JPEG_QUALITY = 90


class OffError(ValueError):
    """The endpoint answers nobody: wrong key, address or model. The other videos need not be tried."""


@dataclass(frozen=True)
class Judge:
    """endpoint: up to and without /chat/completions. prompt: may say {frames} and {seconds}. frames: of a video, equally far
    apart, the first and the last among them. size: pixels of their longer side at most. tries: of one question."""

    endpoint: str
    model: str
    prompt: str = PROMPT
    frames: int = 16
    size: int = 512
    tries: int = 3
    timeout: float = 120.0
    key_variable: str = "OPENAI_API_KEY"

    def __post_init__(self) -> None:
        url = httpx.URL(self.endpoint)
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError("endpoint must be an address such as https://host/v1 or http://127.0.0.1:8000/v1")
        if url.userinfo or url.query or url.fragment:
            raise ValueError(
                "endpoint must hold no user, key or query: the key comes from the environment (key_variable)"
            )
        if url.scheme == "http" and not local(url.host) and self.key:
            raise ValueError(
                f"endpoint={url.scheme}://{url.host}: the key would travel in the clear; use https or unset {self.key_variable}"
            )
        try:
            self.question(1, 1.0)
        except (KeyError, IndexError, ValueError):
            raise ValueError(
                "prompt: of braces only {frames} and {seconds} have a meaning; write others twice, {{ }}"
            ) from None

    @property
    def key(self) -> str:
        return os.environ.get(self.key_variable, "").strip()

    def question(self, frames: int, seconds: float) -> str:
        return self.prompt.format(frames=frames, seconds=seconds)

    def identity(self) -> dict[str, str | int]:
        """What a score depends on, as far as anybody outside the server can say."""
        return {
            "model": self.model,
            "prompt": self.prompt,
            "frames": self.frames,
            "size": self.size,
            "jpeg_quality": JPEG_QUALITY,
        }


@dataclass(frozen=True)
class Verdict:
    """score: 0..100. answered_by: the model's name as the server gives it."""

    score: float
    reason: str
    answered_by: str


def local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def pictures(path: Path, count: int, size: int) -> list[bytes]:
    """JPEGs of frames equally far apart; fewer where the video has fewer."""
    wanted = set(np.linspace(0, probe(path).frames - 1, count).round().astype(int).tolist())
    found, number = [], 0
    for batch in iter_frames(path):
        found += [jpeg(frame, size) for n, frame in enumerate(batch, start=number) if n in wanted]
        number += len(batch)
    return found


def jpeg(frame: Frames, size: int) -> bytes:
    """frame: uint8 [H, W, 3], RGB."""
    scale = min(1.0, size / max(frame.shape[:2]))
    if scale < 1:
        height, width = (max(1, round(side * scale)) for side in frame.shape[:2])
        frame = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    done, data = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert done
    return data.tobytes()


def ask(judge: Judge, path: Path, client: httpx.Client) -> Verdict:
    """Raises ValueError if no usable answer came in as many tries as allowed, OffError if none can come."""
    info = probe(path)
    images = pictures(path, judge.frames, judge.size)
    content: list[dict[str, object]] = [{"type": "text", "text": judge.question(len(images), info.frames / info.fps)}]
    for image in images:
        url = f"data:image/jpeg;base64,{base64.b64encode(image).decode()}"
        content.append({"type": "image_url", "image_url": {"url": url}})
    body = {"model": judge.model, "temperature": 0, "messages": [{"role": "user", "content": content}]}
    said = ""
    for attempt in range(judge.tries):
        wait = min(LONGEST_WAIT, 2.0**attempt)
        try:
            answer = client.post(
                f"{judge.endpoint.rstrip('/')}/chat/completions",
                json=body,
                headers=headers(judge),
                timeout=judge.timeout,
            )
        except httpx.HTTPError as error:
            said = f"no answer ({type(error).__name__})"
        else:
            if answer.status_code == 200:
                try:
                    return read(answer.text)
                except ValueError as error:
                    said, wait = str(error), 0.0
            else:
                said = f"status {answer.status_code}: {clean(answer.text, judge.key)}"
                if answer.status_code not in PASSING:
                    raise OffError(f"{judge.endpoint} refuses: {said}")
                wait = max(wait, asked_to_wait(answer.headers.get("retry-after")))
        if attempt + 1 < judge.tries:
            time.sleep(wait)
    raise ValueError(f"{clean(said, judge.key)} ({judge.tries} tries)")


def headers(judge: Judge) -> dict[str, str]:
    return {"Authorization": f"Bearer {judge.key}"} if judge.key else {}


def asked_to_wait(text: str | None) -> float:
    return min(LONGEST_WAIT, float(text)) if text is not None and re.fullmatch(r"[0-9]{1,6}(\.[0-9]+)?", text) else 0.0


def clean(text: str, key: str) -> str:
    """A server's words in one short line, without the key if it repeats it."""
    return " ".join((text.replace(key, "***") if key else text).split())[:200]


def read(text: str) -> Verdict:
    """A chat completion's score. Raises ValueError if it is none: no number is guessed from a sentence."""
    try:
        answer = json.loads(text)
        told = answer["choices"][0]["message"]["content"]
        inner = re.search(r"\{.*\}", told, re.S)
        found = json.loads(inner[0]) if inner else {}
        score, reason = found.get("score"), str(found.get("reason", ""))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        raise ValueError("the answer is no chat completion with JSON in it") from None
    if (
        isinstance(score, bool)
        or not isinstance(score, int | float)
        or not math.isfinite(score)
        or not 0 <= score <= 100
    ):
        raise ValueError("the answer has no score from 0 to 100")
    return Verdict(float(score), " ".join(reason.split())[:300], str(answer.get("model", ""))[:100])
