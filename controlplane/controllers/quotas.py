"""The resource quota controller: counts what a namespace uses, when a quota changes or something in it goes.

`count` is pure. What is created is charged by admission; this sees what was freed, and what was charged in vain.
"""

import functools
from collections.abc import Iterable, Mapping
from typing import Any

from controlplane import quota
from controlplane.controllers import reconcile, writes
from controlplane.projection import JSON, Pod, ResourceQuota
from kube import scheme
from kube.runtime.component import Deps
from kube.scheme import Resource
from kube.status import ApiError, is_not_found

FULL_RESYNC = 300.0  # seconds after which a quota is counted again, whatever was seen
WORKERS = 5


def count(found: JSON, objects: Iterable[tuple[Resource, JSON]]) -> JSON:
    """The status of a quota, from the objects of its namespace."""
    allowed = quota.hard(found)
    used = dict.fromkeys(allowed, quota.NOTHING)
    for resource, obj in objects:
        if quota.covers(found, resource, obj):
            for name, amount in quota.usage(resource, obj).items():
                if name in used:
                    used[name] = used[name] + amount
    limits = (found.get("spec") or {}).get("hard") or {}
    return {"hard": dict(limits), "used": {name: str(amount) for name, amount in used.items()}}


def kinds(names: Iterable[str]) -> set[Resource]:
    """The kinds that quotas naming these amounts count."""
    found: set[Resource] = set()
    for resource in scheme.RESOURCES:
        known = {resource.group_resource, f"count/{resource.group_resource}"}
        if resource.namespaced and not resource.virtual and not resource.storage and known & set(names):
            found.add(resource)
    for name in names:
        if name.startswith("services."):
            found.add(scheme.SERVICES)
        elif "requests.storage" in name or quota.STORAGE_CLASS in name:
            found.add(scheme.PERSISTENT_VOLUME_CLAIMS)
        elif name in quota.COMPUTE or name.startswith(("requests.", "limits.")):
            found.add(scheme.PODS)
    return found


def stale(old: ResourceQuota | None, new: ResourceQuota) -> bool:
    """Whether a quota must be counted anew: it was not seen before, allows something else, or was never counted."""
    return old is None or old.spec != new.spec or new.status.hard != new.spec.hard


class Controller:
    """Keys are quotas."""

    def __init__(self, deps: Deps, *, watched: Mapping[Resource, type]) -> None:
        """watched: projections of the kinds that may be counted, to be shared with the others in this process."""
        self._client = deps.client
        self._quotas = deps.informers.get(scheme.RESOURCE_QUOTAS, ResourceQuota)
        self.loop = reconcile.Loop(
            "resourcequota",
            deps=deps,
            reads=(self._quotas,),
            reconcile=self._reconcile,
            workers=WORKERS,
            source="resourcequota-controller",
        )
        self._quotas.subscribe(self._on_quota)
        self._by_namespace = self._quotas.add_index(lambda one: [one.metadata.namespace])
        for resource, type in watched.items():
            deps.informers.get(resource, type).subscribe(functools.partial(self._on_object, resource))

    def _on_quota(self, old: ResourceQuota | None, new: ResourceQuota | None) -> None:
        """A charge is no reason to count: what it is for may not be stored yet, and would be forgotten."""
        if new is not None and stale(old, new):
            self.loop.queue.add(f"{new.metadata.namespace}/{new.metadata.name}")

    def _on_object(self, resource: Resource, old: Any, new: Any) -> None:
        """Something was freed: an object is gone, a pod has ended, a Service may have given ports back."""
        if old is None or not self._by_namespace.get(old.metadata.namespace):
            return
        ended = isinstance(new, Pod) and new.status.phase in ("Succeeded", "Failed")
        if new is None or ended or resource is scheme.SERVICES:
            for one in self._by_namespace.get(old.metadata.namespace):
                self._on_quota(None, one)

    async def _reconcile(self, key: str) -> None:
        namespace, _, name = key.partition("/")
        try:
            found = await self._client.get(scheme.RESOURCE_QUOTAS, name, namespace=namespace)
        except ApiError as e:
            if is_not_found(e):
                return
            raise
        objects: list[tuple[Resource, JSON]] = []
        for resource in kinds((found.get("spec") or {}).get("hard") or ()):
            listed = await self._client.list(resource, namespace=namespace)
            objects += [(resource, obj) for obj in listed.get("items") or ()]
        status = count(found, objects)
        if status != found.get("status"):
            meta = found["metadata"]
            await writes.apply(
                self._client,
                writes.Patch(
                    resource=scheme.RESOURCE_QUOTAS,
                    namespace=namespace,
                    name=name,
                    uid=meta["uid"],
                    version=meta["resourceVersion"],
                    body={"status": _replacing(found.get("status") or {}, status)},
                    subresource="status",
                ),
            )
        self.loop.queue.add_after(key, FULL_RESYNC)


def _replacing(old: JSON, new: JSON) -> JSON:
    """A merge patch from one status to another: what is no longer named is removed."""
    return {key: dict.fromkeys(old.get(key) or (), None) | new[key] for key in new}
