"""Settings of the kernel that a node and its interfaces need, by interface; writes nothing that is as it should be.

Owns /proc/sys/net. A setting that cannot be written is told once a call, and the work goes on: the packets will show.
"""

import logging
from collections.abc import Iterable
from pathlib import Path

log = logging.getLogger(__name__)

FORWARDING = {4: "ipv4/ip_forward", 6: "ipv6/conf/all/forwarding"}
NET = Path("/proc/sys/net")


def prepare_host(versions: Iterable[int]) -> None:
    """Lets the node forward packets of these IP versions."""
    for version in sorted(set(versions)):
        put(FORWARDING[version], "1")


def quiet_ipv6(ifname: str) -> None:
    """No duplicate detection, which delays an address by a second, and no routes from strangers."""
    for key in ("accept_dad", "accept_ra"):
        put(f"ipv6/conf/{ifname}/{key}", "0")


def announce_ipv4(ifname: str) -> None:
    """The kernel sends a gratuitous ARP for each address when the interface comes up.

    Sending it from here would need a packet socket, whose closing waits for every processor: 4 to 12 ms of each ADD.
    """
    put(f"ipv4/conf/{ifname}/arp_notify", "1")


def put(key: str, value: str) -> None:
    """Writes one setting, given by its path below /proc/sys/net, when it differs."""
    path = NET / key
    try:
        if path.read_text().strip() != value:
            path.write_text(value)
    except OSError as error:
        log.warning("cannot set %s to %s: %s", path, value, error)
