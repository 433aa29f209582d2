"""The plugin named `loopback`, which containerd before 2.0 calls for every pod: brings `lo` up in the pod's namespace.

Owns that one interface. Must not know addresses or bridges.
"""

import fcntl
import os
import socket
import struct
from collections.abc import Mapping
from typing import Any

from cni import errors, netns, spec

TYPE = "loopback"
NAME = b"lo"
SIOCGIFFLAGS, SIOCSIFFLAGS = 0x8913, 0x8914
IFF_UP = 1
REQUEST = struct.Struct("16sh22x")


def call(environment: spec.Environment, *, version: str) -> Mapping[str, Any] | None:
    """One verb. DEL has nothing to do: the interface goes with its namespace. Raises CniError."""
    if environment.command == "ADD":
        _in_namespace(environment.netns, up=True)
        return result(environment.netns, version=version)
    if environment.command == "CHECK" and not _in_namespace(environment.netns, up=False):
        raise errors.CniError(errors.CHECK_FAILED, "the attachment is not as it was made", details="lo is down")
    return None


def result(path: str, *, version: str) -> Mapping[str, Any]:
    """What ADD answers."""
    return {
        "cniVersion": version,
        "interfaces": [{"name": NAME.decode(), "mac": "00:00:00:00:00:00", "sandbox": path}],
        "ips": [{"address": address, "interface": 0} for address in ("127.0.0.1/8", "::1/128")],
        "dns": {},
    }


def _in_namespace(path: str, *, up: bool) -> bool:
    """Whether `lo` is up in the namespace, having brought it up when asked to."""
    descriptor = netns.open_path(path)
    try:
        with netns.entered(descriptor), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            flags = REQUEST.unpack(fcntl.ioctl(control, SIOCGIFFLAGS, REQUEST.pack(NAME, 0)))[1]
            if up:
                fcntl.ioctl(control, SIOCSIFFLAGS, REQUEST.pack(NAME, flags | IFF_UP))
            return bool(flags & IFF_UP)
    except OSError as error:
        raise errors.CniError(errors.IO_FAILURE, "cannot bring lo up", details=str(error)) from error
    finally:
        os.close(descriptor)
