"""Which upstream servers this machine names in resolv.conf, and which of them can be used."""

from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

RESOLV_CONF = Path("/etc/resolv.conf")
SYSTEMD_RESOLV_CONF = Path("/run/systemd/resolve/resolv.conf")
MAX_UPSTREAMS = 15
PORT = 53


class LoopError(Exception):
    """The only servers in resolv.conf are on this machine: forwarding would come back to us."""


def nameservers(text: str) -> list[str]:
    """The addresses in a resolv.conf."""
    words = (line.split() for line in text.splitlines())
    return [line[1] for line in words if len(line) > 1 and line[0] == "nameserver" and is_address(line[1])]


def searches(text: str) -> list[str]:
    """The search path in a resolv.conf; the last such line counts."""
    found = [line.split()[1:] for line in text.splitlines() if line.split()[:1] in (["search"], ["domain"])]
    return found[-1] if found else []


def choose(own: str, systemd: str | None) -> list[str]:
    """The upstreams out of resolv.conf and systemd-resolved's list. Raises LoopError."""
    found = nameservers(own)
    outside = [server for server in found if not _is_loopback(server)]
    if found and not outside and systemd is not None:
        outside = [server for server in nameservers(systemd) if not _is_loopback(server)]
    if found and not outside:
        raise LoopError(
            f"the nameservers in resolv.conf ({', '.join(found)}) are on this machine, so forwarding would loop: "
            "name real ones in DNSConfiguration.forward"
        )
    return outside[:MAX_UPSTREAMS]


def configured(upstreams: Sequence[str], *, resolv_conf: Path = RESOLV_CONF) -> list[str]:
    """The configured servers, in which a path stands for the servers of that file; else this machine's own.

    Raises LoopError.
    """
    found: list[str] = []
    for each in upstreams or (str(resolv_conf),):
        if not each.startswith("/"):
            found.append(each)
            continue
        path = Path(each)
        systemd = SYSTEMD_RESOLV_CONF.read_text() if SYSTEMD_RESOLV_CONF.exists() else None
        found += choose(path.read_text() if path.exists() else "", systemd)
    return found[:MAX_UPSTREAMS]


def split(server: str, *, port: int = PORT) -> tuple[str, int]:
    """(address, port) of `10.0.0.1`, `10.0.0.1:53`, `fd00::1` or `[fd00::1]:53`. ValueError says what is wrong."""
    text = server.removeprefix("dns://")
    host, _, number = text.rpartition(":") if text.startswith("[") or text.count(":") == 1 else (text, "", "")
    host = host.strip("[]") if host else text.strip("[]")
    if not is_address(host):
        raise ValueError(f"{server!r} is not an IP address, nor one with a port")
    if number and not (number.isdigit() and 0 < int(number) < 65536):
        raise ValueError(f"{server!r}: {number!r} is not a port")
    return host, int(number or port)


def is_address(text: str) -> bool:
    """Whether a text is an IP address, with a zone or without."""
    try:
        ip_address(text.split("%")[0])
    except ValueError:
        return False
    return True


def _is_loopback(server: str) -> bool:
    return ip_address(server.split("%")[0]).is_loopback
