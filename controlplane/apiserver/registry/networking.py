"""The strategies of Ingresses, their classes and network policies. Owns their defaults, rules and tables.

Must not know who implements them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from controlplane.apiserver.registry import addresses, columns, field, names, selectors, service_columns
from controlplane.apiserver.registry.columns import Column
from controlplane.apiserver.registry.deployment import selector_text
from controlplane.apiserver.registry.strategy import JSON, Plain
from controlplane.apiserver.registry.validate_container import PROTOCOLS

_PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")
_POLICY_TYPES = ("Egress", "Ingress")
_HOSTS_SHOWN = 3


class Ingresses(Plain):
    """Ingresses."""

    columns: tuple[Column, ...] = (
        columns.NAME,
        Column("Class", "Class that serves it."),
        Column("Hosts", "Host names of its rules."),
        Column("Address", "Addresses of the load balancer."),
        Column("Ports", "Ports that are served."),
        columns.AGE,
    )
    generation_of = ("spec",)

    def prepare_create(self, obj: JSON) -> None:
        super().prepare_create(obj)
        obj["status"] = {"loadBalancer": {}}

    def validate(self, obj: JSON) -> field.Errors:
        spec = obj.get("spec") or {}
        rules = spec.get("rules") or ()
        errors: field.Errors = []
        if not rules and not spec.get("defaultBackend"):
            errors.append(field.invalid("spec", rules or None, "either `defaultBackend` or `rules` must be specified"))
        for index, rule in enumerate(rules):
            where, host = f"spec.rules[{index}]", rule.get("host") or ""
            if host:
                errors += _host(f"{where}.host", host)
            http = rule.get("http")
            if http is not None and not http.get("paths"):
                errors.append(field.required(f"{where}.http.paths"))
            for number, path in enumerate((http or {}).get("paths") or ()):
                errors += _path(f"{where}.http.paths[{number}]", path)
        return errors

    def cells(self, obj: JSON, now: datetime) -> list[Any]:
        spec = obj.get("spec") or {}
        status = (obj.get("status") or {}).get("loadBalancer") or {}
        return [
            columns.name(obj),
            spec.get("ingressClassName") or columns.UNSET,
            _hosts(spec),
            service_columns.balanced(status),
            "80, 443" if spec.get("tls") else "80",
            columns.age(obj, now),
        ]


def _host(path: str, host: str) -> field.Errors:
    if addresses.parse(host):
        return [field.invalid(path, host, "must be a DNS name, not an IP address")]
    return field.invalids(path, host, names.dns_subdomain(host.removeprefix("*.")))


def _path(path: str, value: JSON) -> field.Errors:
    kind, text = value.get("pathType"), value.get("path") or ""
    errors: field.Errors = []
    if kind is None:
        return [field.required(f"{path}.pathType", "pathType must be specified")]
    if kind not in _PATH_TYPES:
        errors.append(field.unsupported(f"{path}.pathType", kind, _PATH_TYPES))
    elif (kind != "ImplementationSpecific" or text) and not text.startswith("/"):
        errors.append(field.invalid(f"{path}.path", text, "must be an absolute path"))
    backend = value.get("backend") or {}
    service, resource = backend.get("service"), backend.get("resource")
    if service is None and resource is None:
        errors.append(field.required(f"{path}.backend", "port name or number is required"))
    elif service is not None:
        if not service.get("name"):
            errors.append(field.required(f"{path}.backend.service.name"))
        if not (service.get("port") or {}):
            errors.append(field.required(f"{path}.backend", "port name or number is required"))
    return errors


def _hosts(spec: JSON) -> str:
    found = [rule["host"] for rule in spec.get("rules") or () if rule.get("host")]
    more = f" + {len(found) - _HOSTS_SHOWN} more..." if len(found) > _HOSTS_SHOWN else ""
    return ",".join(found[:_HOSTS_SHOWN]) + more if found else "*"


class IngressClasses(Plain):
    """IngressClasses."""

    columns: tuple[Column, ...] = (
        columns.NAME,
        Column("Controller", "Who serves ingresses of this class."),
        Column("Parameters", "Its configuration object."),
        columns.AGE,
    )
    generation_of = ("spec",)

    def cells(self, obj: JSON, now: datetime) -> list[Any]:
        spec = obj.get("spec") or {}
        reference = spec.get("parameters") or {}
        kind = ".".join(part for part in (reference.get("kind"), reference.get("apiGroup")) if part)
        shown = f"{kind}/{reference.get('name')}" if reference else columns.UNSET
        return [columns.name(obj), spec.get("controller") or "", shown, columns.age(obj, now)]


class NetworkPolicies(Plain):
    """NetworkPolicies."""

    columns: tuple[Column, ...] = (
        columns.NAME,
        Column("Pod-Selector", "Labels of the pods it holds for."),
        columns.AGE,
    )
    generation_of = ("spec",)

    def fill(self, obj: JSON) -> None:
        spec = obj.setdefault("spec", {})
        spec.setdefault("podSelector", {})
        if not spec.get("policyTypes"):
            spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]
        for key in ("ingress", "egress"):
            for rule in spec.get(key) or ():
                for port in rule.get("ports") or ():
                    port.setdefault("protocol", "TCP")

    def validate(self, obj: JSON) -> field.Errors:
        spec = obj.get("spec") or {}
        errors = selectors.selector("spec.podSelector", spec.get("podSelector"))
        for key, side in (("ingress", "from"), ("egress", "to")):
            for index, rule in enumerate(spec.get(key) or ()):
                where = f"spec.{key}[{index}]"
                for number, port in enumerate(rule.get("ports") or ()):
                    errors += _policy_port(f"{where}.ports[{number}]", port)
                for number, peer in enumerate(rule.get(side) or ()):
                    errors += _peer(f"{where}.{side}[{number}]", peer)
        types = spec.get("policyTypes") or []
        if len(types) > 2:
            why = "may not specify more than two policyTypes"
            return [*errors, field.invalid("spec.policyTypes", types, why)]
        for index, kind in enumerate(types):
            if kind not in _POLICY_TYPES:
                errors.append(field.unsupported(f"spec.policyTypes[{index}]", kind, _POLICY_TYPES))
        return errors

    def cells(self, obj: JSON, now: datetime) -> list[Any]:
        chosen = (obj.get("spec") or {}).get("podSelector") or {}
        return [columns.name(obj), selector_text(chosen), columns.age(obj, now)]


def _policy_port(path: str, port: JSON) -> field.Errors:
    errors: field.Errors = []
    if (protocol := port.get("protocol")) is not None and protocol not in PROTOCOLS:
        errors.append(field.unsupported(f"{path}.protocol", protocol, PROTOCOLS))
    value, end = port.get("port"), port.get("endPort")
    if isinstance(value, int):
        errors += field.invalids(f"{path}.port", value, names.port_number(value))
        if end is not None:
            if end < value:
                errors.append(field.invalid(f"{path}.endPort", end, "must be greater than or equal to `port`"))
            errors += field.invalids(f"{path}.endPort", end, names.port_number(end))
    elif value is not None:
        if end is not None:
            why = "may not be specified when `port` is non-numeric"
            errors.append(field.invalid(f"{path}.endPort", end, why))
        errors += field.invalids(f"{path}.port", value, names.port_name(value))
    elif end is not None:
        errors.append(field.invalid(f"{path}.endPort", end, "may not be specified when `port` is not specified"))
    return errors


def _peer(path: str, peer: JSON) -> field.Errors:
    errors: field.Errors = []
    for key in ("podSelector", "namespaceSelector"):
        errors += selectors.selector(f"{path}.{key}", peer.get(key))
    block = peer.get("ipBlock")
    if block is not None:
        errors += _block(f"{path}.ipBlock", block)
        if len(peer) > 1:
            errors.append(field.forbidden(path, "may not specify both ipBlock and another peer"))
    elif not peer.keys() & {"podSelector", "namespaceSelector"}:
        errors.append(field.required(path, "must specify a peer"))
    return errors


def _block(path: str, block: JSON) -> field.Errors:
    text = block.get("cidr") or ""
    if not text:
        return [field.required(f"{path}.cidr")]
    errors = addresses.cidr(f"{path}.cidr", text)
    for index, item in enumerate(block.get("except") or ()):
        where = f"{path}.except[{index}]"
        faults = addresses.cidr(where, item)
        if not faults and not errors and not addresses.inside(item, text):
            faults = [field.invalid(where, item, "must be a strict subset of `cidr`")]
        errors += faults
    return errors
