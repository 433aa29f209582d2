"""The strategies of the ranges of Service addresses, and of addresses that somebody holds. Owns their rules and tables.

Must not know who hands addresses out: a proxy reads the ranges, to know which addresses are no Service's.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from controlplane.apiserver.registry import addresses, columns, field, names
from controlplane.apiserver.registry.columns import Column
from controlplane.apiserver.registry.strategy import JSON, Plain

MAX_RANGES = 2


def _any_name(value: str) -> tuple[str, ...]:
    """An address is a name, and the fault of any other is told about that name alone."""
    return tuple(error.message for error in addresses.ip("metadata.name", value))


class IPAddresses(Plain):
    """IPAddresses: an address is held by an object of any kind."""

    columns: tuple[Column, ...] = (columns.NAME, Column("ParentRef", "Who holds it."), columns.AGE)
    name_rule: ClassVar[names.NameRule] = staticmethod(_any_name)

    def validate(self, obj: JSON) -> field.Errors:
        parent, where = (obj.get("spec") or {}).get("parentRef"), "spec.parentRef"
        if parent is None:
            return [field.required(where)]
        group, namespace = parent.get("group") or "", parent.get("namespace") or ""
        errors = field.invalids(f"{where}.group", group, names.dns_subdomain(group)) if group else []
        for key in ("resource", "name"):
            value = parent.get(key) or ""
            faults = field.invalids(f"{where}.{key}", value, _segment(value))
            errors += faults if value else [field.required(f"{where}.{key}")]
        return errors + field.invalids(f"{where}.namespace", namespace, _segment(namespace))

    def validate_change(self, obj: JSON, old: JSON) -> field.Errors:
        parent, before = ((each.get("spec") or {}).get("parentRef") for each in (obj, old))
        return [] if parent == before else [field.invalid("spec.parentRef", parent, field.IMMUTABLE)]

    def cells(self, obj: JSON, now: datetime) -> list[Any]:
        parent = (obj.get("spec") or {}).get("parentRef") or {}
        kind = ".".join(filter(None, (parent.get("resource"), parent.get("group")))).lower()
        held = "/".join(filter(None, (kind, parent.get("namespace"), parent.get("name"))))
        return [columns.name(obj), held or "<none>", columns.age(obj, now)]


class ServiceCIDRs(Plain):
    """ServiceCIDRs: one range, or one of each IP version."""

    columns: tuple[Column, ...] = (columns.NAME, Column("CIDRs", "The ranges."), columns.AGE)

    def validate(self, obj: JSON) -> field.Errors:
        where, ranges = "spec.cidrs", (obj.get("spec") or {}).get("cidrs") or []
        if not ranges:
            return [field.required(where, "at least one CIDR required")]
        if len(ranges) > MAX_RANGES:
            return [field.invalid(where, ranges, f"may only hold up to {MAX_RANGES} values")]
        errors = [error for n, text in enumerate(ranges) for error in addresses.cidr(f"{where}[{n}]", text)]
        if not errors and len({":" in text for text in ranges}) < len(ranges):
            why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"
            errors.append(field.invalid(where, ranges, why))
        return errors

    def validate_change(self, obj: JSON, old: JSON) -> field.Errors:
        """A second range may come; those that are there stay."""
        ranges, before = ((each.get("spec") or {}).get("cidrs") or [] for each in (obj, old))
        if len(ranges) != len(before) and (len(before), len(ranges)) != (1, 2):
            return [field.invalid("spec.cidrs", ranges, field.IMMUTABLE)]
        changed = (n for n, (text, was) in enumerate(zip(ranges, before, strict=False)) if text != was)
        return [field.invalid(f"spec.cidrs[{n}]", ranges[n], field.IMMUTABLE) for n in changed]

    def cells(self, obj: JSON, now: datetime) -> list[Any]:
        ranges = (obj.get("spec") or {}).get("cidrs") or ()
        return [columns.name(obj), ",".join(ranges), columns.age(obj, now)]


def _segment(value: str) -> tuple[str, ...]:
    """Faults of a name that is part of a path."""
    if value in (".", ".."):
        return (f"may not be '{value}'",)
    return tuple(f"may not contain '{char}'" for char in "/%" if char in value)
