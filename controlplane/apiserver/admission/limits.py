"""What limit ranges of a namespace give to pods that name nothing, and what they refuse. Upstream's LimitRanger.

Owns the rules for containers, pods and volume claims. Must not know quotas.
"""

from collections.abc import Iterable
from typing import Any

from controlplane import quota
from controlplane.apiserver.admission.chain import Attributes, Plugin
from controlplane.apiserver.admission.pods import is_new_pod
from controlplane.quota import Amounts
from controlplane.store.storage import Storage
from kube import quantity, status
from kube.scheme import LIMIT_RANGES, PERSISTENT_VOLUME_CLAIMS

Object = dict[str, Any]
ANNOTATION = "kubernetes.io/limit-ranger"


class LimitRanger(Plugin):
    """See the module."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def mutate(self, attributes: Attributes) -> None:
        """Give a new pod's containers the requests and limits they do not name."""
        if is_new_pod(attributes):
            for item in self._items(attributes.namespace):
                if item.get("type") == "Container":
                    default(attributes.obj, item)

    async def validate(self, attributes: Attributes) -> None:
        """Refuse a new pod, or a claim, outside the ranges."""
        claim = attributes.resource is PERSISTENT_VOLUME_CLAIMS and attributes.operation != "DELETE"
        if not is_new_pod(attributes) and not (claim and not attributes.subresource):
            return
        found = [
            fault
            for item in self._items(attributes.namespace)
            for fault in (claim_faults(attributes.obj, item) if claim else pod_faults(attributes.obj, item))
        ]
        if found:
            why = found[0] if len(found) == 1 else f"[{', '.join(found)}]"
            raise status.forbidden(why, resource=attributes.resource, name=attributes.name)

    def _items(self, namespace: str) -> list[Object]:
        entries = self._storage.cache(LIMIT_RANGES.storage_key).items
        found = [entry.decode() for key, entry in list(entries.items()) if key.startswith(f"{namespace}/")]
        return [item for each in found for item in (each.get("spec") or {}).get("limits") or ()]


def default(pod: Object, item: Object) -> None:
    """Fill in one range's defaults, and say so in an annotation, in place."""
    told = []
    for kind, key in (("container", "containers"), ("init container", "initContainers")):
        for container in pod["spec"].get(key) or ():
            for word, source in (("request", "defaultRequest"), ("limit", "default")):
                given = container.setdefault("resources", {}).setdefault(f"{word}s", {})
                missing = sorted((item.get(source) or {}).keys() - given.keys())
                given |= {name: item[source][name] for name in missing}
                if not given:
                    del container["resources"][f"{word}s"]
                if missing:
                    told.append(f"{', '.join(missing)} {word} for {kind} {container.get('name') or ''}")
    if told:
        text = f"LimitRanger plugin set: {'; '.join(told)}"
        pod["metadata"]["annotations"] = (pod["metadata"].get("annotations") or {}) | {ANNOTATION: text}


def pod_faults(pod: Object, item: Object) -> list[str]:
    """What in a pod is outside one range."""
    spec, kind = pod.get("spec") or {}, item.get("type") or ""
    if kind == "Container":
        containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
        named = [(quota.given(each, "requests"), quota.given(each, "limits")) for each in containers]
    elif kind == "Pod":
        named = [(quota.total(spec, "requests"), quota.total(spec, "limits"))]
    else:
        return []
    return [fault for requests, limits in named for fault in _faults(kind, item, requests, limits)]


def claim_faults(claim: Object, item: Object) -> list[str]:
    """What in a volume claim is outside one range; a claim has requests alone."""
    if item.get("type") != "PersistentVolumeClaim":
        return []
    requests = quota.given(claim.get("spec") or {}, "requests")
    return _faults("PersistentVolumeClaim", item, requests, {})


def _faults(kind: str, item: Object, requests: Amounts, limits: Amounts) -> list[str]:
    found, claim = [], kind == "PersistentVolumeClaim"
    for name, least in sorted((item.get("min") or {}).items()):
        start = f"minimum {name} usage per {kind} is {least}"
        found += _outside(start, least, -1, (("request", requests.get(name)), ("limit", limits.get(name))))
    for name, most in sorted((item.get("max") or {}).items()):
        start = f"maximum {name} usage per {kind} is {most}"
        asked = [("request", requests.get(name))]
        found += _outside(start, most, 1, asked if claim else [("limit", limits.get(name)), *asked])
    for name, most in sorted((item.get("maxLimitRequestRatio") or {}).items()):
        found += _ratio(kind, name, most, requests.get(name), limits.get(name))
    return found


def _outside(start: str, bound: Any, side: int, named: Iterable[tuple[str, quantity.Quantity | None]]) -> list[str]:
    """At most one fault: the first amount must be named, every one must be on the right side of the bound."""
    edge = quantity.parse(bound).nano * side
    for number, (word, amount) in enumerate(named):
        if amount is None:
            if number == 0:
                return [f"{start}.  No {word} is specified"]
        elif amount.nano * side > edge:
            return [f"{start}, but {word} is {amount}"]
    return []


def _ratio(
    kind: str, name: str, most: Any, request: quantity.Quantity | None, limit: quantity.Quantity | None
) -> list[str]:
    start = f"{name} max limit to request ratio per {kind} is {most}, but"
    if not request:
        return [f"{start} no request is specified or request is 0"]
    if not limit:
        return [f"{start} no limit is specified or limit is 0"]
    ratio = limit.nano / request.nano
    return [f"{start} provided ratio is {ratio:f}"] if ratio > quantity.parse(most).nano / 10**9 else []
