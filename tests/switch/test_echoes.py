"""Which frames from outside count as echoes of a client's."""

from __future__ import annotations

from vknet.switch.echoes import ECHO_S, ECHOES_MAX, PROOF_MAX, RETURN_PROOF, Echoes, SentFrames


def frame(number: int) -> bytes:
    return bytes(42) + number.to_bytes(4, "big") + b"\1"


def test_frame_that_left_a_moment_ago_is_an_echo_also_with_padding() -> None:
    sent = SentFrames(Echoes())
    sent.note(frame(1), 0)
    assert sent.is_echo(frame(1) + bytes(18), ECHO_S - 0.1)
    assert sent.is_echo(memoryview(frame(1)), 0.1)
    assert not sent.is_echo(frame(1), ECHO_S)


def test_frame_that_differs_behind_its_headers_is_no_echo() -> None:
    sent = SentFrames(Echoes())
    sent.note(frame(1), 0)
    assert not sent.is_echo(frame(2), 0)


def test_frame_that_is_sent_again_is_evicted_last() -> None:
    sent = SentFrames(Echoes())
    for number in range(ECHOES_MAX):
        sent.note(frame(number), 0)
    sent.note(frame(0), 0.5)
    # One that returned does not count as lost when it is evicted.
    assert sent.is_echo(frame(1), 0.5)
    sent.note(frame(ECHOES_MAX), 0.5)
    assert len(sent) == ECHOES_MAX
    assert sent.is_echo(frame(0), 0.5)
    assert not sent.is_echo(frame(1), 0.5)


def test_frame_that_is_sent_again_does_not_keep_the_others() -> None:
    sent = SentFrames(Echoes())
    sent.note(frame(0), 0)
    sent.note(frame(1), 0)
    sent.note(frame(0), 1.5)
    sent.expire(ECHO_S)
    assert len(sent) == 1


def test_echoes_are_believed_only_while_frames_return() -> None:
    sent = SentFrames(Echoes())
    now = 0.0
    for number in range(PROOF_MAX):
        sent.note(frame(number), now)
    sent.expire(now := now + ECHO_S)
    sent.note(frame(99), now)
    assert not sent.is_echo(frame(99), now)
    # That was a proof, for a few more.
    sent.note(frame(100), now)
    assert sent.is_echo(frame(100), now)
    for number in range(2 * RETURN_PROOF):
        sent.note(frame(number), now)
    sent.note(frame(101), now + ECHO_S)
    assert not sent.is_echo(frame(101), now + ECHO_S)


def test_network_that_returns_most_frames_is_believed_for_long() -> None:
    sent = SentFrames(Echoes())
    for number in range(1000):
        now = number * ECHO_S
        sent.note(frame(number), now)
        assert number % 3 or sent.is_echo(frame(number), now)


def test_frame_that_is_repeated_must_return_too() -> None:
    sent = SentFrames(Echoes())
    for turn in range(4 * PROOF_MAX):
        sent.note(frame(1), turn * ECHO_S / 2)
    assert not sent.is_echo(frame(1), turn * ECHO_S / 2)


def test_new_connection_does_not_restore_belief() -> None:
    echoes = Echoes()
    for _ in range(PROOF_MAX):
        sent = SentFrames(echoes)
        sent.note(frame(1), 0)
        sent.close()
        assert len(sent) == 0
    sent = SentFrames(echoes)
    sent.note(frame(1), 0)
    assert not sent.is_echo(frame(1), 0)


def test_flood_of_a_port_takes_nothing_from_one_that_is_there() -> None:
    echoes = Echoes()
    mine, flood = SentFrames(echoes), SentFrames(echoes)
    mine.note(frame(1), 0)
    for number in range(10 * ECHOES_MAX):
        flood.note(frame(number), 0)
    assert mine.is_echo(frame(1), 0)
    assert not flood.is_echo(frame(10 * ECHOES_MAX - 1), 0)
