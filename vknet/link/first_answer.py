"""Waiting for the first answer of a peer: its time limit, and what the user is told meanwhile.

Until the peer has proved to be vknet, a client sends it no frame: a shell would take its bytes for
commands.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from vknet.errors import PeerGone
from vknet.wire.blocks import Wire

if TYPE_CHECKING:
    from vknet.link.settings import LinkSettings
    from vknet.transport.base import Transport

__all__ = ["FirstAnswer"]

log = logging.getLogger(__name__)

# The user is told after these times that the peer has not answered.  On most machines the first is
# enough to start Python twice, for vknet and for its helper process.
SLOW_START_S: Final = 3.0
VERY_SLOW_START_S: Final = 15.0


class FirstAnswer:
    """The wait for the first answer.

    Args:
        transport: has been reached; it says whether that means a login.
        settings: those of the link.
        now: the time in seconds, on any monotonic clock.
    """

    def __init__(self, transport: Transport, settings: LinkSettings, now: float) -> None:
        self._peer = transport.peer
        self._sees_login = transport.sees_login
        self._wire = settings.wire
        # An invisible login has the same time.
        self._limit = settings.hello_timeout * (1 if self._sees_login else 2)
        self._began = now
        self._notes = 0

    def check(self, now: float) -> None:
        """Tell the user that vknet still waits, if it is time.

        Raises:
            PeerGone: the time is over.
        """
        waited = now - self._began
        if waited >= self._limit:
            raise self._no_answer()
        if self._wire is Wire.V2:
            return
        if not self._sees_login:
            if waited >= VERY_SLOW_START_S and not self._notes:
                self._notes = 1
                log.info("waiting for the login to %s, or for vknet to start there", self._peer)
        elif waited >= VERY_SLOW_START_S and self._notes < 2:
            self._notes = 2
            log.warning(
                "still waiting for vknet on %s; does a start-up file of the shell there hang?",
                self._peer,
            )
        elif waited >= SLOW_START_S and self._notes < 1:
            self._notes = 1
            log.info("waiting for vknet on %s to start", self._peer)

    def _no_answer(self) -> PeerGone:
        if self._wire is Wire.V2:
            text = f"{self._peer} has sent no HELLO within {self._limit:g} s"
            return PeerGone(text, refused=True)
        login = "" if self._sees_login else " a login that did not succeed,"
        return PeerGone(
            f"what runs on {self._peer} has not answered as vknet within {self._limit:g} s;"
            f" possible causes:{login} a start-up file there that starts a shell or hangs, a forced"
            " command that is not vknet, a command that asks for a password, or a vknet of 2008 on"
            " a quiet network (then use --wire 1)",
            refused=True,
        )
