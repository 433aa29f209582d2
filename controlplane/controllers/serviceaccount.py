"""Every namespace has a service account `default` and the cluster's root certificate.

Two controllers of one shape: an object of fixed name that must exist in every living namespace. Every pod waits for
both, so they appear with the namespace and come back when deleted.
"""

from collections.abc import Callable
from typing import Any

from controlplane.controllers import reconcile, writes
from controlplane.projection import JSON, ConfigMap, Lean, Namespace
from kube import scheme
from kube.client.informer import Informer
from kube.runtime.component import Deps
from kube.scheme import Resource
from kube.status import ApiError, is_already_exists, is_namespace_ending, is_not_found

ROOT_CA = "kube-root-ca.crt"
_WHAT_FOR = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the "
    "internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes "
    "clusters."
)
Plan = Callable[[Namespace, Any], writes.Write | None]


def plan_account(namespace: Namespace, current: Lean | None) -> writes.Write | None:
    """The write that gives a namespace its default service account."""
    if current is not None or _ends(namespace):
        return None
    body = {"metadata": {"name": "default"}}
    return writes.Create(resource=scheme.SERVICE_ACCOUNTS, namespace=namespace.metadata.name, body=body)


def plan_root_ca(namespace: Namespace, current: ConfigMap | None, *, pem: str) -> writes.Write | None:
    """The write that makes a namespace show the cluster's root certificate, and nothing else beside it."""
    if _ends(namespace):
        return None
    data: JSON = {"ca.crt": pem}
    if current is None:
        meta = {"name": ROOT_CA, "annotations": {"kubernetes.io/description": _WHAT_FOR}}
        body = {"metadata": meta, "data": data}
        return writes.Create(resource=scheme.CONFIG_MAPS, namespace=namespace.metadata.name, body=body)
    if current.data == data:
        return None
    extra = {key: None for key in current.data if key not in data}
    return writes.Patch(
        resource=scheme.CONFIG_MAPS,
        namespace=namespace.metadata.name,
        name=ROOT_CA,
        uid=current.metadata.uid,
        body={"data": {**extra, **data}},
    )


def _ends(namespace: Namespace) -> bool:
    return namespace.status.phase == "Terminating" or bool(namespace.metadata.deletion_timestamp)


class Controller:
    """Keeps one object of a fixed name in every namespace."""

    def __init__(self, name: str, *, deps: Deps, resource: Resource, kind: type, object_name: str, plan: Plan) -> None:
        self._object_name, self._plan = object_name, plan
        self._namespaces = deps.informers.get(scheme.NAMESPACES, Namespace)
        self._objects: Informer[Any] = deps.informers.get(resource, kind, field_selector=f"metadata.name={object_name}")
        reads = (self._namespaces, self._objects)
        self.loop = reconcile.Loop(name, deps=deps, reads=reads, reconcile=self._reconcile, workers=2)
        self._namespaces.subscribe(self._on_namespace)
        self._objects.subscribe(self._on_object)

    def _on_namespace(self, old: Namespace | None, new: Namespace | None) -> None:
        if new:
            self.loop.queue.add(new.metadata.name)

    def _on_object(self, old: Any, new: Any) -> None:
        self.loop.queue.add((new or old).metadata.namespace)

    async def _reconcile(self, key: str) -> None:
        namespace = self._namespaces.cache.get(key)
        if namespace is None:
            return
        write = self._plan(namespace, self._objects.cache.get(f"{key}/{self._object_name}"))
        if write is None:
            return
        try:
            await self.loop.write(key, write, informer=self._objects)
        except ApiError as e:
            # Made by someone else meanwhile, or the namespace is on its way out: the caches will tell.
            if not (is_already_exists(e) or is_not_found(e) or is_namespace_ending(e)):
                raise


def accounts(deps: Deps) -> Controller:
    """The controller of `default` service accounts."""
    return Controller(
        "serviceaccount",
        deps=deps,
        resource=scheme.SERVICE_ACCOUNTS,
        kind=Lean,
        object_name="default",
        plan=plan_account,
    )


def root_ca(deps: Deps, *, pem: str) -> Controller:
    """The publisher of the cluster's root certificate."""

    def plan(namespace: Namespace, current: ConfigMap | None) -> writes.Write | None:
        return plan_root_ca(namespace, current, pem=pem)

    return Controller(
        "root-ca-publisher",
        deps=deps,
        resource=scheme.CONFIG_MAPS,
        kind=ConfigMap,
        object_name=ROOT_CA,
        plan=plan,
    )
