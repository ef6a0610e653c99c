"""Endpoints that need no rights: in memory, and on a SOCK_SEQPACKET socket.  TAPs: tests/hosts/."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import trio

from tests.support.conformance import CHECKS, Rig, frame
from tests.support.superframes import Super, checksums_hold, parts
from vknet import EndpointGone, SeqpacketEndpoint, SetupError, UsageError
from vknet.counters import DropReason
from vknet.endpoints import memory_endpoint_pair, open_endpoint
from vknet.endpoints.mmsg import CHUNK, receive_messages
from vknet.endpoints.seqpacket import open_seqpacket
from vknet.packet.ethernet import LONGEST_FRAME
from vknet.packet.virtio import ALL_OFFLOADS, NO_OFFLOADS, Offload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from pathlib import Path


class MemoryRig(Rig):
    def __init__(self) -> None:
        self.endpoint, self.other = memory_endpoint_pair()

    async def inject(self, frames: Sequence[bytes]) -> None:
        await self.other.send(frames)

    async def taken(self, count: int) -> list[bytes]:
        got: list[bytes] = []
        while len(got) < count:
            got += map(bytes, await self.other.receive())
        return got

    async def destroy(self) -> None:
        await self.other.aclose()


class SeqpacketRig(Rig):
    def __init__(self) -> None:
        one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.endpoint = SeqpacketEndpoint(one, "a socket")
        self.other = trio.socket.from_stdlib_socket(two)
        two.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)

    async def inject(self, frames: Sequence[bytes]) -> None:
        for one in frames:
            await self.other.send(one)

    async def taken(self, count: int) -> list[bytes]:
        return [await self.other.recv(100_000) for _ in range(count)]

    async def destroy(self) -> None:
        self.other.close()


@pytest.fixture(params=[MemoryRig, SeqpacketRig])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    rig: Rig = request.param()
    yield rig
    await rig.endpoint.aclose()
    await rig.destroy()


# --- offload --------------------------------------------------------------------------------------

BIG = Super(bytes(5000))


async def test_whoever_did_not_ask_for_offload_frames_gets_plain_ones(rig: Rig) -> None:
    await rig.endpoint.set_offload(ALL_OFFLOADS)
    await rig.endpoint.send_offload([frame(1), BIG.frame(), BIG.but(flags=0).frame(), frame(2)])
    first, *cut, last = await rig.taken(6)
    assert (first, last) == (frame(1), frame(2))
    assert all(map(checksums_hold, cut))
    assert b"".join(parts(f).payload for f in cut) == BIG.payload
    assert rig.endpoint.send_drops == {DropReason.UNKNOWN_OFFLOAD: 1}


async def test_a_memory_endpoint_hands_over_what_was_asked_for() -> None:
    one, two = memory_endpoint_pair(accepts=ALL_OFFLOADS)
    four, six = BIG.frame(), Super(bytes(5000), version=6).frame()
    await two.set_offload(Offload.CSUM | Offload.TSO4)
    await one.send_offload([four, six])
    whole, *cut = two.receive_offload_nowait()
    assert whole == four
    assert len(cut) == 4

    await one.send_offload([four])
    await two.set_offload(NO_OFFLOADS)
    await one.send_offload([four])
    waiting, *cut = two.receive_offload_nowait()
    assert waiting == four, "what is waiting stays as it is"
    assert len(cut) == 4
    await one.send_offload([Super(size=0).frame()])
    assert checksums_hold(bytes(two.receive_nowait()[0]))


async def test_what_was_asked_for_earlier_is_plain_to_whoever_wants_it_so() -> None:
    one, two = memory_endpoint_pair(accepts=ALL_OFFLOADS)
    await two.set_offload(ALL_OFFLOADS)
    await one.send_offload([BIG.frame()])
    assert len(two.receive_nowait()) == 4


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_an_endpoint(rig: Rig, check: Callable[[Rig], Awaitable[None]]) -> None:
    with trio.fail_after(10):
        await check(rig)


@pytest.fixture
async def wire() -> AsyncIterator[SeqpacketRig]:
    rig = SeqpacketRig()
    yield rig
    await rig.endpoint.aclose()
    rig.other.close()


async def test_an_empty_message_is_no_end_of_the_connection(wire: SeqpacketRig) -> None:
    await wire.inject([b"", frame(1), b"", b"", frame(2), b""])
    assert wire.endpoint.receive_nowait() == [frame(1), frame(2)]
    assert wire.endpoint.receive_drops[DropReason.EMPTY] == 4


async def test_empty_messages_before_the_end_do_not_hide_the_frames_behind_them(
    wire: SeqpacketRig,
) -> None:
    await wire.inject([b"", b"", b"", frame(1)])
    wire.other.close()
    assert wire.endpoint.receive_nowait() == [frame(1)]
    with pytest.raises(EndpointGone):
        wire.endpoint.receive_nowait()


async def test_a_message_over_the_limit_is_dropped_and_not_cut(wire: SeqpacketRig) -> None:
    longest = bytes(65536 + 128)
    await wire.inject([longest + b"x", frame(1), longest])
    assert wire.endpoint.receive_nowait() == [frame(1), longest]
    assert wire.endpoint.receive_drops[DropReason.TRUNCATED] == 1


async def test_a_client_that_never_reads_costs_a_moment_and_then_only_its_frames(
    wire: SeqpacketRig, autojump_clock: trio.testing.MockClock
) -> None:
    before = trio.current_time()
    # The first batch fills the socket and then waits, the second takes nothing and waits in vain.
    for _ in range(20):
        await wire.endpoint.send([bytes(1000)] * 200)
    assert trio.current_time() - before == pytest.approx(0.5, abs=0.01)
    dropped = wire.endpoint.send_drops[DropReason.ENDPOINT_FULL]
    assert dropped > 1000

    await wire.taken(4000 - dropped)
    await wire.endpoint.send([frame(7)])
    assert await wire.taken(1) == [frame(7)]


async def test_a_client_that_reads_slowly_never_holds_a_batch_for_longer_than_a_moment(
    wire: SeqpacketRig, autojump_clock: trio.testing.MockClock
) -> None:
    async def read_slowly() -> None:
        while True:
            await trio.sleep(0.1)
            await wire.other.recv(2000)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_slowly)
        for _ in range(5):
            before = trio.current_time()
            await wire.endpoint.send([bytes(1000)] * 1000)
            assert trio.current_time() - before < 0.3
        nursery.cancel_scope.cancel()


async def test_a_client_that_reads_nothing_is_waited_for_once_for_all_batches() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    waits = 0

    class Counting(SeqpacketEndpoint):
        async def _wait_for_room(self, patience: float) -> float:
            nonlocal waits
            waits += 1
            return 0.0

    with theirs:
        async with Counting(ours, "counting") as endpoint:
            await endpoint.send_batches([[frame(n) for n in range(9000)] for _ in range(5)])
            assert waits == 1
            assert endpoint.send_drops[DropReason.ENDPOINT_FULL] > 9000


async def test_what_is_tried_is_taken_in_order_until_the_client_has_to_read(
    wire: SeqpacketRig,
) -> None:
    sent = [frame(n) for n in range(20_000)]
    taken = wire.endpoint.try_send(sent)
    assert 0 < taken < len(sent)
    assert wire.endpoint.try_send(sent[taken:]) == 0
    assert not wire.endpoint.send_drops
    assert await wire.taken(taken) == sent[:taken]
    # The rest is for `send`, which has the same order.
    await wire.endpoint.send(sent[taken : taken + 100])
    assert await wire.taken(100) == sent[taken : taken + 100]


async def test_what_only_send_can_say_is_left_to_it(wire: SeqpacketRig) -> None:
    assert wire.endpoint.try_send([frame(1), b""]) == 0
    wire.other.close()
    assert wire.endpoint.try_send([frame(1)]) == 0
    with pytest.raises(EndpointGone):
        await wire.endpoint.send([frame(1)])
    await wire.endpoint.aclose()
    assert wire.endpoint.try_send([frame(1)]) == 0


async def test_a_client_that_reads_again_is_waited_for_again(
    wire: SeqpacketRig, autojump_clock: trio.testing.MockClock
) -> None:
    flood = [bytes(1000)] * 4000
    for _ in range(3):
        await wire.endpoint.send(flood)
    await wire.taken(3 * 4000 - wire.endpoint.send_drops[DropReason.ENDPOINT_FULL])
    assert wire.endpoint.try_send([frame(1)]) == 1
    before = trio.current_time()
    await wire.endpoint.send(flood)
    assert trio.current_time() - before == pytest.approx(0.25, abs=0.01)


async def test_a_cancelled_send_has_handed_over_the_first_frames(wire: SeqpacketRig) -> None:
    sent = [frame(n) for n in range(20_000)]
    with trio.CancelScope() as scope:
        scope.cancel()
        await wire.endpoint.send(sent)
    assert scope.cancelled_caught
    assert not wire.endpoint.send_drops
    got: list[bytes] = []
    with suppress(BlockingIOError):
        while True:
            got += receive_messages(wire.other.fileno(), CHUNK)[0]
    assert CHUNK < len(got) < len(sent)
    assert got == sent[: len(got)]
    await wire.endpoint.send([frame(1)])


async def test_a_batch_of_large_frames_is_bounded_in_bytes(wire: SeqpacketRig) -> None:
    large = [bytes(LONGEST_FRAME - n) for n in range(12)]
    await wire.inject(large)
    # It has not seen any like these yet.
    first = wire.endpoint.receive_nowait()
    await wire.inject(large)
    second = wire.endpoint.receive_nowait()
    assert len(second) == 2
    third = wire.endpoint.receive_nowait()
    assert [*first, *second, *third] == [*large, *large[:4]]


async def test_an_end_behind_a_message_that_was_cut_is_the_end(wire: SeqpacketRig) -> None:
    await wire.inject([bytes(LONGEST_FRAME + 1)])
    wire.other.close()
    with pytest.raises(EndpointGone):
        wire.endpoint.receive_nowait()
    assert wire.endpoint.receive_drops == {DropReason.TRUNCATED: 1}


async def test_a_flood_of_bad_messages_does_not_hold_the_program(wire: SeqpacketRig) -> None:
    bad = [b""] * 300
    await wire.inject([*bad[:290], frame(1)])
    with pytest.raises(trio.WouldBlock):
        wire.endpoint.receive_nowait()
    assert wire.endpoint.receive_drops[DropReason.EMPTY] == 256
    assert wire.endpoint.receive_nowait() == [frame(1)]


async def test_a_full_memory_endpoint_drops_the_newest() -> None:
    one, two = memory_endpoint_pair(capacity=2)
    await one.send([frame(1), frame(2), frame(3)])
    assert two.receive_nowait() == [frame(1), frame(2)]
    assert one.send_drops[DropReason.ENDPOINT_FULL] == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "is vknetd running"),
        (lambda path: bound(path, socket.SOCK_SEQPACKET), "nobody listens"),
        (lambda path: bound(path, socket.SOCK_STREAM, listen=True), "not SOCK_SEQPACKET"),
        (lambda path: path.write_text("x"), "nobody listens"),
    ],
    ids=["missing", "stale", "of-another-type", "a-file"],
)
async def test_a_socket_that_cannot_be_used_says_why(
    tmp_path: Path, make: Callable[[Path], object], message: str
) -> None:
    path = tmp_path / "s"
    kept = make(path)
    with pytest.raises(SetupError, match=message):
        await open_seqpacket(str(path))
    if isinstance(kept, socket.socket):
        kept.close()


def bound(path: Path, kind: socket.SocketKind, *, listen: bool = False) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, kind)
    sock.bind(str(path))
    if listen:
        sock.listen()
    return sock


async def test_a_path_too_long_for_a_socket_is_said() -> None:
    with pytest.raises(SetupError, match="at most 107 bytes"):
        await open_seqpacket("/" + "x" * 107)


async def test_a_socket_cannot_be_in_a_bridge() -> None:
    with pytest.raises(UsageError, match="only a TAP"):
        await open_endpoint("/var/run/vknet", bridge="bridge0")


async def test_a_tap_elsewhere_than_on_linux_is_one_clear_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.platform", "plan9")
    with pytest.raises(SetupError, match="Linux only, not on plan9"):
        await open_endpoint("auto")
