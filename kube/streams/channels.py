"""The channel protocols of exec and attach over WebSocket: one channel number and a payload in every message.

Owns the subprotocol names and the coding of messages. PURE: must not know sockets or SPDY.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
from collections.abc import Iterable

from kube.streams.errors import WebSocketError

STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)
CLOSE = 255
"""In v5: the message `[255, n]` ends the sender's side of channel n."""

TUNNEL = "SPDY/3.1+portforward.k8s.io"
"""Subprotocol whose binary messages carry the bytes of one SPDY connection; message borders mean nothing."""


@dataclasses.dataclass(frozen=True, slots=True)
class Protocol:
    """One channel subprotocol. `json_status`: the error channel ends with a Status object, else with plain text."""

    name: str
    base64: bool = False
    half_close: bool = False
    json_status: bool = False

    def encode(self, channel: int, data: bytes) -> bytes | str:
        """Make one message."""
        if self.base64:
            return chr(ord("0") + channel) + base64.b64encode(data).decode()
        return channel.to_bytes(1, "big") + data

    def decode(self, message: bytes) -> tuple[int, bytes]:
        """Take one message apart. Raises WebSocketError."""
        if not message:
            raise WebSocketError("a message without a channel number")
        if not self.base64:
            return message[0], message[1:]
        try:
            return message[0] - ord("0"), base64.b64decode(message[1:], validate=True)
        except binascii.Error as e:
            raise WebSocketError(f"message is not base64: {e}") from e


V5 = Protocol("v5.channel.k8s.io", half_close=True, json_status=True)
V4 = Protocol("v4.channel.k8s.io", json_status=True)
V1 = Protocol("channel.k8s.io")

EXEC_PROTOCOLS = (
    V5,
    V4,
    Protocol("v4.base64.channel.k8s.io", base64=True, json_status=True),
    V1,
    Protocol("base64.channel.k8s.io", base64=True),
)
"""What an exec or attach server offers, best first."""

FORWARD_PROTOCOLS = (V4, Protocol("v4.base64.channel.k8s.io", base64=True))
"""What a port-forward server offers clients that know no tunnel: port i has data channel 2i and error channel 2i+1."""


def choose_forward(offered: Iterable[str]) -> Protocol | None:
    """The same for port-forward by channels. No subprotocol at all means the binary one."""
    wanted = [name for name in offered if name]
    known = {protocol.name: protocol for protocol in FORWARD_PROTOCOLS}
    return next((known[name] for name in wanted if name in known), None) if wanted else V4


def choose(offered: Iterable[str]) -> Protocol | None:
    """Pick the client's first choice among ours. No subprotocol at all means the binary v1."""
    wanted = [name for name in offered if name]
    if not wanted:
        return V1
    known = {protocol.name: protocol for protocol in EXEC_PROTOCOLS}
    return next((known[name] for name in wanted if name in known), None)
