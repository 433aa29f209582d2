"""Probes and lifecycle handlers. Owns their rules. Must not know when they run."""

from __future__ import annotations

from controlplane.apiserver.registry import field, names
from controlplane.apiserver.registry.field import JSON

PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")
_COUNTS = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")
_SCHEMES = ("HTTP", "HTTPS")


def probes(path: str, container: JSON, *, grace: int | None) -> field.Errors:
    """Faults of a container's three probes."""
    errors: field.Errors = []
    for name in PROBES:
        if (value := container.get(name)) is not None:
            errors += probe(f"{path}.{name}", value, name=name, grace=grace)
    return errors


def probe(path: str, value: JSON, *, name: str, grace: int | None) -> field.Errors:
    """Faults of one probe; `name` is its field."""
    errors = handler(path, value, grace=grace, sleeps=False)
    for key in _COUNTS:
        if (value.get(key) or 0) < 0:
            errors.append(field.invalid(f"{path}.{key}", value[key], field.NEGATIVE))
    seconds = value.get("terminationGracePeriodSeconds")
    if seconds is not None and seconds <= 0:
        errors.append(field.invalid(f"{path}.terminationGracePeriodSeconds", seconds, "must be greater than 0"))
    if name == "readinessProbe":
        if seconds is not None:
            why = "must not be set for readinessProbes"
            errors.append(field.invalid(f"{path}.terminationGracePeriodSeconds", seconds, why))
    elif value.get("successThreshold", 1) != 1:
        errors.append(field.invalid(f"{path}.successThreshold", value["successThreshold"], "must be 1"))
    return errors


def lifecycle(path: str, value: JSON, *, grace: int | None) -> field.Errors:
    """Faults of the start and stop handlers."""
    errors: field.Errors = []
    for name in ("postStart", "preStop"):
        if (item := value.get(name)) is not None:
            errors += handler(f"{path}.{name}", item, grace=grace, sleeps=True)
    return errors


def handler(path: str, value: JSON, *, grace: int | None, sleeps: bool) -> field.Errors:
    """Faults of a handler: exactly one action."""
    errors: field.Errors = []
    found = [name for name in HANDLERS if name in value and (sleeps or name != "sleep")]
    for index, name in enumerate(found):
        if index:
            errors.append(field.forbidden(f"{path}.{name}", "may not specify more than 1 handler type"))
        else:
            errors += _action(f"{path}.{name}", name, value[name], grace)
    if not found:
        errors.append(field.required(path, "must specify a handler type"))
    return errors


def _action(path: str, name: str, value: JSON, grace: int | None) -> field.Errors:
    if name == "exec":
        return [] if value.get("command") else [field.required(f"{path}.command")]
    if name == "httpGet":
        return _http_get(path, value)
    if name == "sleep":
        return _sleep(path, value.get("seconds") or 0, grace)
    return port_number_or_name(f"{path}.port", value.get("port") or 0)


def _http_get(path: str, value: JSON) -> field.Errors:
    errors: field.Errors = []
    if not value.get("path"):
        errors.append(field.required(f"{path}.path"))
    errors += port_number_or_name(f"{path}.port", value.get("port") or 0)
    if value.get("scheme") not in _SCHEMES:
        errors.append(field.unsupported(f"{path}.scheme", value.get("scheme") or "", _SCHEMES))
    for header in value.get("httpHeaders") or ():
        name = header.get("name") or ""
        errors += field.invalids(f"{path}.httpHeaders", name, names.http_header(name))
    return errors


def _sleep(path: str, seconds: int, grace: int | None) -> field.Errors:
    if grace is None or 0 <= seconds <= grace:
        return []
    why = f"must be non-negative and less than terminationGracePeriodSeconds ({grace})"
    return [field.invalid(path, seconds, why)]


def port_number_or_name(path: str, value: int | str) -> field.Errors:
    """Faults of a port given as a number or as the name of a container port."""
    faults = names.port_number(value) if isinstance(value, int) else names.port_name(value)
    return field.invalids(path, value, faults)
