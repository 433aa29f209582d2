"""Who listens in a network: the kernel's socket tables as text. `listening` and `hop` are PURE."""

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from kube.hop import Hop

LISTEN, UNCONNECTED = "0A", "07"  # linux/net/tcp_states.h; a UDP socket that is bound is CLOSE
ANY = frozenset(map(ip_address, ("0.0.0.0", "::")))
Address = IPv4Address | IPv6Address


def tables(pid: int, protocol: str) -> dict[str, str]:
    """/proc/PID/net/tcp and tcp6 (or udp) of the network a process is in."""
    found = {}
    for name in (protocol, protocol + "6"):
        try:
            found[name] = Path(f"/proc/{pid}/net/{name}").read_text()
        except OSError:
            continue
    return found


def listening(tables: Mapping[str, str]) -> list[tuple[Address, int]]:
    """Addresses and ports that are listened on."""
    found = []
    for name, text in tables.items():
        state = LISTEN if name.startswith("tcp") else UNCONNECTED
        for line in text.splitlines()[1:]:
            words = line.split()
            if len(words) > 3 and words[3] == state:
                address, _, port = words[1].partition(":")
                found.append((decode(address), int(port, 16)))
    return found


def decode(text: str) -> Address:
    """An address as the kernel prints it: each 32 bit word in the machine's byte order (little endian)."""
    raw = b"".join(bytes.fromhex(text[at : at + 8])[::-1] for at in range(0, len(text), 8))
    address = ip_address(raw)
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


def hop(bound: Iterable[tuple[Address, int]], *, pid: int, to: str, port: int, protocol: str) -> Hop:
    """Whether somebody listens for a connection to this address and port."""
    every = sorted({(str(address), number) for address, number in bound})
    flag = "-ltn" if protocol == "tcp" else "-lun"
    command = f"nsenter -t {pid} -n ss {flag} sport = :{port}"
    wanted = {str(each) for each in ANY} | {to}
    there = [f"{address}:{number}" for address, number in every if number == port and address in wanted]
    if there:
        return Hop(place="listening socket", found=f"{', '.join(there)} is listened on", command=command)
    others = ", ".join(f"{address}:{number}" for address, number in every) or "nothing"
    stops = f"nobody listens on {protocol} port {port}"
    return Hop(place="listening socket", found=f"{stops}; {others} is", command=command, stops=stops)
