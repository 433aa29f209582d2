"""The plugin in company: addresses alone for another main plugin, or ports and limits for an interface of another.

Owns which of these a call is (`role`), the IPAM result, and what is read from `prevResult`. PURE.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface
from typing import Any

from cni import errors, spec
from cni.ipam.delegate import Answer
from cni.ipam.ranges import IPAddress
from cni.result import Interface
from cni.spec import NetConf

MAIN, IPAM, CHAINED = "main", "ipam", "chained"


@dataclass(frozen=True, slots=True, kw_only=True)
class Previous:
    """What is needed of a result: interfaces on the host by name, and addresses with their gateways."""

    host_names: tuple[str, ...]
    addresses: tuple[Interface, ...]
    gateways: tuple[IPAddress | None, ...]


def role(config: NetConf, *, own_host_name: str) -> str:
    """Main plugin; IPAM of another one, which names us in `ipam.type`; or chained after one that made the interface.

    An interface of ours in `prevResult` is ours to check, so the role is main.
    """
    if config.type not in ("", spec.TYPE):
        return IPAM
    if config.previous is None:
        return MAIN
    return MAIN if own_host_name in read(config).host_names else CHAINED


def read(config: NetConf) -> Previous:
    """`prevResult`. Raises CniError 7 when it is missing or cannot be read."""
    previous = config.previous
    if previous is None:
        raise _invalid("is needed here")
    try:
        links = previous.get("interfaces") or ()
        entries = previous.get("ips") or ()
        return Previous(
            host_names=tuple(str(link["name"]) for link in links if not link.get("sandbox")),
            addresses=tuple(ip_interface(entry["address"]) for entry in entries),
            gateways=tuple(ip_address(entry["gateway"]) if entry.get("gateway") else None for entry in entries),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _invalid(f"{type(error).__name__}: {error}") from error


def ipam_result(answer: Answer, *, version: str) -> Mapping[str, Any]:
    """What an IPAM plugin answers: no interfaces, and addresses that belong to none."""
    return {
        "cniVersion": version,
        "ips": [_address(interface, gateway, version=version) for interface, gateway in answer.granted],
        "routes": [
            {"dst": str(route.destination)} | ({"gw": str(route.gateway)} if route.gateway else {})
            for route in answer.routes
        ],
        "dns": dict(answer.dns),
    }


def previous_result(config: NetConf) -> Mapping[str, Any]:
    """What a chained plugin answers: the result it was given, unchanged."""
    return {**(config.previous or {}), "cniVersion": config.version}


def addresses(previous: Previous) -> Sequence[IPAddress]:
    """The pod's addresses."""
    return [interface.ip for interface in previous.addresses]


def _address(interface: Interface, gateway: IPAddress, *, version: str) -> Mapping[str, Any]:
    family = {"version": str(interface.version)} if version.startswith("0.") else {}
    return {"address": str(interface), "gateway": str(gateway), **family}


def _invalid(reason: str) -> errors.CniError:
    return errors.CniError(errors.INVALID_CONFIG, "invalid network config: prevResult", details=reason)
