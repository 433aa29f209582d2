"""Resource amounts in objects: canonical text, requests and limits, and which resource names are legal.

Owns the rules for resource lists and requirements of containers and pods. Must not know the arithmetic:
that is `kube.quantity`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

from controlplane.apiserver.registry import field, names
from controlplane.apiserver.registry.field import JSON
from kube import quantity, status

HUGE_PAGES = "hugepages-"
POD_LEVEL = ("cpu", "memory")
_CONTAINER = frozenset(("cpu", "memory", "ephemeral-storage"))
_STANDARD = _CONTAINER | frozenset(
    (
        "requests.cpu",
        "requests.memory",
        "requests.ephemeral-storage",
        "limits.cpu",
        "limits.memory",
        "limits.ephemeral-storage",
        "pods",
        "resourcequotas",
        "services",
        "replicationcontrollers",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
        "storage",
        "requests.storage",
        "services.nodeports",
        "services.loadbalancers",
        "cpu",
        "memory",
    )
)
_WHOLE = frozenset(("pods", "services", "replicationcontrollers", "resourcequotas", "secrets", "configmaps"))
_WHOLE_MORE = frozenset(("persistentvolumeclaims", "services.nodeports", "services.loadbalancers"))
NOT_INTEGER = "must be an integer"


@lru_cache(4096)
def canonical(text: str | int | float) -> str:
    """An amount as the server writes it, rounded up to thousandths. Raises QuantityError."""
    amount = quantity.parse(text)
    if amount.nano % 10**6:
        amount = quantity.Quantity(amount.milli() * 10**6, amount.format)
    return str(amount)


def canonical_map(amounts: JSON | None) -> None:
    """Rewrite every amount of a resource list, in place. Raises QuantityError."""
    for name in amounts or ():
        canonical_field(amounts or {}, name)


def canonical_field(parent: JSON, key: str) -> None:
    """Rewrite one amount if it is there, in place. Raises QuantityError."""
    if key not in parent:
        return
    parent[key] = canonical(parent[key])


def canonical_requirements(resources: JSON) -> None:
    """Rewrite limits and requests, in place."""
    canonical_map(resources.get("limits"))
    canonical_map(resources.get("requests"))


def default_divisor(reference: JSON) -> None:
    """A resource reference without a divisor says "0", which means 1."""
    reference.setdefault("divisor", "0")
    canonical_field(reference, "divisor")


# --- validation ------------------------------------------------------------------------------------


def amount(path: str, name: str, value: str) -> field.Errors:
    """Faults of one amount of a resource: not negative, and whole where halves make no sense."""
    number = quantity.parse(value)
    if number.nano < 0:
        return [field.invalid(path, value, field.NEGATIVE)]
    if is_whole(name) and number.nano % 10**9:
        return [field.invalid(path, value, NOT_INTEGER)]
    return []


def is_whole(name: str) -> bool:
    """True for resources counted in whole units."""
    return name in _WHOLE or name in _WHOLE_MORE or is_extended(name)


def is_native(name: str) -> bool:
    """True for Kubernetes' own resources."""
    return "/" not in name or "kubernetes.io/" in name


def is_extended(name: str) -> bool:
    """True for resources a device plugin or an operator adds."""
    return not is_native(name) and not name.startswith("requests.") and not names.qualified_name(f"requests.{name}")


def overcommits(name: str) -> bool:
    """True where a request may be below the limit."""
    return is_native(name) and not name.startswith(HUGE_PAGES)


@lru_cache(1024)
def _name_faults(name: str) -> tuple[str, ...]:
    if faults := names.qualified_name(name):
        return faults
    if "/" not in name and name not in _STANDARD and not name.startswith((HUGE_PAGES, "requests.hugepages-")):
        return ("must be a standard resource type or fully qualified",)
    return ()


