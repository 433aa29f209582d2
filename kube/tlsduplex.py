"""TLS on top of a `Duplex`, as a client.

Owns the handshake and the records. uvloop's own TLS drops what is not yet decrypted when the peer closes while reading
is paused: the end of a long answer. Here only the byte stream below is ever paused. Must not know what is spoken.
"""

import contextlib
import ssl
from typing import Protocol

from kube.duplex import Duplex

CIPHERTEXT = 65536


class Below(Duplex, Protocol):
    """What TLS runs over."""

    def abort(self) -> None:
        """End at once; unsent bytes are dropped."""


class TlsDuplex:
    """A Duplex inside TLS over a connected stream; `handshake` comes first."""

    def __init__(self, below: Below, context: ssl.SSLContext, *, host: str) -> None:
        self._below = below
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)

    async def handshake(self) -> None:
        """Agree with the peer and check its certificate. Raises OSError, of which ssl.SSLError is one."""
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self._flush()
                if not await self._fill():
                    raise ConnectionResetError("connection closed during the TLS handshake") from None
        await self._flush()

    async def read(self, n: int = 65536) -> bytes:
        """See `Duplex.read`."""
        while True:
            try:
                return self._tls.read(n)
            except ssl.SSLWantReadError:
                await self._flush()
                if not await self._fill():
                    return b""
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLError as e:
                raise ConnectionResetError(str(e)) from e

    async def write(self, data: bytes) -> None:
        """See `Duplex.write`."""
        try:
            self._tls.write(data)
        except ssl.SSLError as e:
            raise ConnectionResetError(str(e)) from e
        await self._flush()

    async def write_eof(self) -> None:
        """See `Duplex.write_eof`: TLS has no such half."""

    async def close(self) -> None:
        """See `Duplex.close`."""
        with contextlib.suppress(ssl.SSLError, ValueError):
            self._tls.unwrap()  # always wants the peer's farewell, for which nobody waits
        with contextlib.suppress(ConnectionError):
            await self._flush()
        await self._below.close()

    def abort(self) -> None:
        """End at once; unsent bytes are dropped."""
        self._below.abort()

    async def _fill(self) -> bool:
        data = await self._below.read(CIPHERTEXT)
        self._incoming.write(data)
        return bool(data)

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await self._below.write(self._outgoing.read())
