"""What can go wrong on a stream, whatever carries it."""

from __future__ import annotations


class StreamError(Exception):
    """A streaming connection failed. Base of this package's errors."""


class SpdyError(StreamError):
    """The peer broke SPDY, or the caller used a stream that is not open. The session is unusable afterwards."""


class WebSocketError(StreamError):
    """The peer broke the WebSocket protocol, or its handshake cannot be answered."""


class RefusedError(StreamError):
    """The other end answered the upgrade with a plain reply. `status` is its HTTP status, `body` its text."""

    def __init__(self, *, status: int, body: str) -> None:
        super().__init__(f"upgrade refused with status {status}: {body}")
        self.status = status
        self.body = body