@lru_cache(1024)
def _container_faults(name: str) -> tuple[str, ...]:
    faults = _name_faults(name)
    if "/" not in name:
        if name not in _CONTAINER and not name.startswith(HUGE_PAGES):
            faults += ("must be a standard resource for containers",)
    elif not is_native(name) and not is_extended(name):
        faults += ("doesn't follow extended resource name standard",)
    return faults


def resource_name(path: str, name: str) -> field.Errors:
    """Faults of the name of any resource."""
    return field.invalids(path, name, _name_faults(name))


def container_name(path: str, name: str) -> field.Errors:
    """Faults of the name of a resource that a container asks for."""
    return field.invalids(path, name, _container_faults(name))


def pod_name(path: str, name: str) -> field.Errors:
    """Faults of the name of a resource asked for by the pod as a whole."""
    errors = field.invalids(path, name, _name_faults(name))
    if not errors and name not in POD_LEVEL and not name.startswith(HUGE_PAGES):
        return [field.unsupported(path, name, ("cpu", "hugepages-", "memory"))]
    return errors


def requirements(
    path: str,
    resources: JSON,
    *,
    claims: frozenset[str] = frozenset(),
    name_check: Callable[[str, str], field.Errors] = container_name,
) -> field.Errors:
    """Faults of `limits`, `requests` and `claims` of a container or pod."""
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    errors: field.Errors = []
    for name, value in limits.items():
        errors += _entry(f"{path}.limits[{name}]", name, value, name_check)
    for name, value in requests.items():
        errors += _entry(f"{path}.requests[{name}]", name, value, name_check)
        errors += _against_limit(path, name, value, limits.get(name))
    asked = limits.keys() | requests.keys()
    if not asked & {"cpu", "memory"} and any(name.startswith(HUGE_PAGES) for name in asked):
        errors.append(field.forbidden(path, "HugePages require cpu or memory"))
    if resources.get("claims"):
        errors += _claims(f"{path}.claims", resources["claims"], claims)
    return errors


def _entry(path: str, name: str, value: str, name_check: Callable[[str, str], field.Errors]) -> field.Errors:
    errors = name_check(path, name) + amount(path, name, value)
    if name.startswith(HUGE_PAGES) and not _divisible(name, value):
        errors.append(field.invalid(path, value, f"{value} is not positive integer multiple of {name}"))
    return errors


def _divisible(name: str, value: str) -> bool:
    try:
        page = quantity.parse(name.removeprefix(HUGE_PAGES)).nano
    except quantity.QuantityError:
        return False
    return page > 0 and quantity.parse(value).nano % page == 0


def _against_limit(path: str, name: str, value: str, limit: str | None) -> field.Errors:
    if limit is None:
        if overcommits(name):
            return []
        return [field.required(f"{path}.limits", "Limit must be set for non overcommitable resources")]
    asked, most = quantity.parse(value), quantity.parse(limit)
    if asked != most and not overcommits(name):
        return [field.invalid(f"{path}.requests", value, f"must be equal to {name} limit of {limit}")]
    if asked > most:
        return [field.invalid(f"{path}.requests", value, f"must be less than or equal to {name} limit of {limit}")]
    return []


def _claims(path: str, claims: Iterable[JSON], known: frozenset[str]) -> field.Errors:
    errors: field.Errors = []
    seen: set[str] = set()
    for index, claim in enumerate(claims):
        name, request = claim.get("name") or "", claim.get("request") or ""
        if not name:
            errors.append(field.required(f"{path}[{index}]"))
            continue
        key = f"{name}/{request}" if request else name
        if name in seen or key in seen or (not request and any(item.startswith(f"{name}/") for item in seen)):
            errors.append(field.duplicate(f"{path}[{index}]", name if name in seen else key))
        seen.add(key)
        if request:
            errors += field.invalids(f"{path}[{index}].request", request, names.dns_label(request))
        if name not in known:
            detail = "must be one of the names in pod.spec.resourceClaims"
            detail += f": {', '.join(sorted(known))}" if known else " which is empty"
            errors.append(status.FieldError("NotFound", f"{path}[{index}]", detail, name))
    return errors
