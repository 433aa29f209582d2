"""The ADD result in each version that the specification allows.

Owns the shape of a result. Must not know how addresses and links come about.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from typing import Any

Interface = IPv4Interface | IPv6Interface


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One interface of a result; `sandbox` is the CNI_NETNS value inside the pod and empty on the host."""

    name: str
    mac: str
    mtu: int = 0
    sandbox: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """An address with its prefix, its gateway, and the place of its interface in the result's list."""

    address: Interface
    gateway: str
    interface: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What ADD made."""

    links: Sequence[Link]
    addresses: Sequence[Address]
    routes: Sequence[Mapping[str, Any]]
    dns: Mapping[str, Any]

    def body(self, *, version: str) -> Mapping[str, Any]:
        """The JSON object in the version asked for: `ips[].version` only before 1.0.0, `mtu` only from 1.1.0 on."""
        return {
            "cniVersion": version,
            "interfaces": [_link(link, version=version) for link in self.links],
            "ips": [_address(address, version=version) for address in self.addresses],
            "routes": list(self.routes),
            "dns": dict(self.dns),
        }


def _link(link: Link, *, version: str) -> Mapping[str, Any]:
    body: dict[str, Any] = {"name": link.name, "mac": link.mac}
    if link.sandbox:
        body["sandbox"] = link.sandbox
    if link.mtu and version == "1.1.0":
        body["mtu"] = link.mtu
    return body


def _address(address: Address, *, version: str) -> Mapping[str, Any]:
    body: dict[str, Any] = {"address": str(address.address), "interface": address.interface}
    if address.gateway:
        body["gateway"] = address.gateway
    if version.startswith("0."):
        body["version"] = str(address.address.version)
    return body
