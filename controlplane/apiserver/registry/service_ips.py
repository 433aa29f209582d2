"""Cluster addresses for Services: which are free, and which one is next.

Owns the split of the range: dynamic addresses come from the upper part, so that the lower band stays free for
addresses people choose. Pure state in memory: whoever starts the server rebuilds it from the stored Services.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Callable, Collection, Iterable
from typing import Any

ALLOCATED = "provided IP is already allocated"
OTHER_NETWORK = "the provided network does not match the current range"
FULL = "range is full"
_TRIES = 16


class AllocationError(ValueError):
    """An address or port that cannot be had; the text is upstream's."""


class ClusterIPs:
    """The addresses of one IPv4 range."""

    def __init__(self, cidr: str, *, choose: Callable[[int], int] = secrets.randbelow) -> None:
        """`choose(n)` is a random number below n."""
        self._network = ipaddress.IPv4Network(cidr)
        self._choose = choose
        size = self._network.num_addresses - 2
        self._first = int(self._network.network_address) + 1
        self._count = size
        self._band = min(max(16, size // 16), 256) if size > 16 else 0
        self._used: set[int] = set()

    def allocate(self, requested: str | None = None, taken: Collection[str] = ()) -> str:
        """Take the requested address, or a free one; `taken` are addresses in use that are not ours to know.

        Raises AllocationError.
        """
        outside = {int(ipaddress.IPv4Address(text)) for text in taken}
        number = self._free(outside) if requested is None else self._asked(requested, outside)
        self._used.add(number)
        return str(ipaddress.IPv4Address(number))

    def release(self, text: str) -> None:
        """Give an address back; unknown ones are ignored."""
        if (number := _number(text)) is not None:
            self._used.discard(number)

    def rebuild(self, services: Iterable[dict[str, Any]]) -> None:
        """Forget everything and learn the addresses of the stored Services."""
        found = (text for service in services for text in (service.get("spec") or {}).get("clusterIPs") or ())
        self._used = {number for text in found if (number := _number(text)) is not None}

    def __contains__(self, text: str) -> bool:
        return _number(text) in self._used

    def _asked(self, text: str, outside: set[int]) -> int:
        number = _number(text)
        if number is None or ipaddress.IPv4Address(number) not in self._network:
            raise AllocationError(OTHER_NETWORK)
        if not self._first <= number < self._first + self._count:
            why = f"the provided IP ({text}) is not in the valid range. The range of valid IPs is {self._network}"
            raise AllocationError(why)
        if number in self._used or number in outside:
            raise AllocationError(ALLOCATED)
        return number

    def _free(self, outside: set[int]) -> int:
        busy = self._used | outside
        for low, high in ((self._band, self._count), (0, self._band)):
            if (offset := self._search(low, high, busy)) is not None:
                return offset
        raise AllocationError(FULL)

    def _search(self, low: int, high: int, busy: set[int]) -> int | None:
        """A free address between two offsets: a random one, else the first after a random start."""
        width = high - low
        if width <= 0:
            return None
        for _ in range(_TRIES):
            if (number := self._first + low + self._choose(width)) not in busy:
                return number
        start = self._choose(width)
        order = (self._first + low + (start + step) % width for step in range(width))
        return next((number for number in order if number not in busy), None)


def _number(text: str) -> int | None:
    try:
        return int(ipaddress.IPv4Address(text))
    except ValueError:
        return None
