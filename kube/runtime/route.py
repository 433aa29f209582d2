"""Which of this machine's addresses leads somewhere: that of the route there. Sends no packet.

On machines with several interfaces (Vagrant gives every one of them 10.0.2.15 first) the first address is often one
that nobody else can reach; the one from which the API server is reached is the one it reaches us by.
"""

import socket
import urllib.parse


def source_address(host: str, port: int) -> str:
    """This machine's address towards a host; OSError when there is no route or no such name."""
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probe:
        probe.connect(address)
        return str(probe.getsockname()[0])


def towards(url: str) -> str:
    """This machine's address towards a server; OSError as above."""
    found = urllib.parse.urlsplit(url)
    return source_address(found.hostname or "127.0.0.1", found.port or 443)
