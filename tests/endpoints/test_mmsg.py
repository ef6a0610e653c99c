"""recvmmsg(2) and sendmmsg(2), on socket pairs."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from errno import EBADF, EMSGSIZE, EPIPE
from typing import TYPE_CHECKING

import pytest

from tests.support.conformance import frame
from vknet.endpoints.mmsg import CHUNK, receive_messages, send_messages
from vknet.packet.ethernet import BATCH_BYTES, LONGEST_FRAME

if TYPE_CHECKING:
    from collections.abc import Iterator

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for sock in (one, two):
        sock.settimeout(10)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    with one, two:
        yield one, two


def test_messages_are_received_whole_and_in_order(pair: Pair) -> None:
    one, two = pair
    sent = [frame(n, 60 + 37 * n) for n in range(20)]
    for message in sent:
        one.send(message)
    assert receive_messages(two.fileno(), 5) == (sent[:5], 0)
    assert receive_messages(two.fileno(), CHUNK) == (sent[5:], 0)
    with pytest.raises(BlockingIOError):
        receive_messages(two.fileno(), CHUNK)


def test_messages_are_sent_whole_and_in_order(pair: Pair) -> None:
    one, two = pair
    sent = [frame(n, 60 + 37 * n) for n in range(20)]
    mixed = [memoryview(message) if n % 3 else message for n, message in enumerate(sent)]
    assert send_messages(one.fileno(), mixed) == 20
    assert [two.recv(2000) for _ in sent] == sent


def test_one_call_moves_at_most_a_chunk(pair: Pair) -> None:
    one, two = pair
    sent = [frame(n) for n in range(CHUNK + 3)]
    assert send_messages(one.fileno(), sent) == CHUNK
    assert send_messages(one.fileno(), sent[CHUNK:]) == 3
    assert receive_messages(two.fileno(), 10 * CHUNK) == (sent[:CHUNK], 0)
    assert receive_messages(two.fileno(), 10 * CHUNK) == (sent[CHUNK:], 0)


def test_received_messages_are_not_overwritten_by_later_calls(pair: Pair) -> None:
    one, two = pair
    kept = []
    for number in range(5):
        one.send(frame(number))
        kept += receive_messages(two.fileno(), 1)[0]
    assert kept == [frame(number) for number in range(5)]


def test_truncated_message_is_counted_and_left_out(pair: Pair) -> None:
    one, two = pair
    longest = os.urandom(LONGEST_FRAME)
    for message in (frame(1), longest + b"x", longest, longest + b"yz", frame(2)):
        one.send(message)
    assert receive_messages(two.fileno(), CHUNK) == ([frame(1), longest, frame(2)], 2)
    one.send(longest + b"x")
    assert receive_messages(two.fileno(), CHUNK) == ([], 1)


def test_end_of_the_connection_reads_as_empty_messages_after_all_others(pair: Pair) -> None:
    one, two = pair
    for message in (b"", frame(1), b"", frame(2)):
        one.send(message)
    one.close()
    messages, cut = receive_messages(two.fileno(), 10)
    assert messages == [b"", frame(1), b"", frame(2), *[b""] * 6]
    assert cut == 0


def test_full_socket_takes_the_first_frames_and_then_none(pair: Pair) -> None:
    one, two = pair
    sent = [frame(n) for n in range(20_000)]
    taken = 0
    with suppress(BlockingIOError):
        while taken < len(sent):
            taken += send_messages(one.fileno(), sent[taken:])
    assert CHUNK < taken < len(sent)
    got: list[bytes] = []
    while len(got) < taken:
        got += receive_messages(two.fileno(), CHUNK)[0]
    assert got == sent[:taken]


def test_message_too_long_for_the_socket_does_not_block_the_next(pair: Pair) -> None:
    one, two = pair
    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 10_000)
    sent = [frame(1), bytes(100_000), frame(2)]
    assert send_messages(one.fileno(), sent) == 1
    with pytest.raises(OSError, match="too long") as caught:
        send_messages(one.fileno(), sent[1:])
    assert caught.value.errno == EMSGSIZE
    assert send_messages(one.fileno(), sent[2:]) == 1
    assert receive_messages(two.fileno(), CHUNK) == ([frame(1), frame(2)], 0)


def test_one_call_sends_at_most_a_batch_of_bytes(pair: Pair) -> None:
    one, two = pair
    sent = [os.urandom(BATCH_BYTES // 4) for _ in range(10)]
    assert send_messages(one.fileno(), sent) == 4
    assert receive_messages(two.fileno(), CHUNK) == (sent[:4], 0)
    larger_than_that = [os.urandom(BATCH_BYTES + 1), frame(1)]
    assert send_messages(one.fileno(), larger_than_that) == 1
    assert two.recv(BATCH_BYTES + 2) == larger_than_that[0]


def test_closed_peer_is_an_error_without_a_signal(pair: Pair) -> None:
    one, two = pair
    two.close()
    with pytest.raises(OSError, match="Broken pipe") as caught:
        send_messages(one.fileno(), [frame(1)])
    assert caught.value.errno == EPIPE


def test_closed_socket_is_an_error() -> None:
    for call in (lambda: receive_messages(-1, 1), lambda: send_messages(-1, [frame(1)])):
        with pytest.raises(OSError, match="descriptor") as caught:
            call()
        assert caught.value.errno == EBADF


def test_descriptors_received_with_a_message_are_closed(pair: Pair) -> None:
    one, two = pair
    reading, writing = os.pipe()
    socket.send_fds(one, [frame(1)], [writing])
    os.close(writing)
    assert receive_messages(two.fileno(), 1) == ([frame(1)], 0)
    # No process has the writing end open, so this returns at once.
    assert os.read(reading, 1) == b""
    os.close(reading)


def test_threads_do_not_share_buffers() -> None:
    rounds = 300
    got: dict[int, list[bytes]] = {1: [], 2: []}

    def session(number: int) -> None:
        one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with one, two:
            for _ in range(rounds):
                send_messages(one.fileno(), [frame(number)] * 8)
                got[number] += receive_messages(two.fileno(), 8)[0]

    threads = [threading.Thread(target=session, args=[number]) for number in got]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {number: [frame(number)] * 8 * rounds for number in got}
