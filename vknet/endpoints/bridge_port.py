"""Keep a TAP in its bridge, and tell the user what the bridge does to it.

Other programs change bridges: a network manager takes out ports that it does not know, an
administrator renames a bridge, deletes it, or moves the TAP to another one.  `BridgePort.maintain`
compares what it finds with what it left:

    the TAP is in its bridge       the bridge may have a new name: follow it
    the TAP is in another bridge   it was moved on purpose: follow it
    the TAP is in no bridge        at the second look, put it back, and create the bridge if it was
                                   deleted.  The first look gives the other program time to do that.

A program that takes the TAP out again and again is opposed ever more rarely.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from vknet.endpoints.interface import find_index, name_of
from vknet.endpoints.joining import expect_listeners, set_up_tap
from vknet.endpoints.threads import run_in_thread
from vknet.errors import SetupError

if TYPE_CHECKING:
    from vknet.endpoints.interface import Interface
    from vknet.endpoints.joining import JoinedBridge

__all__ = ["BridgePort", "report_joined"]

log = logging.getLogger(__name__)

# The pause after the TAP was put back, before it is put back again: the first, doubled each time,
# and the longest.  After a calm time it is the first one again.
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 300.0
CALM_S: Final = 600.0

# A bridge expects listeners at a port for minutes, so it need not be told again this soon.
EXPECTING_S: Final = 30.0


class BridgePort:
    """A TAP's place in a bridge.

    Args:
        tap: the state of the TAP.
        joined: the bridge that it is in; None if in none.
        keep: whether it is kept in that bridge, because the user named the bridge.
        adopts_mtu: whether the TAP takes the MTU of a bridge that has one of its own.

    Attributes:
        bridge: the current name of the bridge in which the TAP is kept; None if in none.
        bridge_index: the index of its bridge; None if it is not a port.  A bridge that is deleted
            and created again has another one.
        has_bridge_mtu: the TAP's MTU is that of its bridge, which would fall with it.
        macs: the MAC addresses of the TAP and of its bridge, with the names of the interfaces.
    """

    def __init__(
        self, tap: Interface, joined: JoinedBridge | None, *, keep: bool, adopts_mtu: bool
    ) -> None:
        self.bridge = joined.interface.name if keep and joined is not None else None
        self.bridge_index = tap.master
        self.has_bridge_mtu = adopts_mtu and joined is not None and joined.has_own_mtu
        self.macs = macs_of(tap, None if joined is None else joined.interface)
        self._adopts_mtu = adopts_mtu
        self._missed = False
        self._pause_s = 0.0
        self._put_back_at = -CALM_S
        self._failure = ""
        self._new_stations = False
        # Since the first look, which follows soon: `set_up_tap` has said that it expects listeners.
        self._expecting_since: float | None = None

    def on_new_stations(self) -> None:
        """Note that new stations may be reachable through the TAP, for the next `maintain`."""
        self._new_stations = True

    async def maintain(self, tap: Interface, master: Interface | None) -> None:
        """Act on what has changed; call it about once a second.

        Args:
            tap: the current state of the TAP.
            master: that of its bridge; None if it is not a port.
        """
        self.macs = macs_of(tap, master)
        if master is not None and master.index == self.bridge_index:
            self._missed = False
            self._failure = ""
            if self.bridge is not None:
                self._follow_name(tap, master.name)
            await self._expect_listeners(tap.index)
        elif self.bridge is None:
            self.bridge_index = tap.master
            self._expect_listeners_soon()
        elif master is not None:
            self._follow(tap, master)
        else:
            await self._put_back(tap, self.bridge)

    def _follow_name(self, tap: Interface, name: str) -> None:
        if name != self.bridge:
            log.info("the bridge %s of %s is now called %s", self.bridge, tap.name, name)
            self.bridge = name

    def _follow(self, tap: Interface, master: Interface) -> None:
        """Accept that the TAP is in another bridge, or in another one of the same name."""
        if master.name == self.bridge:
            log.info("%s is in the bridge %s again", tap.name, master.name)
        else:
            log.warning(
                "%s was moved from %s to %s, and stays there", tap.name, self.bridge, master.name
            )
        self._missed = False
        self.bridge = master.name if master.kind == "bridge" else None
        self.bridge_index = master.index
        self._expect_listeners_soon()

    async def _put_back(self, tap: Interface, bridge: str) -> None:
        name = None if self.bridge_index is None else name_of(self.bridge_index)
        if name is not None:
            self._follow_name(tap, name)
            bridge = name
        now = trio.current_time()
        if now < self._put_back_at + self._pause_s:
            return
        if not self._missed:
            self._missed = True
            if name is not None:
                log.warning(
                    "%s was taken out of the bridge %s; if a network manager did it, tell it to"
                    " leave %s alone",
                    tap.name,
                    name,
                    tap.name,
                )
            elif await run_in_thread(partial(find_index, bridge)) is None:
                log.warning("the bridge %s was deleted", bridge)
            return
        if now - self._put_back_at > max(CALM_S, 2 * self._pause_s):
            self._pause_s = 0.0
        self._pause_s = min(max(2 * self._pause_s, FIRST_PAUSE_S), LONGEST_PAUSE_S)
        self._put_back_at = now
        try:
            interface, joined = await run_in_thread(
                partial(set_up_tap, tap.index, bridge=bridge, adopt_mtu=self._adopts_mtu)
            )
        except SetupError as exc:
            if str(exc) != self._failure:
                self._failure = str(exc)
                log.warning("%s cannot be put back in the bridge %s: %s", tap.name, bridge, exc)
            return
        self._missed = False
        self._failure = ""
        self.bridge_index = interface.master
        log.warning("put %s back in the bridge %s", tap.name, bridge)
        if joined is not None:
            self.has_bridge_mtu = self._adopts_mtu and joined.has_own_mtu
            report_joined(interface, joined)

    def _expect_listeners_soon(self) -> None:
        """Have the next `maintain` speak to the bridge, to which the TAP is a new port."""
        self._new_stations = True
        self._expecting_since = -EXPECTING_S

    async def _expect_listeners(self, index: int) -> None:
        now = trio.current_time()
        if self._expecting_since is None:
            self._expecting_since = now
        if self._new_stations and now - self._expecting_since >= EXPECTING_S:
            self._expecting_since = now
            try:
                await run_in_thread(partial(expect_listeners, index))
            except SetupError as exc:
                log.debug("no multicast for new stations: %s", exc)
        self._new_stations = False


def macs_of(*interfaces: Interface | None) -> dict[bytes, str]:
    """Return the MAC addresses of these interfaces, with the names; the later ones have priority.

    An interface without one is left out: its address is empty or zero.
    """
    return {each.mac: each.name for each in interfaces if each is not None and any(each.mac)}


def report_joined(tap: Interface, joined: JoinedBridge) -> None:
    """Tell the user what joining a bridge did to the TAP, to the bridge and to the host."""
    bridge = joined.interface
    if joined.created:
        # A warning, because the remote half prints nothing less: it may be a mistyped name.
        log.warning("created the bridge %s, which did not exist", bridge.name)
    if not bridge.is_up:
        log.warning(
            "the bridge %s is down; it carries nothing until: ip link set %s up",
            bridge.name,
            bridge.name,
        )
    if joined.silence_s:
        log.warning(
            "the bridge %s runs STP, so it forwards nothing through %s for the first %g s",
            bridge.name,
            tap.name,
            joined.silence_s,
        )
    if bridge.mtu < joined.mtu_before and tap.mtu <= bridge.mtu:
        log.warning(
            "the MTU of the bridge %s fell from %d to %d, that of %s; to keep it: --mtu %d, or"
            " ip link set %s mtu %d",
            bridge.name,
            joined.mtu_before,
            bridge.mtu,
            tap.name,
            joined.mtu_before,
            tap.name,
            joined.mtu_before,
        )
