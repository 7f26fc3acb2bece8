"""The networks compiled in batches of one size and replayed from recordings: the same values, by fewer kinds of call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from eval.networks import backend
from eval.networks.batches import in_parts, pairs_at_once, room

CPU = torch.device("cpu")


class Recorder:
    """In place of CUDA graphs: a replay does the work again, on the inputs where they lay, into the same output."""

    def __init__(self, refused: bool = False) -> None:
        self.recordings, self.replays, self.refused = 0, 0, refused

    def __call__(self, work: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        if self.refused:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        self.recordings += 1
        out = work()

        def replay() -> None:
            self.replays += 1
            out.copy_(work())

        return out, replay


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.sizes = nn.Linear(5, 3), []  # type: ignore[var-annotated]

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        out: Tensor = self.linear(x).relu()
        return out


@pytest.fixture
def network() -> Iterator[Network]:
    yield Network().eval().requires_grad_(False)
    backend.use("plain", CPU)


def uncompiled(monkeypatch: pytest.MonkeyPatch, recorder: Recorder | None) -> None:
    """The backend without its compiler, which takes seconds and is tried by the slow test."""
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    monkeypatch.setattr(backend, "in_use", backend.Compiled(recorder))


def test_calls_are_of_one_size_and_replayed_once_they_are_known(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    batches = [torch.randn(n, 5, generator=torch.Generator().manual_seed(n)) for n in (9, 4, 6, 1)]
    with torch.inference_mode():
        wanted = [network(batch) for batch in batches]
        uncompiled(monkeypatch, recorder)
        network.sizes.clear()
        found = [in_parts(network, batch) for batch in batches]
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)
    assert set(network.sizes) == {4}
    assert (recorder.recordings, recorder.replays) == (1, 7 - backend.SEEN)
    with torch.inference_mode():
        kept = in_parts(network, batches[1])
        other = in_parts(network, batches[3])
    torch.testing.assert_close((kept, other), (wanted[1], wanted[3]), rtol=0, atol=1e-6)  # not overwritten


def test_sizes_of_pictures_are_recorded_apart(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    uncompiled(monkeypatch, recorder)
    with torch.inference_mode():
        for _ in range(backend.SEEN + 2):
            for length in (2, 7):
                backend.run(network, torch.ones(1, length, 5))
    assert (recorder.recordings, recorder.replays) == (2, 4)


def test_what_cannot_be_recorded_or_compiled_is_told_once_and_runs(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.ones(4, 5)
    uncompiled(monkeypatch, Recorder(refused=True))
    with pytest.warns(UserWarning, match=r"Network cannot be recorded .* capturing$") as told:
        several(network, x)
    assert len(told) == 1

    def broken(function: Callable[[Tensor], Tensor], **_: object) -> Callable[[Tensor], Tensor]:
        def call(_: Tensor) -> Tensor:
            raise torch._dynamo.exc.Unsupported("no way")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    monkeypatch.setattr(backend, "in_use", backend.Compiled(None))
    with pytest.warns(UserWarning, match="Network cannot be compiled .* no way") as told:
        several(network, x)
    assert len(told) == 1


@torch.inference_mode()
def several(network: Network, x: Tensor) -> None:
    for _ in range(backend.SEEN + 3):
        torch.testing.assert_close(in_parts(network, x), network(x))


@pytest.mark.parametrize(("gigabytes", "pairs"), [(8, 1), (24, 2), (80, 8)])
def test_batches_are_sized_for_the_card(gigabytes: int, pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    card = SimpleNamespace(total_memory=gigabytes * 10**9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: card)
    room.cache_clear()
    assert pairs_at_once(480, 832, torch.device("cuda")) == pairs
    room.cache_clear()
