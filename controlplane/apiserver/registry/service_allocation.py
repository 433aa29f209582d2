"""Addresses and node ports of a Service being written: taken before it is validated, given back when it fails.

Owns what a Service needs from the two allocators and the faults it answers. Must not know the store.

    lease = allocation.prepare(service, old=None)     # raises ApiError 422 and takes nothing
    try: validate, store
    except: lease.undo(); raise
    else: lease.commit()
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from controlplane.apiserver.registry import field as faults
from controlplane.apiserver.registry import node_ports, service, service_ips, validate_service
from kube import status
from kube.status import FieldError

JSON = dict[str, Any]


@dataclass(slots=True)
class Lease:
    """What one write took, and what it no longer needs once it is stored."""

    _undo: list[Callable[[], None]] = field(default_factory=list)
    _commit: list[Callable[[], None]] = field(default_factory=list)

    def took(self, release: Callable[[], None]) -> None:
        """Something was taken that `release` gives back."""
        self._undo.append(release)

    def spare(self, release: Callable[[], None]) -> None:
        """Something is free once the write is stored."""
        self._commit.append(release)

    def undo(self) -> None:
        """The write failed, or was a dry run: give back what it took."""
        for release in self._undo:
            release()

    def commit(self) -> None:
        """The write is stored: free what the old state held alone."""
        for release in self._commit:
            release()


class ServiceAllocation:
    """The two allocators as the writes of Services use them."""

    def __init__(self, ips: service_ips.ClusterIPs, ports: node_ports.NodePorts) -> None:
        self._ips = ips
        self._ports = ports

    def rebuild(self, services: Iterable[JSON]) -> None:
        """Learn what the stored Services hold."""
        found = list(services)
        self._ips.rebuild(found)
        self._ports.rebuild(found)

    def prepare(self, obj: JSON, *, old: JSON | None) -> Lease:
        """Fill in addresses and node ports (in place). Raises ApiError 422 and takes nothing then."""
        lease = Lease()
        spec, before = obj.get("spec") or {}, (old or {}).get("spec") or {}
        errors = self._addresses(spec, before, lease) or self._node_ports(spec, before, lease)
        if errors:
            lease.undo()
            raise status.invalid("Service", (obj.get("metadata") or {}).get("name") or "", errors)
        return lease

    def release(self, obj: JSON) -> None:
        """The Service is gone: its addresses and ports are free."""
        for text in (obj.get("spec") or {}).get("clusterIPs") or ():
            self._ips.release(text)
        for port in node_ports.of_service(obj):
            self._ports.release(port)

    def _addresses(self, spec: JSON, before: JSON, lease: Lease) -> list[FieldError]:
        held = _addresses_of(before)
        if not service.needs_cluster_ip(spec):
            self._spare_addresses(held, lease)
            return []
        if errors := validate_service.single_stack(spec) or validate_service.cluster_ips(spec):
            return errors
        if spec.get("clusterIP") == service.NONE:
            return []
        asked = spec.get("clusterIP") or None
        if asked in held:
            return []
        try:
            text = self._ips.allocate(asked)
        except service_ips.AllocationError as error:
            return [_no_address(asked, error)]
        spec["clusterIP"], spec["clusterIPs"] = text, [text]
        lease.took(lambda: self._ips.release(text))
        return []

    def _spare_addresses(self, held: Iterable[str], lease: Lease) -> None:
        for text in held:
            lease.spare(lambda text=text: self._ips.release(text))  # type: ignore[misc]

    def _node_ports(self, spec: JSON, before: JSON, lease: Lease) -> list[FieldError]:
        held = node_ports.of_service({"spec": before})
        errors: list[FieldError] = []
        shared: dict[int, set[str]] = {}
        wanted = service.needs_node_ports(spec)
        for index, port in enumerate(
            spec.get("ports") or () if spec.get("type") in ("NodePort", "LoadBalancer") else ()
        ):
            if not port.get("nodePort") and not wanted:
                continue
            protocol, asked = port.get("protocol") or "", port.get("nodePort") or None
            if (
                asked is not None
                and protocol not in shared.setdefault(asked, set())
                and (held | _taken(shared)) & {asked}
            ):
                shared[asked].add(protocol)
                continue
            try:
                port["nodePort"] = self._take(asked, lease)
            except service_ips.AllocationError as error:
                errors.append(faults.invalid(f"spec.ports[{index}].nodePort", asked or 0, str(error)))
                continue
            shared.setdefault(port["nodePort"], set()).add(protocol)
        errors += self._health_port(spec, held, lease)
        for number in held - node_ports.of_service({"spec": spec}):
            lease.spare(lambda number=number: self._ports.release(number))  # type: ignore[misc]
        return errors

    def _health_port(self, spec: JSON, held: set[int], lease: Lease) -> list[FieldError]:
        asked = spec.get("healthCheckNodePort") or None
        if not service.needs_health_check(spec) or asked in held:
            return []
        try:
            spec["healthCheckNodePort"] = self._take(asked, lease)
        except service_ips.AllocationError as error:
            return [faults.invalid("spec.healthCheckNodePort", asked or 0, str(error))]
        return []

    def _take(self, asked: int | None, lease: Lease) -> int:
        number = self._ports.allocate(asked)
        lease.took(lambda: self._ports.release(number))
        return number


def _addresses_of(spec: JSON) -> list[str]:
    return [text for text in spec.get("clusterIPs") or () if text != service.NONE]


def _taken(shared: dict[int, set[str]]) -> set[int]:
    return {number for number, protocols in shared.items() if protocols}


def _no_address(asked: str | None, error: Exception) -> FieldError:
    if asked is None:
        return FieldError("Internal", "spec.clusterIPs", f"failed to allocate a serviceIP: {error}")
    return faults.invalid("spec.clusterIPs", [asked], f"failed to allocate IP {asked}: {error}")
