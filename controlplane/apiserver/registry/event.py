"""The strategies of Events and Leases: small objects written often.

Owns their rules and tables. Must not know who writes them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from controlplane.apiserver.registry import columns, field, names
from controlplane.apiserver.registry.columns import Column, wide
from controlplane.apiserver.registry.strategy import JSON, Plain

_COLUMNS: tuple[Column, ...] = (
    Column("Last Seen", "Time since it happened last."),
    Column("Type", "Normal or Warning."),
    Column("Reason", "Why it was written, as one word."),
    Column("Object", "What it is about."),
    wide("Subobject", "Part of the object it is about."),
    wide("Source", "Who reports it."),
    Column("Message", "What happened."),
    wide("First Seen", "Time since it happened first."),
    wide("Count", "How often it happened."),
    wide("Name", "Name of the event."),
)
_LIMITS = {"reportingInstance": 128, "action": 128, "reason": 128, "message": 1024}


class Events(Plain):
    """Events of the core group; those of events.k8s.io are shown from the same objects."""

    columns = _COLUMNS

    def validate_create(self, obj: JSON) -> field.Errors:
        return self.validate(obj)

    def validate_update(self, obj: JSON, old: JSON) -> field.Errors:
        return self.validate(obj)

    def validate(self, obj: JSON) -> field.Errors:
        meta = obj.get("metadata") or {}
        namespace, name = meta.get("namespace") or "", meta.get("name") or ""
        about = (obj.get("involvedObject") or obj.get("regarding") or {}).get("namespace") or ""
        errors: field.Errors = []
        stamped = bool(obj.get("eventTime"))
        allowed = ("default", "kube-system") if stamped else ("", "default")
        if (namespace not in allowed) if not about else (not stamped and namespace != about):
            errors.append(field.invalid("involvedObject.namespace", about, "does not match event.namespace"))
        if stamped:
            errors += _strict(obj)
        if not name:
            errors.append(field.required("metadata.name", "name or generateName is required"))
        return errors + field.invalids("namespace", namespace, names.dns_subdomain(namespace))

    def field_values(self, obj: JSON) -> dict[str, str]:
        about = obj.get("involvedObject") or obj.get("regarding") or {}
        source = obj.get("source") or obj.get("deprecatedSource") or {}
        reporter = obj.get("reportingComponent") or obj.get("reportingController") or ""
        keys = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
        values = {f"involvedObject.{key}": str(about.get(key) or "") for key in keys}
        values |= {f"regarding.{key}": str(about.get(key) or "") for key in keys}
        return values | {
            "reason": obj.get("reason") or "",
            "type": obj.get("type") or "",
            "source": source.get("component") or reporter,
            "reportingComponent": reporter,
            "reportingController": reporter,
        }

    def cells(self, obj: JSON, now: datetime) -> list[Any]:
        about = obj.get("involvedObject") or obj.get("regarding") or {}
        series = obj.get("series") or {}
        first = columns.since(obj.get("firstTimestamp") or obj.get("deprecatedFirstTimestamp"), now)
        if first == columns.UNKNOWN:
            first = columns.since(obj.get("eventTime"), now)
        last = columns.since(obj.get("lastTimestamp") or obj.get("deprecatedLastTimestamp"), now)
        if last == columns.UNKNOWN:
            last = first
        times = series.get("count") or obj.get("count") or obj.get("deprecatedCount") or 1
        if series:
            last = columns.since(series.get("lastObservedTime"), now)
        target = f"{(about.get('kind') or '').lower()}/{about.get('name') or ''}"
        return [
            last,
            obj.get("type") or "",
            obj.get("reason") or "",
            target if about.get("name") else (about.get("kind") or "").lower(),
            about.get("fieldPath") or "",
            _source(obj),
            (obj.get("message") or obj.get("note") or "").strip(),
            first,
            times,
            columns.name(obj),
        ]


def _source(obj: JSON) -> str:
    source = obj.get("source") or obj.get("deprecatedSource") or {}
    component = source.get("component") or obj.get("reportingComponent") or obj.get("reportingController") or ""
    host = source.get("host") or obj.get("reportingInstance") or ""
    return f"{component}, {host}" if component and host else component or host


def _strict(obj: JSON) -> field.Errors:
    """Events with a microsecond time say who reports them and what was done."""
    reporter = obj.get("reportingComponent") or obj.get("reportingController") or ""
    errors = [] if reporter else [field.required("reportingController")]
    errors += field.invalids("reportingController", reporter, names.qualified_name(reporter))
    for key, limit in _LIMITS.items():
        text = obj.get(key) or ""
        if not text and key != "message":
            errors.append(field.required(key))
        if len(text) > limit:
            errors.append(field.invalid(key, "", f"can have at most {limit} characters"))
    return errors


class Leases(Plain):
    """Leases."""

    columns: tuple[Column, ...] = (columns.NAME, Column("Holder", "Who holds the lease."), columns.AGE)

    def validate(self, obj: JSON) -> field.Errors:
        spec = obj.get("spec") or {}
        errors: field.Errors = []
        seconds, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
        if seconds is not None and seconds <= 0:
            errors.append(field.invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0"))
        if transitions is not None and transitions < 0:
            errors.append(field.invalid("spec.leaseTransitions", transitions, field.NEGATIVE))
        if spec.get("preferredHolder") and not spec.get("strategy"):
            why = "may only be specified if `strategy` is defined"
            errors.append(field.forbidden("spec.preferredHolder", why))
        return errors

    def cells(self, obj: JSON, now: datetime) -> list[Any]:
        return [columns.name(obj), (obj.get("spec") or {}).get("holderIdentity") or "", columns.age(obj, now)]
