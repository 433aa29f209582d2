"""What objects use of a resource quota, and which quotas an object counts against. PURE.

Owns the names of counted resources and the scopes, as upstream's quota evaluators have them. Used by admission, which
charges, and by the controller, which counts again. Must not know stores or requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kube import quantity
from kube.quantity import Quantity
from kube.scheme import PERSISTENT_VOLUME_CLAIMS, PODS, SERVICES, Resource

JSON = dict[str, Any]
Amounts = dict[str, Quantity]
ONE = quantity.parse(1)
NOTHING = quantity.parse(0)
COUNTED = (
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
)
"""Kinds with a short name of their own beside `count/...`."""
COMPUTE = ("cpu", "memory", "ephemeral-storage")
MUST_BE_GIVEN = frozenset(
    ("cpu", "memory", *(f"{kind}.{name}" for kind in ("requests", "limits") for name in COMPUTE[:2]))
)
"""Amounts a pod's containers must name where a quota restrains them."""
STORAGE_CLASS = ".storageclass.storage.k8s.io/"


def usage(resource: Resource, obj: JSON) -> Amounts:
    """What one object uses; a finished pod uses only its place in `count/pods`."""
    used: Amounts = {f"count/{resource.group_resource}": ONE}
    if resource is PODS and finished(obj):
        return used
    if resource.group_resource in COUNTED:
        used[resource.group_resource] = ONE
    if resource is PODS:
        used |= _pod(obj.get("spec") or {})
    elif resource is SERVICES:
        used |= _service(obj.get("spec") or {})
    elif resource is PERSISTENT_VOLUME_CLAIMS:
        used |= _claim(obj.get("spec") or {})
    return used


def finished(pod: JSON) -> bool:
    """Whether a pod has ended and uses nothing any more."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _service(spec: JSON) -> Amounts:
    kind, ports = spec.get("type"), len(spec.get("ports") or ())
    open_ports = kind == "NodePort" or (kind == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts", True))
    return {
        "services.nodeports": quantity.parse(ports if open_ports else 0),
        "services.loadbalancers": ONE if kind == "LoadBalancer" else NOTHING,
    }


def _claim(spec: JSON) -> Amounts:
    size = quantity.parse(((spec.get("resources") or {}).get("requests") or {}).get("storage") or 0)
    used = {"requests.storage": size}
    if name := spec.get("storageClassName"):
        used |= {f"{name}{STORAGE_CLASS}persistentvolumeclaims": ONE, f"{name}{STORAGE_CLASS}requests.storage": size}
    return used


def _pod(spec: JSON) -> Amounts:
    used: Amounts = {}
    for name, amount in total(spec, "requests").items():
        used[f"requests.{name}"] = amount
        if name in COMPUTE:
            used[name] = amount
    used |= {f"limits.{name}": amount for name, amount in total(spec, "limits").items() if name in COMPUTE}
    return used


def total(spec: JSON, key: str) -> Amounts:
    """A pod's requests or limits: its containers and sidecars together, or the hungriest moment of initialisation."""
    running: Amounts = {}
    for container in spec.get("containers") or ():
        _add(running, given(container, key))
    sidecars: Amounts = {}
    peak: Amounts = {}
    for container in spec.get("initContainers") or ():
        need = given(container, key)
        if container.get("restartPolicy") == "Always":
            _add(sidecars, need)
            _raise(peak, sidecars)
        else:
            _add(need, sidecars)
            _raise(peak, need)
    _add(running, sidecars)
    _raise(running, peak)
    running |= given(spec, key)
    _add(running, _parsed(spec.get("overhead") or {}))
    return running


def given(part: JSON, key: str) -> Amounts:
    """The requests or limits one container, pod or claim names itself."""
    return _parsed((part.get("resources") or {}).get(key) or {})


def _parsed(amounts: Mapping[str, Any]) -> Amounts:
    return {name: quantity.parse(value) for name, value in amounts.items()}


def _add(into: Amounts, more: Amounts) -> None:
    for name, amount in more.items():
        into[name] = into[name] + amount if name in into else amount


def _raise(into: Amounts, least: Amounts) -> None:
    for name, amount in least.items():
        into[name] = max(into.get(name, amount), amount)


def added(one: Amounts, other: Amounts) -> Amounts:
    """The sum of two."""
    result = dict(one)
    _add(result, other)
    return result


def hard(quota: JSON) -> Amounts:
    """What a quota allows."""
    return _parsed((quota.get("spec") or {}).get("hard") or {})


def covers(quota: JSON, resource: Resource, obj: JSON) -> bool:
    """Whether an object is within a quota's scopes; only pods have any."""
    spec = quota.get("spec") or {}
    wanted = [{"scopeName": name, "operator": "Exists"} for name in spec.get("scopes") or ()]
    wanted += (spec.get("scopeSelector") or {}).get("matchExpressions") or ()
    return all(resource is PODS and _in_scope(each, obj.get("spec") or {}) for each in wanted)


def _in_scope(wanted: JSON, spec: JSON) -> bool:
    match wanted.get("scopeName"):
        case "Terminating":
            return spec.get("activeDeadlineSeconds") is not None
        case "NotTerminating":
            return spec.get("activeDeadlineSeconds") is None
        case "BestEffort":
            return best_effort(spec)
        case "NotBestEffort":
            return not best_effort(spec)
        case "PriorityClass":
            return _class_matches(wanted, spec.get("priorityClassName") or "")
        case "CrossNamespacePodAffinity":
            return _crosses_namespaces(spec)
    return False


def best_effort(spec: JSON) -> bool:
    """Whether no container asks for, or is limited to, any cpu or memory."""
    parts = [spec, *(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    named = (given(part, key).items() for part in parts for key in ("requests", "limits"))
    return not any(amount and name in ("cpu", "memory") for each in named for name, amount in each)


def _class_matches(wanted: JSON, name: str) -> bool:
    values = wanted.get("values") or ()
    match wanted.get("operator"):
        case "In":
            return name in values
        case "NotIn":
            return name not in values
        case "DoesNotExist":
            return not name
    return bool(name)


def _crosses_namespaces(spec: JSON) -> bool:
    affinity = spec.get("affinity") or {}
    for side in ("podAffinity", "podAntiAffinity"):
        rules = affinity.get(side) or {}
        terms = list(rules.get("requiredDuringSchedulingIgnoredDuringExecution") or ())
        preferred = rules.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        terms += [each.get("podAffinityTerm") or {} for each in preferred]
        if any(term.get("namespaces") or term.get("namespaceSelector") is not None for term in terms):
            return True
    return False


def unnamed(quota: JSON, spec: JSON) -> list[str]:
    """`cpu for: a,b` for every amount the quota restrains and containers do not name; in upstream's words."""
    found = []
    for name in sorted(MUST_BE_GIVEN & hard(quota).keys()):
        kind, _, what = name.rpartition(".")
        key = kind or "requests"
        if what in given(spec, key):
            continue
        containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
        missing = sorted(each.get("name") or "" for each in containers if what not in given(each, key))
        if missing:
            found.append(f"{name} for: {','.join(missing)}")
    return found


def text(amounts: Mapping[str, Quantity], names: Iterable[str]) -> str:
    """`a=1,b=2` in the order of names."""
    return ",".join(f"{name}={amounts.get(name, NOTHING)}" for name in sorted(names))
