"""The names and the final Status of exec and attach, the same over SPDY and over WebSocket.

Owns header names, stream types, subprotocol versions and the Status of a finished command. PURE.
Follows the remote command constants of apimachinery.
"""

from __future__ import annotations

import json
from typing import Any

STREAM_TYPE = "streamtype"
PORT = "port"
REQUEST_ID = "requestid"
PROTOCOL_HEADER = "X-Stream-Protocol-Version"
ACCEPTED_HEADER = "X-Accepted-Stream-Protocol-Versions"
UPGRADE_SPDY = "SPDY/3.1"

ERROR, STDIN, STDOUT, STDERR, RESIZE, DATA = "error", "stdin", "stdout", "stderr", "resize", "data"

SPDY_PROTOCOLS = ("v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io")
PORT_FORWARD_PROTOCOL = "portforward.k8s.io"


def success() -> dict[str, Any]:
    """The Status of a command that ended with 0."""
    return {"metadata": {}, "status": "Success"}


def exited(code: int) -> dict[str, Any]:
    """The Status of a command that ended with another exit code."""
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def failed(message: str) -> dict[str, Any]:
    """The Status of a command that could not be run or watched to its end."""
    return {"metadata": {}, "status": "Failure", "message": message, "reason": "InternalError"}


def exit_code(status: dict[str, Any]) -> int | None:
    """Read the exit code from a final Status; None when the command did not come to one."""
    if status.get("status") == "Success":
        return 0
    for cause in status.get("details", {}).get("causes", ()):
        if cause.get("reason") == "ExitCode":
            try:
                return int(cause.get("message", ""))
            except ValueError:
                return None
    return None


def plain_text(status: bytes) -> bytes:
    """Turn a final Status into what protocols before v4 send: a message, and nothing on success."""
    try:
        decoded = json.loads(status)
    except ValueError:
        return status
    if decoded.get("status") == "Success":
        return b""
    return str(decoded.get("message", "")).encode()
