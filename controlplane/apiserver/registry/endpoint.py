"""The strategies of Endpoints and EndpointSlices. Owns their rules and tables. Must not know who routes by them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from controlplane.apiserver.registry import addresses, columns, field, names, selectors
from controlplane.apiserver.registry.columns import Column
from controlplane.apiserver.registry.strategy import JSON, Plain
from controlplane.apiserver.registry.validate_container import PROTOCOLS
from kube.status import FieldError

_SHOWN = 3
_MAX_ENDPOINTS, _MAX_ADDRESSES, _MAX_PORTS, _MAX_TOPOLOGY, _MAX_ZONES, _MAX_NODES = 1000, 100, 20000, 16, 8, 8
_TYPES = ("FQDN", "IPv4", "IPv6")


class Endpoints(Plain):
    """Endpoints."""

    columns: tuple[Column, ...] = (columns.NAME, Column("Endpoints", "The first addresses with ports."), columns.AGE)

    def fill(self, obj: JSON) -> None:
        for subset in obj.get("subsets") or ():
            for port in subset.get("ports") or ():
                port["protocol"] = port.get("protocol") or "TCP"

    def validate(self, obj: JSON) -> field.Errors:
        errors: field.Errors = []
        for index, subset in enumerate(obj.get("subsets") or ()):
            where = f"subsets[{index}]"
            if not subset.get("addresses") and not subset.get("notReadyAddresses"):
                errors.append(field.required(where, "must specify `addresses` or `notReadyAddresses`"))
            for key in ("addresses", "notReadyAddresses"):
                for number, item in enumerate(subset.get(key) or ()):
                    errors += _address(f"{where}.{key}[{number}]", item)
            errors += _ports(f"{where}.ports", subset.get("ports") or [])
        return errors

    def cells(self, obj: JSON, now: datetime) -> list[Any]:
        return [columns.name(obj), _endpoints(obj.get("subsets") or ()), columns.age(obj, now)]


def _address(path: str, item: JSON) -> field.Errors:
    text = item.get("ip") or ""
    errors = addresses.ip(f"{path}.ip", text)
    if host := item.get("hostname"):
        errors += field.invalids(f"{path}.hostname", host, names.dns_label(host))
    if (node := item.get("nodeName")) is not None:
        errors += field.invalids(f"{path}.nodeName", node, names.dns_subdomain(node))
    return errors + addresses.ordinary(f"{path}.ip", text)


def _ports(path: str, ports: list[JSON]) -> field.Errors:
    errors: field.Errors = []
    for index, port in enumerate(ports):
        where, name = f"{path}[{index}]", port.get("name") or ""
        if name:
            errors += field.invalids(f"{where}.name", name, names.dns_label(name))
        elif len(ports) > 1:
            errors.append(field.required(f"{where}.name"))
        number = port.get("port") or 0
        errors += field.invalids(f"{where}.port", number, names.port_number(number))
        errors += _protocol(f"{where}.protocol", port.get("protocol"))
        if (app := port.get("appProtocol")) is not None:
            errors += field.invalids(f"{where}.appProtocol", app, names.qualified_name(app))
    return errors


def _protocol(path: str, value: str | None) -> field.Errors:
    if value in PROTOCOLS:
        return []
    return [field.unsupported(path, value, PROTOCOLS) if value else field.required(path)]


def _endpoints(subsets: Sequence[JSON]) -> str:
    found: list[str] = []
    count = 0
    for subset in subsets:
        ready = subset.get("addresses") or ()
        ports = subset.get("ports") or ()
        texts = [_joined(item.get("ip") or "", port["port"]) for port in ports for item in ready if "port" in port]
        if not ports:
            texts = [item.get("ip") or "" for item in ready]
        count += len(texts)
        found += texts[: max(0, _SHOWN - len(found))]
    more = f" + {count - len(found)} more..." if count > len(found) else ""
    return ",".join(found) + more if subsets else columns.UNSET


def _joined(ip: str, port: int) -> str:
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


class EndpointSlices(Plain):
    """EndpointSlices."""

    columns: tuple[Column, ...] = (
        columns.NAME,
        Column("AddressType", "Family of the addresses."),
        Column("Ports", "The first ports."),
        Column("Endpoints", "The first addresses."),
        columns.AGE,
    )
    generation_of = ("addressType", "endpoints", "ports")

    def fill(self, obj: JSON) -> None:
        for port in obj.get("ports") or ():
            port.setdefault("name", "")
            port.setdefault("protocol", "TCP")

    def validate(self, obj: JSON) -> field.Errors:
        kind = obj.get("addressType") or ""
        errors = [] if kind in _TYPES else [_bad_type(kind)]
        endpoints, ports = obj.get("endpoints") or [], obj.get("ports") or []
        if len(endpoints) > _MAX_ENDPOINTS:
            errors.append(field.too_many("endpoints", len(endpoints), _MAX_ENDPOINTS))
        else:
            for index, item in enumerate(endpoints):
                errors += _endpoint(f"endpoints[{index}]", item, kind)
        return errors + _slice_ports("ports", ports)

    def validate_change(self, obj: JSON, old: JSON) -> field.Errors:
        return field.immutable("addressType", obj.get("addressType"), old.get("addressType"))

    def cells(self, obj: JSON, now: datetime) -> list[Any]:
        kind = obj.get("addressType") or ""
        return [columns.name(obj), kind, _slice_port_cell(obj), _slice_endpoint_cell(obj), columns.age(obj, now)]


def _bad_type(kind: str) -> FieldError:
    return field.unsupported("addressType", kind, _TYPES) if kind else field.required("addressType")


def _endpoint(path: str, item: JSON, kind: str) -> field.Errors:
    found = item.get("addresses") or []
    errors: field.Errors = []
    if not found:
        errors.append(field.required(f"{path}.addresses", "must contain at least 1 address"))
    elif len(found) > _MAX_ADDRESSES:
        errors.append(field.too_many(f"{path}.addresses", len(found), _MAX_ADDRESSES))
    for index, text in enumerate(found):
        errors += _typed(f"{path}.addresses[{index}]", text, kind)
    if (node := item.get("nodeName")) is not None:
        errors += field.invalids(f"{path}.nodeName", node, names.dns_subdomain(node))
    topology = item.get("deprecatedTopology") or {}
    if len(topology) > _MAX_TOPOLOGY:
        errors.append(field.too_many(f"{path}.deprecatedTopology", len(topology), _MAX_TOPOLOGY))
    errors += selectors.labels(f"{path}.deprecatedTopology", topology)
    if (host := item.get("hostname")) is not None:
        errors += field.invalids(f"{path}.hostname", host, names.dns_label(host))
    return errors + _hints(f"{path}.hints", item.get("hints") or {})


def _hints(path: str, hints: JSON) -> field.Errors:
    errors: field.Errors = []
    for key, limit in (("forZones", _MAX_ZONES), ("forNodes", _MAX_NODES)):
        found, seen = hints.get(key) or [], set[str]()
        if len(found) > limit:
            errors.append(field.too_many(f"{path}.{key}", len(found), limit))
            continue
        for index, item in enumerate(found):
            name = item.get("name") or ""
            if name in seen:
                errors.append(field.duplicate(f"{path}.{key}[{index}].name", name))
            seen.add(name)
            if key == "forZones":
                errors += field.invalids(f"{path}.{key}[{index}].name", name, names.label_value(name))
    return errors


def _typed(path: str, text: str, kind: str) -> field.Errors:
    if kind in ("IPv4", "IPv6"):
        return addresses.ip_of_family(path, text, int(kind[-1])) + addresses.ordinary(path, text)
    if kind == "FQDN":
        return _domain(path, text)
    return []


def _domain(path: str, text: str) -> field.Errors:
    if not text:
        return [field.required(path)]
    name = text.removesuffix(".")
    if faults := names.dns_subdomain(name):
        return [field.invalid(path, name, ",".join(faults))]
    if "." not in name:
        why = "should be a domain with at least two segments separated by dots"
        return [field.invalid(path, name, why)]
    return []


def _slice_ports(path: str, ports: list[JSON]) -> field.Errors:
    if len(ports) > _MAX_PORTS:
        return [field.too_many(path, len(ports), _MAX_PORTS)]
    errors: field.Errors = []
    seen: set[str] = set()
    for index, port in enumerate(ports):
        where, name = f"{path}[{index}]", port.get("name") or ""
        if name:
            errors += field.invalids(f"{where}.name", name, names.dns_label(name))
        if name in seen:
            errors.append(field.duplicate(f"{where}.name", name))
        seen.add(name)
        errors += _protocol(f"{where}.protocol", port.get("protocol"))
        if (number := port.get("port")) is not None:
            errors += field.invalids(f"{where}.port", number, names.port_number(number))
        if (app := port.get("appProtocol")) is not None:
            errors += field.invalids(f"{where}.appProtocol", app, names.qualified_name(app))
    return errors


def _slice_port_cell(obj: JSON) -> str:
    ports = obj.get("ports") or []
    shown = [str(port["port"]) if port.get("port") is not None else port.get("name", "*") for port in ports[:_SHOWN]]
    more = f" + {len(ports) - _SHOWN} more..." if len(ports) > _SHOWN else ""
    return ",".join(shown) + more if shown else "<unset>"


def _slice_endpoint_cell(obj: JSON) -> str:
    found = [text for item in obj.get("endpoints") or () for text in item.get("addresses") or ()]
    more = f" + {len(found) - _SHOWN} more..." if len(found) > _SHOWN else ""
    return ",".join(found[:_SHOWN]) + more if found else "<unset>"
