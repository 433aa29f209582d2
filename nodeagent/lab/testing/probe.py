"""One try at a connection, from inside another's network: what a program there would see.

Run by `reach` as a script in the network namespace of a pod or a machine, with a mount namespace of its own in which
the names are looked up as the pod does. Standard library only; must not know pods or labs. One JSON document in by
argument, one out.
"""

import contextlib
import ctypes
import json
import os
import socket
import sys
from typing import Any

MS_BIND = 4096
MS_REC, MS_PRIVATE = 16384, 1 << 18
REPLY_SECONDS = 0.3  # how long a server that speaks first is given
KINDS = {"TCP": socket.SOCK_STREAM, "UDP": socket.SOCK_DGRAM}
REACHED, REFUSED, TIMEOUT, NO_NAME, NO_ROUTE = "reached", "refused", "timeout", "no name", "no route"


def main(document: dict[str, Any]) -> dict[str, str]:
    """Try it, and say how it ended."""
    borrow(document.get("files", {}))
    kind = KINDS[document["protocol"]]
    try:
        found = socket.getaddrinfo(document["host"], document["port"], type=kind)
    except socket.gaierror as error:
        return {"outcome": NO_NAME, "detail": error.strerror or str(error)}
    address: Any
    family, _, _, _, address = found[0]
    host, port = str(address[0]), address[1]
    where = f"{host}:{port}" if family == socket.AF_INET else f"[{host}]:{port}"
    with socket.socket(family, kind) as probe:
        probe.settimeout(document["seconds"])
        return {"address": where, **connect(probe, address, payload=document["payload"].encode())}


def connect(probe: socket.socket, address: Any, *, payload: bytes) -> dict[str, str]:
    """Connect and read what comes back: a datagram must be answered, a stream need not be."""
    try:
        probe.connect(address)
        if probe.type == socket.SOCK_DGRAM:
            probe.send(payload)
            return {"outcome": REACHED, "reply": probe.recv(65536).decode(errors="replace")}
    except TimeoutError:
        return {"outcome": TIMEOUT, "detail": "no answer"}
    except OSError as error:
        outcome = REFUSED if isinstance(error, ConnectionRefusedError) else NO_ROUTE
        return {"outcome": outcome, "detail": error.strerror or str(error)}
    probe.settimeout(REPLY_SECONDS)
    reply = b""
    with contextlib.suppress(OSError):
        reply = probe.recv(65536)
    return {"outcome": REACHED, "reply": reply.decode(errors="replace")}


def borrow(files: dict[str, str]) -> None:
    """Show other files under these paths, to this process alone: place -> the file that is to be seen there."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mount(b"none", b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None)
    for place, source in files.items():
        found = os.path.exists(place)
        if found and libc.mount(source.encode(), place.encode(), None, ctypes.c_ulong(MS_BIND), None) != 0:
            raise OSError(ctypes.get_errno(), f"bind {source} on {place}")


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
