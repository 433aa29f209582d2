"""The strategies of priority and fairness: flow schemas and priority levels. Owns their defaults, rules and tables.

Must not know requests: nothing here orders or limits them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from controlplane.apiserver.registry import columns, field, names
from controlplane.apiserver.registry.columns import Column
from controlplane.apiserver.registry.strategy import JSON, Plain

PRECEDENCE = 1000  # where a flow schema names none
SHARES, QUEUES, HAND_SIZE, QUEUE_LENGTH = 30, 64, 8, 50  # where a limited priority level names none
_MAX_PRECEDENCE = 10000
_LEVELS = ("Exempt", "Limited")
_RESPONSES = ("Queue", "Reject")
_METHODS = ("ByNamespace", "ByUser")
_SUBJECTS = {"User": "user", "Group": "group", "ServiceAccount": "serviceAccount"}


class FlowSchemas(Plain):
    """FlowSchemas: which requests go to which priority level."""

    columns: tuple[Column, ...] = (
        columns.NAME,
        Column("PriorityLevel", "The priority level its requests go to."),
        Column("MatchingPrecedence", "The lowest number that matches a request takes it."),
        Column("DistinguisherMethod", "How its requests are told apart as flows."),
        columns.AGE,
        Column("MissingPL", "Whether that priority level is missing."),
    )
    generation_of = ("spec",)

    def fill(self, obj: JSON) -> None:
        spec = obj.setdefault("spec", {})
        spec["matchingPrecedence"] = spec.get("matchingPrecedence") or PRECEDENCE

    def validate(self, obj: JSON) -> field.Errors:
        spec = obj.get("spec") or {}
        errors: field.Errors = []
        if not 1 <= spec.get("matchingPrecedence", PRECEDENCE) <= _MAX_PRECEDENCE:
            why = f"must be a value between 1 and {_MAX_PRECEDENCE}"
            errors.append(field.invalid("spec.matchingPrecedence", spec["matchingPrecedence"], why))
        method = spec.get("distinguisherMethod")
        if method is not None and method.get("type") not in _METHODS:
            errors.append(field.unsupported("spec.distinguisherMethod", method, _METHODS))
        level = (spec.get("priorityLevelConfiguration") or {}).get("name") or ""
        where = "spec.priorityLevelConfiguration.name"
        if not level:
            errors.append(field.required(where, "must reference a priority level"))
        else:
            errors += field.invalids(where, level, names.dns_subdomain(level))
        for index, rule in enumerate(spec.get("rules") or ()):
            errors += _rule(f"spec.rules[{index}]", rule)
        return errors

    def cells(self, obj: JSON, now: datetime) -> list[Any]:
        spec = obj.get("spec") or {}
        conditions = (obj.get("status") or {}).get("conditions") or ()
        return [
            columns.name(obj),
            (spec.get("priorityLevelConfiguration") or {}).get("name") or "",
            spec.get("matchingPrecedence") or 0,
            (spec.get("distinguisherMethod") or {}).get("type") or columns.UNSET,
            columns.age(obj, now),
            next((item.get("status") or "" for item in conditions if item.get("type") == "Dangling"), "?"),
        ]


def _rule(path: str, rule: JSON) -> field.Errors:
    errors: field.Errors = []
    if not rule.get("subjects"):
        errors.append(field.required(f"{path}.subjects", "subjects must contain at least one value"))
    for index, subject in enumerate(rule.get("subjects") or ()):
        kind, where = subject.get("kind") or "", f"{path}.subjects[{index}]"
        if kind not in _SUBJECTS:
            errors.append(field.unsupported(f"{where}.kind", kind, sorted(_SUBJECTS)))
        elif subject.get(_SUBJECTS[kind]) is None:
            why = f"{_SUBJECTS[kind]} is required when subject kind is '{kind}'"
            errors.append(field.required(f"{where}.{_SUBJECTS[kind]}", why))
    if not rule.get("resourceRules") and not rule.get("nonResourceRules"):
        errors.append(field.required(path, "at least one of resourceRules and nonResourceRules has to be non-empty"))
    return errors


class PriorityLevelConfigurations(Plain):
    """PriorityLevelConfigurations: how many requests of a level are served at once, and what becomes of the rest."""

    columns: tuple[Column, ...] = (
        columns.NAME,
        Column("Type", "Whether its requests are limited."),
        Column("NominalConcurrencyShares", "Its share of the requests served at once."),
        Column("Queues", "Number of queues."),
        Column("HandSize", "Queues one flow may use."),
        Column("QueueLengthLimit", "Requests that may wait in one queue."),
        columns.AGE,
    )
    generation_of = ("spec",)

    def fill(self, obj: JSON) -> None:
        spec = obj.setdefault("spec", {})
        if (exempt := spec.get("exempt")) is not None:
            exempt.setdefault("nominalConcurrencyShares", 0)
            exempt.setdefault("lendablePercent", 0)
        if (limited := spec.get("limited")) is not None:
            limited.setdefault("nominalConcurrencyShares", SHARES)
            limited.setdefault("lendablePercent", 0)
            if (queuing := (limited.get("limitResponse") or {}).get("queuing")) is not None:
                for key, value in (("handSize", HAND_SIZE), ("queues", QUEUES), ("queueLengthLimit", QUEUE_LENGTH)):
                    queuing[key] = queuing.get(key) or value

    def validate(self, obj: JSON) -> field.Errors:
        spec = obj.get("spec") or {}
        kind, limited = spec.get("type") or "", spec.get("limited")
        if kind not in _LEVELS:
            return [field.unsupported("spec.type", kind, _LEVELS)]
        if kind == "Exempt":
            why = "must be nil if the type is not Limited"
            return [] if limited is None else [field.forbidden("spec.limited", why)]
        if limited is None:
            return [field.required("spec.limited", "must not be empty when type is Limited")]
        return _limited("spec.limited", limited)

    def cells(self, obj: JSON, now: datetime) -> list[Any]:
        spec = obj.get("spec") or {}
        limited = spec.get("limited") or {}
        queuing = (limited.get("limitResponse") or {}).get("queuing") or {}
        waiting = [queuing.get(key, columns.UNSET) for key in ("queues", "handSize", "queueLengthLimit")]
        shares = limited.get("nominalConcurrencyShares", columns.UNSET)
        return [columns.name(obj), spec.get("type") or "", shares, *waiting, columns.age(obj, now)]


def _limited(path: str, limited: JSON) -> field.Errors:
    errors = field.nonnegative(f"{path}.nominalConcurrencyShares", limited.get("nominalConcurrencyShares"))
    percent = limited.get("lendablePercent") or 0
    if not 0 <= percent <= 100:
        why = "must be between 0 and 100, inclusive"
        errors.append(field.invalid(f"{path}.lendablePercent", percent, why))
    response, where = limited.get("limitResponse") or {}, f"{path}.limitResponse"
    kind, queuing = response.get("type") or "", response.get("queuing")
    if kind not in _RESPONSES:
        errors.append(field.unsupported(f"{where}.type", kind, _RESPONSES))
    elif kind == "Queue" and queuing is None:
        errors.append(field.required(f"{where}.queuing", "must not be empty if limited.limitResponse.type is Queue"))
    elif kind == "Reject" and queuing is not None:
        errors.append(field.forbidden(f"{where}.queuing", "must be nil if limited.limitResponse.type is not Queue"))
    return errors
