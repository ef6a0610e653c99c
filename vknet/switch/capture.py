"""Stub."""


async def capture(path: str, pcap: str | None) -> None:
    """Stub."""
