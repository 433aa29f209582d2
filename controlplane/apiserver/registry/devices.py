"""The strategies of devices that drivers offer and pods claim. Owns their defaults, rules and tables.

Must not know drivers; nothing here allocates a device.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from controlplane.apiserver.registry import columns, field, names
from controlplane.apiserver.registry.columns import Column
from controlplane.apiserver.registry.strategy import JSON, Plain

MAX_REQUESTS = 32  # of one claim
MAX_DEVICES = 128  # of one slice


class DeviceClasses(Plain):
    """DeviceClasses: devices of one sort, and how they are chosen."""

    columns: tuple[Column, ...] = (columns.NAME, columns.AGE)
    generation_of = ("spec",)

    def cells(self, obj: JSON, now: datetime) -> list[Any]:
        return [columns.name(obj), columns.age(obj, now)]


def fill_claim(spec: JSON) -> None:
    """Defaults of what is asked for: one device, exactly."""
    requests = (spec.get("devices") or {}).get("requests") or ()
    for request in requests:
        for each in [request.get("exactly"), *(request.get("firstAvailable") or ())]:
            if each is not None:
                each["allocationMode"] = each.get("allocationMode") or "ExactCount"
                if each["allocationMode"] == "ExactCount" and not each.get("count"):
                    each["count"] = 1
                _fill_tolerations(each)


def _fill_tolerations(request: JSON) -> None:
    for toleration in request.get("tolerations") or ():
        toleration["operator"] = toleration.get("operator") or "Equal"


def claim_errors(where: str, spec: JSON) -> field.Errors:
    """What is wrong with what is asked for."""
    requests = (spec.get("devices") or {}).get("requests") or []
    path = f"{where}.devices.requests"
    errors: field.Errors = []
    if len(requests) > MAX_REQUESTS:
        errors.append(field.too_many(path, len(requests), MAX_REQUESTS))
    for index, request in enumerate(requests):
        errors += _request(f"{path}[{index}]", request)
    return errors + _twice(path, (request.get("name") or "" for request in requests))


def _request(where: str, request: JSON) -> field.Errors:
    name, exactly, choice = request.get("name") or "", request.get("exactly"), request.get("firstAvailable")
    errors = field.invalids(f"{where}.name", name, names.dns_label(name)) if name else [field.required(f"{where}.name")]
    if exactly is None and not choice:
        errors.append(field.required(where, "exactly one of `exactly` or `firstAvailable` is required"))
    elif exactly is not None and choice:
        text = "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set"
        errors.append(field.invalid(where, None, text))
    elif exactly is not None:
        errors += _class(f"{where}.exactly.deviceClassName", exactly)
    for index, each in enumerate(choice or ()):
        errors += _class(f"{where}.firstAvailable[{index}].deviceClassName", each)
    return errors


def _class(where: str, request: JSON) -> field.Errors:
    name = request.get("deviceClassName") or ""
    return field.invalids(where, name, names.dns_subdomain(name)) if name else [field.required(where)]


def _twice(where: str, found: Iterable[str]) -> field.Errors:
    errors, seen = [], set[str]()
    for index, name in enumerate(found):
        if name in seen:
            errors.append(field.duplicate(f"{where}[{index}].name", name))
        seen.add(name)
    return errors


class ResourceClaims(Plain):
    """ResourceClaims: devices somebody asks for."""

    columns: tuple[Column, ...] = (
        columns.NAME,
        Column("State", "Whether it is allocated, reserved for a pod, or waits."),
        columns.AGE,
    )

    def fill(self, obj: JSON) -> None:
        fill_claim(obj.setdefault("spec", {}))

    def validate(self, obj: JSON) -> field.Errors:
        return claim_errors("spec", obj.get("spec") or {})

    def validate_change(self, obj: JSON, old: JSON) -> field.Errors:
        return field.immutable("spec", obj.get("spec"), old.get("spec"))

    def cells(self, obj: JSON, now: datetime) -> list[Any]:
        return [columns.name(obj), state(obj), columns.age(obj, now)]


def state(claim: JSON) -> str:
    """The words of the table for where a claim stands."""
    status = claim.get("status") or {}
    words = []
    if (claim.get("metadata") or {}).get("deletionTimestamp"):
        words.append("deleted")
    if status.get("allocation") is None:
        words.append("pending")
    else:
        words.append("allocated")
        if status.get("reservedFor"):
            words.append("reserved")
    return ",".join(words)


class ResourceClaimTemplates(Plain):
    """ResourceClaimTemplates: the claim that is made for each pod that names it."""

    columns: tuple[Column, ...] = (columns.NAME, columns.AGE)

    def fill(self, obj: JSON) -> None:
        fill_claim(obj.setdefault("spec", {}).setdefault("spec", {}))

    def validate(self, obj: JSON) -> field.Errors:
        return claim_errors("spec.spec", (obj.get("spec") or {}).get("spec") or {})

    def validate_change(self, obj: JSON, old: JSON) -> field.Errors:
        return field.immutable("spec", obj.get("spec"), old.get("spec"))

    def cells(self, obj: JSON, now: datetime) -> list[Any]:
        return [columns.name(obj), columns.age(obj, now)]


class ResourceSlices(Plain):
    """ResourceSlices: devices that a driver offers, of one pool, on a node or for many."""

    columns: tuple[Column, ...] = (
        columns.NAME,
        Column("Node", "The node they are at, if at one."),
        Column("Driver", "The driver that offers them."),
        Column("Pool", "The pool they are of."),
        columns.AGE,
    )
    generation_of = ("spec",)

    def validate(self, obj: JSON) -> field.Errors:
        spec = obj.get("spec") or {}
        driver, pool = spec.get("driver") or "", (spec.get("pool") or {}).get("name") or ""
        errors = [] if driver else [field.required("spec.driver")]
        if not pool:
            errors.append(field.required("spec.pool.name"))
        chosen = [key for key in ("nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection") if spec.get(key)]
        text = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
        if not chosen:
            errors.append(field.required("spec", text))
        elif len(chosen) > 1:
            errors.append(field.invalid("spec", "{" + ", ".join(chosen) + "}", text))
        devices = spec.get("devices") or []
        if len(devices) > MAX_DEVICES:
            errors.append(field.too_many("spec.devices", len(devices), MAX_DEVICES))
        return errors + _twice("spec.devices", (device.get("name") or "" for device in devices))

    def validate_change(self, obj: JSON, old: JSON) -> field.Errors:
        now, before = obj.get("spec") or {}, old.get("spec") or {}
        pool, was = (now.get("pool") or {}).get("name"), (before.get("pool") or {}).get("name")
        errors = field.immutable("spec.pool.name", pool, was)
        for key in ("driver", "nodeName"):
            errors += field.immutable(f"spec.{key}", now.get(key), before.get(key))
        return errors

    def field_values(self, obj: JSON) -> dict[str, str]:
        spec = obj.get("spec") or {}
        return {"spec.nodeName": spec.get("nodeName") or "", "spec.driver": spec.get("driver") or ""}

    def cells(self, obj: JSON, now: datetime) -> list[Any]:
        spec = obj.get("spec") or {}
        return [
            columns.name(obj),
            spec.get("nodeName") or columns.UNSET,
            spec.get("driver") or "",
            (spec.get("pool") or {}).get("name") or "",
            columns.age(obj, now),
        ]
