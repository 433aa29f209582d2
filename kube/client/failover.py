"""One transport over several servers of a cluster: when one does not answer, the next is asked.

Owns which server is asked. What changed nothing is asked again at once; of a write nobody knows whether it was done,
so its caller is told, and plans again. Knows no resource.
"""

import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace

from kube.client.errors import Unreachable
from kube.client.http import HttpTransport
from kube.client.transport import Response, StreamResponse, Transport
from kube.kubeconfig import RestConfig

log = logging.getLogger(__name__)

SAFE = ("GET", "HEAD")


class FailoverTransport:
    """Asks the servers of `config`, the first one first, for as long as it answers."""

    def __init__(self, config: RestConfig, *, make: Callable[[RestConfig], Transport] = HttpTransport) -> None:
        self._config, self._make = config, make
        self._servers = list(dict.fromkeys((config.server, *config.more_servers)))
        self._open: dict[str, Transport] = {}

    @property
    def server(self) -> str:
        """The server asked next."""
        return self._servers[0]

    @property
    def servers(self) -> tuple[str, ...]:
        """All of them, the one asked next first."""
        return tuple(self._servers)

    async def learn(self, servers: Sequence[str]) -> None:
        """From now on these are the servers; the one in use stays in use when it is among them."""
        wanted = list(dict.fromkeys(servers))
        if not wanted or set(wanted) == set(self._servers):
            return
        kept = [each for each in self._servers if each in wanted]
        self._servers = kept + [each for each in wanted if each not in kept]
        for gone in [each for each in self._open if each not in wanted]:
            await self._open.pop(gone).close()
        log.info("API servers: %s", ", ".join(self._servers))

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout: float = 30.0,
    ) -> Response:
        """See `Transport.request`."""
        last: Unreachable | None = None
        for server in tuple(self._servers):
            try:
                return await self._to(server).request(
                    method, path, params=params, headers=headers, body=body, timeout=timeout
                )
            except Unreachable as error:
                self._silent(server)
                if method not in SAFE:
                    raise
                last = error
        assert last is not None
        raise last

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout: float = 30.0,
    ) -> AsyncIterator[StreamResponse]:
        """See `Transport.stream`. A stream that breaks off is begun again by its caller."""
        async with contextlib.AsyncExitStack() as stack:
            last: Unreachable | None = None
            for server in tuple(self._servers):
                opening = self._to(server).stream(
                    method, path, params=params, headers=headers, body=body, timeout=timeout
                )
                try:
                    answer = await stack.enter_async_context(opening)
                    break
                except Unreachable as error:
                    self._silent(server)
                    if method not in SAFE:
                        raise
                    last = error
            else:
                assert last is not None
                raise last
            yield answer

    async def close(self) -> None:
        """Close every connection; requests under way fail."""
        for transport in self._open.values():
            await transport.close()

    def _to(self, server: str) -> Transport:
        if server not in self._open:
            self._open[server] = self._make(replace(self._config, server=server))
        return self._open[server]

    def _silent(self, server: str) -> None:
        """Ask this one last from now on."""
        if len(self._servers) > 1 and self._servers[0] == server:
            self._servers.append(self._servers.pop(0))
            log.warning("%s does not answer, turning to %s", server, self._servers[0])
