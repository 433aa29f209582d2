"""The API server of a node that has none: whoever asks it is told so at once."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager

from kube.client.errors import Unreachable
from kube.client.transport import Response, StreamResponse


class NoApiServer:
    """A transport that carries nothing anywhere."""

    server = "the API server"

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
        """See Transport."""
        raise Unreachable(self.server, "this node stands alone")

    def stream(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout: float = 30.0,
    ) -> AbstractAsyncContextManager[StreamResponse]:
        """See Transport."""
        raise Unreachable(self.server, "this node stands alone")

    async def close(self) -> None:
        """See Transport."""
