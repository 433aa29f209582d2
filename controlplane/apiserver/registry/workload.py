"""What Deployments, ReplicaSets and their kin share: selector, template, replicas and their checks.

Owns these shared rules. Must not know what any one of the kinds adds.
"""

from __future__ import annotations

from typing import Any

from controlplane.apiserver.registry import (
    field,
    names,
    pod_defaults,
    pod_warnings,
    selectors,
    validate_pod,
    volume_defaults,
)
from controlplane.apiserver.registry.field import JSON
from kube import labels, status

EMPTY_SELECTOR = "empty selector is invalid for {kind}"


def default_template(spec: JSON) -> None:
    """Defaults of `spec.template`."""
    pod_defaults.template(spec.setdefault("template", {}))


def default_claims(spec: JSON) -> None:
    """Defaults of `spec.volumeClaimTemplates`."""
    for claim in spec.get("volumeClaimTemplates") or ():
        claim.setdefault("apiVersion", "v1")
        claim.setdefault("kind", "PersistentVolumeClaim")
        volume_defaults.claim_spec(claim.setdefault("spec", {}))
        claim.setdefault("status", {}).setdefault("phase", "Pending")


def numbers(path: str, spec: JSON, *keys: str) -> field.Errors:
    """Faults of counters that may not be negative."""
    errors: field.Errors = []
    for key in keys:
        errors += field.nonnegative(f"{path}.{key}", spec.get(key))
    return errors


def selector(spec: JSON, *, kind: str) -> field.Errors:
    """Faults of `spec.selector`: required, valid, not empty. `kind` is the word upstream's message uses."""
    value = spec.get("selector")
    if value is None:
        return [field.required("spec.selector")]
    errors = selectors.selector("spec.selector", value)
    if selectors.empty(value):
        errors.append(field.invalid("spec.selector", selectors.shown(value), EMPTY_SELECTOR.format(kind=kind)))
    return errors


def template(spec: JSON, *, kind: str) -> field.Errors:
    """Faults of `spec.template` of a workload whose pods always restart; its labels must match the selector."""
    value, path = spec.get("template"), "spec.template"
    if value is None:
        return [field.required(path)]
    errors = matches(spec, path)
    if any(error.field == "spec.selector" for error in errors):
        return errors
    errors += validate_pod.template(path, value)
    policy = (value.get("spec") or {}).get("restartPolicy") or ""
    if policy != "Always":
        errors.append(field.unsupported(f"{path}.spec.restartPolicy", policy, ("Always",)))
    if (value.get("spec") or {}).get("activeDeadlineSeconds") is not None:
        why = f"activeDeadlineSeconds in {kind} is not Supported"
        errors.append(field.forbidden(f"{path}.spec.activeDeadlineSeconds", why))
    return errors


def matches(spec: JSON, path: str) -> field.Errors:
    """A template its own selector would not find is refused; no selector finds nothing, an empty one everything."""
    chosen = spec.get("selector")
    if chosen is not None and selectors.empty(chosen):
        return []
    found = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    try:
        good = labels.from_object(chosen).matches(found)
    except labels.SelectorError:
        return [field.invalid("spec.selector", selectors.shown(chosen or {}), "invalid label selector")]
    if good:
        return []
    shown = dict(sorted(found.items())) or status.Literal("null")
    return [field.invalid(f"{path}.metadata.labels", shown, "`selector` does not match template `labels`")]


def warnings(obj: JSON, old: JSON | None) -> list[str]:
    """Hints on a workload: on its name when it is new, on its template whenever that may have changed."""
    if old is None:
        found = pod_warnings.name(obj, use="Pod names and hostnames")
    elif (obj.get("metadata") or {}).get("generation") == (old.get("metadata") or {}).get("generation"):
        return []
    else:
        found = []
    value = (obj.get("spec") or {}).get("template") or {}
    return found + pod_warnings.of(value.get("metadata") or {}, value.get("spec") or {}, at="spec.template.")


def int_or_percent(path: str, value: Any) -> field.Errors:
    """Faults of a count given as a number or as a percentage."""
    if isinstance(value, str):
        return field.invalids(path, value, names.percent(value))
    return field.nonnegative(path, value)


def at_most_100_percent(path: str, value: Any) -> field.Errors:
    """Faults of a percentage above 100."""
    if isinstance(value, str) and not names.percent(value) and int(value[:-1]) > 100:
        return [field.invalid(path, value, "must not be greater than 100%")]
    return []


def is_zero(value: Any) -> bool:
    """True for 0 and 0%."""
    return value in (0, "0%") or (isinstance(value, str) and not names.percent(value) and int(value[:-1]) == 0)


def status_counts(status: JSON, *keys: str) -> field.Errors:
    """Faults of a status: counters below 0 or above `replicas`."""
    errors = numbers("status", status, "replicas", *keys, "observedGeneration")
    replicas = status.get("replicas") or 0
    for key in keys:
        if (status.get(key) or 0) > replicas:
            errors.append(field.invalid(f"status.{key}", status[key], "cannot be greater than status.replicas"))
    if (status.get("availableReplicas") or 0) > (status.get("readyReplicas") or 0):
        why = "cannot be greater than readyReplicas"
        errors.append(field.invalid("status.availableReplicas", status["availableReplicas"], why))
    return errors
