"""Node ports for Services: which are free, and which one is next.

Owns the port range, shared by all protocols' dynamic picks; a chosen port is taken per protocol. Pure state in memory.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from typing import Any

from controlplane.apiserver.registry.service_ips import AllocationError

ALLOCATED = "provided port is already allocated"
FULL = "range is full"
LOW, HIGH = 30000, 32767
_TRIES = 16


class NodePorts:
    """The node ports of the cluster; `choose(n)` is a random number below n."""

    def __init__(self, *, low: int = LOW, high: int = HIGH, choose: Callable[[int], int] = secrets.randbelow) -> None:
        self._low, self._high, self._choose = low, high, choose
        width = high - low + 1
        self._band = min(max(16, width // 32), 128) if width > 16 else 0
        self._used: set[int] = set()

    def allocate(self, requested: int | None = None) -> int:
        """Take the requested port, or a free one. Raises AllocationError."""
        port = self._free() if requested is None else self._asked(requested)
        self._used.add(port)
        return port

    def release(self, port: int) -> None:
        """Give a port back; unknown ones are ignored."""
        self._used.discard(port)

    def rebuild(self, services: Iterable[dict[str, Any]]) -> None:
        """Forget everything and learn the ports of the stored Services."""
        self._used = {port for service in services for port in of_service(service)}

    def __contains__(self, port: int) -> bool:
        return port in self._used

    def _asked(self, port: int) -> int:
        if not self._low <= port <= self._high:
            why = f"provided port is not in the valid range. The range of valid ports is {self._low}-{self._high}"
            raise AllocationError(why)
        if port in self._used:
            raise AllocationError(ALLOCATED)
        return port

    def _free(self) -> int:
        width = self._high - self._low + 1
        for low, high in ((self._band, width), (0, self._band)):
            if (port := self._search(low, high)) is not None:
                return port
        raise AllocationError(FULL)

    def _search(self, low: int, high: int) -> int | None:
        if high <= low:
            return None
        for _ in range(_TRIES):
            if (port := self._low + low + self._choose(high - low)) not in self._used:
                return port
        start = self._choose(high - low)
        order = (self._low + low + (start + step) % (high - low) for step in range(high - low))
        return next((port for port in order if port not in self._used), None)


def of_service(service: dict[str, Any]) -> set[int]:
    """Every node port a Service holds, the health check's included."""
    spec = service.get("spec") or {}
    found = {port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort")}
    return found | ({spec["healthCheckNodePort"]} if spec.get("healthCheckNodePort") else set())
