"""The options of vknetd's secure mode: which addresses and protocols, besides the prefixes."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final

from vknet.errors import UsageError, escaped
from vknet.packet.ethernet import NO_MAC, is_multicast, parse_mac
from vknet.switch.protocols import PROTOCOL_NAMES
from vknet.vknetd.settings import station_text

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from vknet.vknetd.settings import Station

__all__ = ["parse_protocols", "parse_stations", "refuse_secure_options"]

PROTOCOL_MAX: Final = 255


def refuse_secure_options(args: argparse.Namespace, instead: str) -> None:
    """Refuse the options of secure mode where `instead` turns it off.

    Raises:
        UsageError: one was given.
    """
    for option, given in {
        "--gateway": args.gateways,
        "--protocols": args.protocols,
        "--roaming": args.roaming,
    }.items():
        if given is not None:
            raise UsageError(f"{option} is for secure mode; remove it, or {instead}")


def parse_stations(
    gateways: Sequence[str], roaming: Sequence[str]
) -> tuple[tuple[Station, ...], tuple[Station, ...]]:
    """Parse the values of ``--gateway`` and ``--roaming``.

    Raises:
        UsageError: one is no address of a station, or is in both.
    """
    result = tuple(_station("--gateway", text) for text in gateways)
    movable = tuple(_station("--roaming", text) for text in roaming)
    both = next((station for station in result if station in movable), None)
    if both is not None:
        raise UsageError(
            f"{station_text(both)} cannot be both --gateway and --roaming; remove one of them"
        )
    return result, movable


def _station(option: str, text: str) -> Station:
    """Parse an IP or a MAC address."""
    try:
        mac = parse_mac(text)
    except ValueError:
        pass
    else:
        if is_multicast(mac) or mac == NO_MAC:
            raise UsageError(f'{option} "{escaped(text)}" is not the address of a station')
        return mac
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise UsageError(
            f'{option} "{escaped(text)}" is neither an IP address nor a MAC address, such as'
            " 198.18.5.1 or 02:00:00:00:05:01"
        ) from None
    if "%" in text:
        raise UsageError(f'{option} "{escaped(text)}": leave out the interface')
    if address.is_multicast or address.is_unspecified or address.is_loopback:
        raise UsageError(f'{option} "{escaped(text)}" is not the address of a station')
    return address


def parse_protocols(text: str) -> frozenset[int]:
    """Parse the value of ``--protocols``: names or numbers, with commas between them.

    Raises:
        UsageError: one is neither.
    """
    found = set()
    for word in text.split(","):
        number = PROTOCOL_NAMES.get(word.lower())
        if number is None and re.fullmatch("[0-9]{1,3}", word) and int(word) <= PROTOCOL_MAX:
            number = int(word)
        if number is None:
            names = ", ".join(PROTOCOL_NAMES)
            raise UsageError(
                f'--protocols: "{escaped(word)}" is neither a number from 0 to {PROTOCOL_MAX} nor'
                f" one of {names}"
            )
        found.add(number)
    return frozenset(found)
