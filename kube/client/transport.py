"""The seam below the client: one request, one answer, whole or in chunks.

Owns the values and the Protocol; real ones are `kube.client.http` and `kube.client.inprocess`, the scripted one lives
with the tests. A transport knows nothing of Kubernetes objects; its failures are `kube.client.errors.Unreachable`.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class StreamResponse:
    """An answer whose body is still coming; `chunks` follow the wire, not lines, and ends with the body."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]


class Transport(Protocol):
    """Carries requests to one API server."""

    @property
    def server(self) -> str:
        """Who is asked, for error messages."""

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
        """The whole answer within `timeout` seconds, whatever its status; Unreachable when none came."""

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
        """An answer to be read as it comes; `timeout` covers only its head. Reading slowly slows the sender."""

    async def close(self) -> None:
        """Give connections back."""
