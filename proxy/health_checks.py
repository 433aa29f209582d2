"""The servers behind `healthCheckNodePort`: an outside load balancer asks which nodes have endpoints of a Service.

Owns which ports are listened on and what is answered. Must not know rules: it is told how many endpoints there are.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from proxy.health import HttpServer, Response
from proxy.services.model import ServiceKey

log = logging.getLogger(__name__)

RETRY_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What is answered on one port."""

    service: ServiceKey
    local_endpoints: int


def answer(check: Check, *, healthy: bool) -> Response:
    """200 with endpoints here, 503 without or when the proxy itself is late. PURE."""
    body = {
        "service": {"namespace": check.service.namespace, "name": check.service.name},
        "localEndpoints": check.local_endpoints,
        "serviceProxyHealthy": healthy,
    }
    status = 200 if check.local_endpoints and healthy else 503
    weight = {"X-Load-Balancing-Endpoint-Weight": str(check.local_endpoints), "X-Content-Type-Options": "nosniff"}
    return Response(status, "application/json", json.dumps(body).encode(), weight)


class HealthChecks:
    """One small server for each port, on every address."""

    def __init__(self, *, healthy: Callable[[], bool], complain: Callable[[ServiceKey, str], None]) -> None:
        self._healthy = healthy
        self._complain = complain
        self._checks: dict[int, Check] = {}
        self._changed = asyncio.Event()

    def replace(self, key: ServiceKey, port: int, local_endpoints: int) -> None:
        """What a Service has now; port 0 is none. The first Service to name a port keeps it."""
        for held in [number for number, check in self._checks.items() if check.service == key and number != port]:
            del self._checks[held]
            self._changed.set()
        owner = self._checks.get(port)
        if not port or (owner is not None and owner.service != key):
            return
        if owner is None:
            self._changed.set()
        self._checks[port] = Check(service=key, local_endpoints=local_endpoints)

    @property
    def ports(self) -> Mapping[int, Check]:
        """What is to be answered, by port."""
        return self._checks

    async def run(self) -> None:
        """Listens on the ports that are wanted until cancelled."""
        async with asyncio.TaskGroup() as group:
            listening: dict[int, asyncio.Task[None]] = {}
            while True:
                self._changed.clear()
                for port in listening.keys() - self._checks.keys():
                    listening.pop(port).cancel()
                for port in self._checks.keys() - listening.keys():
                    listening[port] = group.create_task(self._listen(port))
                await self._changed.wait()

    async def _listen(self, port: int) -> None:
        complained = False
        while True:
            try:
                await HttpServer(None, port, {}, default=lambda: self._answer(port)).run()
            except OSError as error:
                if not complained:
                    self._complain(self._checks[port].service, f"cannot listen on healthCheckNodePort {port}: {error}")
                complained = True
                await asyncio.sleep(RETRY_SECONDS)

    def _answer(self, port: int) -> Response:
        check = self._checks.get(port)
        if check is None:
            return Response(503, "text/plain", b"the Service is gone\n")
        return answer(check, healthy=self._healthy())
