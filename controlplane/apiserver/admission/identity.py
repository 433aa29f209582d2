"""One machine, one Node: a kubelet may not take over a Node of another machine, nor another Node's address.

Virtual machines cloned from one image, or with the same address on their first interface (Vagrant's 10.0.2.15), would
otherwise overwrite each other. Only kubelets are judged; administrators and controllers may write what they like.
"""

import ipaddress
from collections.abc import Iterable
from typing import Any

from controlplane.apiserver.admission.chain import Attributes, Plugin
from controlplane.apiserver.noderules import node_name
from controlplane.store.storage import Storage
from kube import status
from kube.scheme import NODES, SERVICE_CIDRS

Object = dict[str, Any]
INTERNAL = "InternalIP"


class NodeIdentity(Plugin):
    """Refuses a node's status when it collides with that of another machine."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def validate(self, attributes: Attributes) -> None:
        """403, naming the other node and what ends the quarrel."""
        if attributes.resource is not NODES or attributes.operation == "DELETE":
            return
        if not node_name(attributes.user.name, attributes.user.groups):
            return
        if attributes.old is not None and _identity(attributes.obj) == _identity(attributes.old):
            return  # nearly all writes are heartbeats, which change nothing of it
        if fault := unreal(attributes.obj, ranges=self._service_ranges()):
            raise status.forbidden(fault, resource=NODES, name=attributes.name)
        others = (entry.decode() for entry in self._storage.cache(NODES.storage_key).items.values())
        if fault := collision(attributes.obj, old=attributes.old, others=others):
            raise status.forbidden(fault, resource=NODES, name=attributes.name)

    def _service_ranges(self) -> list[str]:
        found = (entry.decode() for entry in self._storage.cache(SERVICE_CIDRS.storage_key).items.values())
        return [cidr for each in found for cidr in each["spec"]["cidrs"]]


def unreal(node: Object, *, ranges: Iterable[str]) -> str:
    """Why no machine has these addresses, "" when one may: with them, a certificate would prove the API server."""
    networks = [ipaddress.ip_network(each) for each in ranges]
    for text in _addresses(node):
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return f"status.addresses: {text!r} is no IP address"
        if address.is_loopback or any(address in each for each in networks):
            return f"{text} is no address of a machine: it is of the loopback or of the Services' range"
    return ""


def collision(node: Object, *, old: Object | None, others: Iterable[Object]) -> str:
    """Why this Node cannot be what it says it is; "" when it can."""
    name, machine, addresses = node["metadata"]["name"], _machine(node), _addresses(node)
    had = _machine(old) if old else ""
    if had and machine and had != machine:
        return (
            f"node {name} is another machine (machine id {had}, addresses {', '.join(_addresses(old)) or 'none'}; "
            f"yours is {machine}): give this one another name, or, if it replaces the other, run: "
            f"kubectl delete node {name}"
        )
    for other in others:
        other_name = other["metadata"]["name"]
        shared = [each for each in addresses if each in _addresses(other)]
        if other_name != name and shared:
            return (
                f"node {other_name} has the address {shared[0]} already: set AgentConfiguration.nodeIP of {name} to "
                f"the address the other nodes reach it by, or, if {other_name} is gone, run: "
                f"kubectl delete node {other_name}"
            )
    return ""


def _identity(node: Object) -> tuple[str, list[str]]:
    return _machine(node), _addresses(node)


def _machine(node: Object | None) -> str:
    return (((node or {}).get("status") or {}).get("nodeInfo") or {}).get("machineID") or ""


def _addresses(node: Object | None) -> list[str]:
    found = ((node or {}).get("status") or {}).get("addresses") or []
    return [each.get("address", "") for each in found if each.get("type") == INTERNAL]
