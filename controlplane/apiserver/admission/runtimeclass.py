"""What a pod gets from its RuntimeClass: the overhead of its sandbox, and where it may run.

Upstream's RuntimeClass plug-in.
"""

from typing import Any

from controlplane.apiserver.admission.chain import Attributes, Plugin
from controlplane.apiserver.admission.pods import is_new_pod
from controlplane.store.storage import Storage
from kube import quantity, status
from kube.scheme import PODS, RUNTIME_CLASSES

Object = dict[str, Any]


class RuntimeClass(Plugin):
    """The class must exist; its overhead and node selector become the pod's."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def mutate(self, attributes: Attributes) -> None:
        """Fill in overhead, node selector and tolerations."""
        if not is_new_pod(attributes):
            return
        spec = attributes.obj["spec"]
        name, found = spec.get("runtimeClassName"), None
        if name:
            found = self._storage.get(RUNTIME_CLASSES.storage_key, name)
            if found is None:
                raise _rejected(attributes, f'pod rejected: RuntimeClass "{name}" not found')
        chosen = found.decode() if found is not None else {}
        _overhead(attributes, spec, (chosen.get("overhead") or {}).get("podFixed"))
        _placement(attributes, spec, chosen.get("scheduling") or {})


def _rejected(attributes: Attributes, why: str) -> status.ApiError:
    return status.forbidden(why, resource=PODS, name=attributes.name)


def _overhead(attributes: Attributes, spec: Object, fixed: Object | None) -> None:
    given = spec.get("overhead")
    if not fixed:
        if given:
            why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
            raise _rejected(attributes, why)
        return
    if given and _parsed(given) != _parsed(fixed):
        raise _rejected(attributes, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
    spec["overhead"] = dict(fixed)


def _parsed(amounts: Object) -> dict[str, quantity.Quantity]:
    try:
        return {name: quantity.parse(value) for name, value in amounts.items()}
    except quantity.QuantityError as e:
        raise status.bad_request(f"spec.overhead: {e}") from e


def _placement(attributes: Attributes, spec: Object, scheduling: Object) -> None:
    chosen = spec.get("nodeSelector") or {}
    for key, value in (scheduling.get("nodeSelector") or {}).items():
        if chosen.get(key, value) != value:
            why = f"conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; "
            raise _rejected(attributes, why + f"pod.spec.nodeSelector[{key}] = {chosen[key]}")
        chosen = {**chosen, key: value}
    if chosen:
        spec["nodeSelector"] = chosen
    have = spec.get("tolerations") or []
    added = [toleration for toleration in scheduling.get("tolerations") or [] if toleration not in have]
    if added:
        spec["tolerations"] = [*have, *added]
