"""The fuzz targets on their seeds, and on a program with a fault that each has to notice."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from fuzz.source import Source, pieces
from fuzz.targets import NAMES, load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vknet.framing import Decoded, Decoder, Hello


@pytest.mark.parametrize("name", NAMES)
def test_target_finds_nothing_in_its_seeds(name: str) -> None:
    target = load(name)
    seeds = target.seeds()
    assert len(seeds) >= 6
    for seed in seeds.values():
        target.run(seed)
        assert len(seed) <= target.MAX_SIZE


def lose_a_frame(feed: Callable[[Decoder, Any], Decoded]) -> Callable[[Decoder, Any], Decoded]:
    """Return a `Decoder.feed` that loses the first frame of a piece that ends inside a block."""

    def faulty(decoder: Decoder, data: bytes) -> Decoded:
        decoded = feed(decoder, data)
        if decoder.held and decoded.batches:
            decoded.batches[0] = decoded.batches[0][1:]
        return decoded

    return faulty


def plant(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Put a fault into the code that a target runs."""
    target: Any = load(name)
    match name:
        case "decoder":
            monkeypatch.setattr(target.Decoder, "feed", lose_a_frame(target.Decoder.feed))
        case "hello":
            read: Callable[[bytes], Hello] = target.Hello.from_json

            def with_another_limit(payload: bytes) -> Hello:
                hello = read(payload)
                return replace(hello, frame_limit=hello.frame_limit + 1)

            monkeypatch.setattr(target.Hello, "from_json", with_another_limit)
        case "session":
            send = target.Session.data_to_send
            monkeypatch.setattr(target.Session, "data_to_send", lambda self: send(self) * 2)
        case "packet":
            monkeypatch.setattr("vknet.packet.gso._fold", lambda total: total % 0xFFFF ^ 1)
        case "filter":
            monkeypatch.setattr(target.FILTER.__class__, "check", lambda *_: None)
        case "describe":
            monkeypatch.setattr(target, "describe", lambda frame: f"{frame!r}, length {len(frame)}")
        case "control":
            monkeypatch.setattr("vknet.vknetd.status.escaped", lambda line, **_: line)
        case _:
            raise AssertionError(f"no fault for {name}")


def run_all(name: str, inputs: Iterable[bytes]) -> None:
    target = load(name)
    for data in inputs:
        target.run(data)


@pytest.mark.parametrize("name", NAMES)
def test_target_notices_a_fault(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = load(name).seeds()
    plant(monkeypatch, name)
    with pytest.raises(AssertionError):
        run_all(name, seeds.values())


def test_source_gives_zeros_behind_its_end() -> None:
    source = Source(b"\1\2\3")
    assert source.number(2) == 0x0201
    assert source.choice("abc") == "a"
    assert not source
    assert source.number(8) == 0
    assert source.rest() == b""


@pytest.mark.parametrize("pattern", range(8))
@pytest.mark.parametrize("size", [0, 1, 8, 100, 5000])
def test_pieces_are_the_whole(pattern: int, size: int) -> None:
    data = bytes(number % 251 for number in range(size))
    cut = [*pieces(data, pattern)]
    assert b"".join(cut) == data
    assert len(cut) <= 32
