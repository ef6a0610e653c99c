"""Endpoints that need no privileges: in memory, and on a SOCK_SEQPACKET socket.

TAPs are tested in tests/hosts/.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import trio

from tests.support.conformance import CHECKS, Rig, frame
from tests.support.links import running
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
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.endpoint = SeqpacketEndpoint(ours, "a socket")
        self.other = trio.socket.from_stdlib_socket(theirs)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)

    async def inject(self, frames: Sequence[bytes]) -> None:
        for data in frames:
            await self.other.send(data)

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


async def test_offload_frames_are_segmented_for_a_receiver_without_offloads(rig: Rig) -> None:
    await rig.endpoint.set_offload(ALL_OFFLOADS)
    await rig.endpoint.send_offload([frame(1), BIG.frame(), BIG.but(flags=0).frame(), frame(2)])
    first, *cut, last = await rig.taken(6)
    assert (first, last) == (frame(1), frame(2))
    assert all(map(checksums_hold, cut))
    assert b"".join(parts(f).payload for f in cut) == BIG.payload
    assert rig.endpoint.send_drops == {DropReason.UNKNOWN_OFFLOAD: 1}


async def test_memory_endpoint_delivers_only_enabled_offloads_unsegmented() -> None:
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
    assert waiting == four, "a waiting frame keeps its form"
    assert len(cut) == 4
    await one.send_offload([Super(size=0).frame()])
    assert checksums_hold(bytes(two.receive_nowait()[0]))


async def test_receive_nowait_returns_plain_frames_with_offloads_enabled() -> None:
    one, two = memory_endpoint_pair(accepts=ALL_OFFLOADS)
    await two.set_offload(ALL_OFFLOADS)
    await one.send_offload([BIG.frame()])
    assert len(two.receive_nowait()) == 4


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_endpoint_conforms(rig: Rig, check: Callable[[Rig], Awaitable[None]]) -> None:
    with trio.fail_after(10):
        await check(rig)


@pytest.fixture
async def seqpacket() -> AsyncIterator[SeqpacketRig]:
    rig = SeqpacketRig()
    yield rig
    await rig.endpoint.aclose()
    rig.other.close()


async def test_empty_message_does_not_end_the_connection(seqpacket: SeqpacketRig) -> None:
    await seqpacket.inject([b"", frame(1), b"", b"", frame(2), b""])
    assert seqpacket.endpoint.receive_nowait() == [frame(1), frame(2)]
    assert seqpacket.endpoint.receive_drops[DropReason.EMPTY] == 4


async def test_frames_after_empty_messages_are_received_before_the_end(
    seqpacket: SeqpacketRig,
) -> None:
    await seqpacket.inject([b"", b"", b"", frame(1)])
    seqpacket.other.close()
    assert seqpacket.endpoint.receive_nowait() == [frame(1)]
    with pytest.raises(EndpointGone):
        seqpacket.endpoint.receive_nowait()


async def test_message_over_the_limit_is_dropped_not_truncated(seqpacket: SeqpacketRig) -> None:
    longest = bytes(65536 + 128)
    await seqpacket.inject([longest + b"x", frame(1), longest])
    assert seqpacket.endpoint.receive_nowait() == [frame(1), longest]
    assert seqpacket.endpoint.receive_drops[DropReason.TRUNCATED] == 1


async def test_peer_that_never_reads_delays_two_batches_and_then_loses_frames(
    seqpacket: SeqpacketRig, autojump_clock: trio.testing.MockClock
) -> None:
    before = trio.current_time()
    # The first batch fills the socket and then waits; the second sends nothing and waits, too.
    for _ in range(20):
        await seqpacket.endpoint.send([bytes(1000)] * 200)
    assert trio.current_time() - before == pytest.approx(0.5, abs=0.01)
    dropped = seqpacket.endpoint.send_drops[DropReason.ENDPOINT_FULL]
    assert dropped > 1000

    await seqpacket.taken(4000 - dropped)
    await seqpacket.endpoint.send([frame(7)])
    assert await seqpacket.taken(1) == [frame(7)]


async def test_slow_reader_delays_a_batch_by_at_most_the_send_timeout(
    seqpacket: SeqpacketRig, autojump_clock: trio.testing.MockClock
) -> None:
    async def read_slowly() -> None:
        while True:
            await trio.sleep(0.1)
            await seqpacket.other.recv(2000)

    async with running(read_slowly):
        for _ in range(5):
            before = trio.current_time()
            await seqpacket.endpoint.send([bytes(1000)] * 1000)
            assert trio.current_time() - before < 0.3


async def test_all_batches_of_one_call_share_one_wait() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    waits = 0

    class Counting(SeqpacketEndpoint):
        async def _wait_for_room(self, timeout: float) -> float:
            nonlocal waits
            waits += 1
            return 0.0

    with theirs:
        async with Counting(ours, "counting") as endpoint:
            await endpoint.send_batches([[frame(n) for n in range(9000)] for _ in range(5)])
            assert waits == 1
            assert endpoint.send_drops[DropReason.ENDPOINT_FULL] > 9000


async def test_try_send_sends_in_order_until_the_socket_is_full(
    seqpacket: SeqpacketRig,
) -> None:
    sent = [frame(n) for n in range(20_000)]
    taken = seqpacket.endpoint.try_send(sent)
    assert 0 < taken < len(sent)
    assert seqpacket.endpoint.try_send(sent[taken:]) == 0
    assert not seqpacket.endpoint.send_drops
    assert await seqpacket.taken(taken) == sent[:taken]
    # `send` goes on where `try_send` stopped.
    await seqpacket.endpoint.send(sent[taken : taken + 100])
    assert await seqpacket.taken(100) == sent[taken : taken + 100]


async def test_try_send_leaves_empty_frames_and_errors_to_send(seqpacket: SeqpacketRig) -> None:
    assert seqpacket.endpoint.try_send([frame(1), b""]) == 0
    seqpacket.other.close()
    assert seqpacket.endpoint.try_send([frame(1)]) == 0
    with pytest.raises(EndpointGone):
        await seqpacket.endpoint.send([frame(1)])
    await seqpacket.endpoint.aclose()
    assert seqpacket.endpoint.try_send([frame(1)]) == 0


async def test_peer_that_reads_again_gets_the_whole_send_timeout_again(
    seqpacket: SeqpacketRig, autojump_clock: trio.testing.MockClock
) -> None:
    flood = [bytes(1000)] * 4000
    for _ in range(3):
        await seqpacket.endpoint.send(flood)
    await seqpacket.taken(3 * 4000 - seqpacket.endpoint.send_drops[DropReason.ENDPOINT_FULL])
    assert seqpacket.endpoint.try_send([frame(1)]) == 1
    before = trio.current_time()
    await seqpacket.endpoint.send(flood)
    assert trio.current_time() - before == pytest.approx(0.25, abs=0.01)


async def test_cancelled_send_has_sent_the_first_frames(seqpacket: SeqpacketRig) -> None:
    sent = [frame(n) for n in range(20_000)]
    with trio.CancelScope() as scope:
        scope.cancel()
        await seqpacket.endpoint.send(sent)
    assert scope.cancelled_caught
    assert not seqpacket.endpoint.send_drops
    got: list[bytes] = []
    with suppress(BlockingIOError):
        while True:
            got += receive_messages(seqpacket.other.fileno(), CHUNK)[0]
    assert CHUNK < len(got) < len(sent)
    assert got == sent[: len(got)]
    await seqpacket.endpoint.send([frame(1)])


async def test_batch_of_large_frames_is_bounded_in_bytes(seqpacket: SeqpacketRig) -> None:
    large = [bytes(LONGEST_FRAME - n) for n in range(12)]
    await seqpacket.inject(large)
    # The first batch may be larger: the endpoint has not received large frames before.
    first = seqpacket.endpoint.receive_nowait()
    await seqpacket.inject(large)
    second = seqpacket.endpoint.receive_nowait()
    assert len(second) == 2
    third = seqpacket.endpoint.receive_nowait()
    assert [*first, *second, *third] == [*large, *large[:4]]


async def test_end_after_a_truncated_message_is_noticed(seqpacket: SeqpacketRig) -> None:
    await seqpacket.inject([bytes(LONGEST_FRAME + 1)])
    seqpacket.other.close()
    with pytest.raises(EndpointGone):
        seqpacket.endpoint.receive_nowait()
    assert seqpacket.endpoint.receive_drops == {DropReason.TRUNCATED: 1}


async def test_flood_of_bad_messages_is_bounded_per_call(seqpacket: SeqpacketRig) -> None:
    bad = [b""] * 300
    await seqpacket.inject([*bad[:290], frame(1)])
    with pytest.raises(trio.WouldBlock):
        seqpacket.endpoint.receive_nowait()
    assert seqpacket.endpoint.receive_drops[DropReason.EMPTY] == 256
    assert seqpacket.endpoint.receive_nowait() == [frame(1)]


async def test_full_memory_endpoint_drops_the_newest_frame() -> None:
    one, two = memory_endpoint_pair(capacity=2)
    await one.send([frame(1), frame(2), frame(3)])
    assert two.receive_nowait() == [frame(1), frame(2)]
    assert one.send_drops[DropReason.ENDPOINT_FULL] == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "is vknetd running"),
        (lambda path: bound(path, socket.SOCK_SEQPACKET), "no program listens"),
        (lambda path: bound(path, socket.SOCK_STREAM, listen=True), "not SOCK_SEQPACKET"),
        (lambda path: path.write_text("x"), "is a file, not a socket"),
    ],
    ids=["missing", "stale", "of-another-type", "file"],
)
async def test_unusable_socket_is_explained(
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


async def test_home_in_a_path_is_that_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    kept = bound(tmp_path / "s", socket.SOCK_SEQPACKET, listen=True)
    async with await open_endpoint("~/s") as endpoint:
        assert endpoint.name == str(tmp_path / "s")
    kept.close()


async def test_home_of_an_unknown_user_is_a_setup_error() -> None:
    with pytest.raises(SetupError, match="~no-such-user/s: no such user, or no home directory"):
        await open_endpoint("~no-such-user/s")


async def test_path_too_long_for_a_socket_is_a_setup_error() -> None:
    with pytest.raises(SetupError, match="at most 107 bytes"):
        await open_seqpacket("/" + "x" * 107)


async def test_socket_with_a_bridge_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="only a TAP"):
        await open_endpoint("/var/run/vknet", bridge="bridge0")


async def test_tap_on_another_system_than_linux_is_a_setup_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.platform", "plan9")
    with pytest.raises(SetupError, match="Linux only, not on plan9"):
        await open_endpoint("auto")
