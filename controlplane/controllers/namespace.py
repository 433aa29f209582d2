"""The namespace controller: empties a namespace that is being deleted, pods before everything else, then lets it go.

`plan` is pure: from what was found in the namespace to deletions and conditions. The content is read live, not from
caches: a namespace must not go while anything is left in it.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from controlplane.controllers import conditions, reconcile, writes
from controlplane.projection import Condition, Lean, LeanMeta, Namespace
from kube import scheme
from kube.client.errors import Unreachable
from kube.runtime.backoff import Backoff
from kube.runtime.component import Deps
from kube.scheme import Resource
from kube.status import ApiError, is_conflict, is_not_found
from kube.types.base import Projection

WORKERS = 10
PARALLEL = 16
KUBERNETES = "kubernetes"
_OK = (
    ("NamespaceDeletionDiscoveryFailure", "ResourcesDiscovered", "All resources successfully discovered"),
    ("NamespaceDeletionGroupVersionParsingFailure", "ParsedGroupVersions", "All legacy kube types successfully parsed"),
    (
        "NamespaceDeletionContentFailure",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    ("NamespaceContentRemaining", "ContentRemoved", "All content successfully removed"),
    ("NamespaceFinalizersRemaining", "ContentHasNoFinalizers", "All content-preserving finalizers finished"),
)


@dataclass(frozen=True, slots=True)
class Found:
    """An object still in the namespace."""

    resource: Resource
    meta: LeanMeta


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Deletions to make now, the conditions to show, and whether nothing is left."""

    delete: tuple[writes.Delete, ...]
    conditions: tuple[Condition, ...]
    empty: bool


class _Page(Projection):
    items: tuple[Lean, ...] = ()


def contents() -> tuple[Resource, ...]:
    """Every kind that can be in a namespace, each stored kind once."""
    kinds = [
        resource
        for resource in scheme.RESOURCES
        if resource.namespaced and not resource.virtual and not resource.storage and "delete" in resource.verbs
    ]
    return tuple(kinds)


def plan(namespace: Namespace, found: Sequence[Found], *, failures: Sequence[str], now: datetime) -> Plan:
    """Decide from what is left. failures: what the last deletions answered, in words.

    While pods are left, nothing else is touched: they may still need their config maps and secrets.
    """
    pods = [one for one in found if one.resource is scheme.PODS]
    doomed = [one for one in (pods or found) if not one.meta.deletion_timestamp]
    told = namespace.status.conditions
    for condition in _conditions(found, failures):
        told = conditions.put(told, condition, now)
        told = _with_message(told, condition)
    return Plan(delete=tuple(map(_deletion, doomed)), conditions=told, empty=not found)


def _with_message(told: conditions.Conditions, new: Condition) -> conditions.Conditions:
    """Messages count what is left, so they change while status and reason stay."""
    return tuple(msgspec.structs.replace(c, message=new.message) if c.type == new.type else c for c in told)


def _conditions(found: Sequence[Found], failures: Sequence[str]) -> list[Condition]:
    shown = {type: Condition(type=type, status="False", reason=r, message=m) for type, r, m in _OK}

    def complain(type: str, reason: str, message: str) -> None:
        shown[type] = Condition(type=type, status="True", reason=reason, message=message)

    if failures:
        text = f"Failed to delete all resource types, {len(failures)} remaining: {', '.join(sorted(failures))}"
        complain("NamespaceDeletionContentFailure", "ContentDeletionFailed", text)
    if found:
        counts = Counter(one.resource.group_resource for one in found)
        parts = [f"{_dotted(name)} has {n} resource instances" for name, n in sorted(counts.items())]
        complain(
            "NamespaceContentRemaining", "SomeResourcesRemain", f"Some resources are remaining: {', '.join(parts)}"
        )
    held = Counter(finalizer for one in found for finalizer in one.meta.finalizers)
    if held:
        parts = [f"{finalizer} in {n} resource instances" for finalizer, n in sorted(held.items())]
        text = f"Some content in the namespace has finalizers remaining: {', '.join(parts)}"
        complain("NamespaceFinalizersRemaining", "SomeFinalizersRemain", text)
    return list(shown.values())


def _dotted(group_resource: str) -> str:
    """Upstream writes the core group as a trailing dot."""
    return group_resource if "." in group_resource else f"{group_resource}."


def _deletion(one: Found) -> writes.Delete:
    meta = one.meta
    return writes.Delete(
        resource=one.resource, namespace=meta.namespace, name=meta.name, uid=meta.uid, propagation="Background"
    )


class Controller:
    """Empties namespaces and finalizes them."""

    def __init__(self, deps: Deps) -> None:
        self._client, self._clock = deps.client, deps.clock
        self._namespaces = deps.informers.get(scheme.NAMESPACES, Namespace)
        self.loop = reconcile.Loop(
            "namespace", deps=deps, reads=(self._namespaces,), reconcile=self._reconcile, workers=WORKERS
        )
        self._pace = Backoff(0.1, 5.0)
        self._namespaces.subscribe(self._on_namespace)

    def _on_namespace(self, old: Namespace | None, new: Namespace | None) -> None:
        if new is None and old is not None:
            self._pace.reset(old.metadata.name)
        elif new is not None and new.metadata.deletion_timestamp:
            self.loop.queue.add(new.metadata.name)

    async def _reconcile(self, key: str) -> None:
        namespace = self._namespaces.cache.get(key)
        if namespace is None or not namespace.metadata.deletion_timestamp:
            return
        if KUBERNETES not in namespace.spec.finalizers:
            return  # ours is done; other finalizers are others' work
        found = await self._list(key)
        decided = plan(namespace, found, failures=(), now=self._clock.now())
        failures = await self._delete(decided.delete)
        if failures:
            decided = plan(namespace, found, failures=failures, now=self._clock.now())
        if decided.empty and not await self._list(key):
            await self._finalize(namespace)
            return
        await self._report(namespace, decided)
        self.loop.queue.add_after(key, self._pace.next(key))

    async def _list(self, namespace: str) -> list[Found]:
        """What is in the namespace: pods first, the rest only when there are none."""
        pods = await self._list_kind(scheme.PODS, namespace)
        if pods:
            return pods
        found: list[Found] = []
        for resource in contents():
            found += await self._list_kind(resource, namespace)
        return found

    async def _list_kind(self, resource: Resource, namespace: str) -> list[Found]:
        body = await self._client.list_raw(resource, namespace=namespace)
        return [Found(resource, item.metadata) for item in msgspec.json.decode(body, type=_Page).items]

    async def _delete(self, deletions: Sequence[writes.Delete]) -> list[str]:
        """Delete side by side; the kinds and reasons of what was refused."""
        gate = asyncio.Semaphore(PARALLEL)
        refused: set[str] = set()

        async def one(deletion: writes.Delete) -> None:
            async with gate:
                try:
                    await writes.apply(self._client, deletion)
                except (ApiError, Unreachable) as e:
                    if not (is_not_found(e) or is_conflict(e)):
                        refused.add(f"{deletion.resource.group_resource}: {e}")

        async with asyncio.TaskGroup() as group:
            for deletion in deletions:
                group.create_task(one(deletion))
        return sorted(refused)

    async def _report(self, namespace: Namespace, decided: Plan) -> None:
        if decided.conditions == namespace.status.conditions:
            return
        patch = writes.Patch(
            resource=scheme.NAMESPACES,
            name=namespace.metadata.name,
            uid=namespace.metadata.uid,
            body={"status": {"conditions": conditions.to_json(decided.conditions)}},
            subresource="status",
        )
        try:
            await writes.apply(self._client, patch)
        except ApiError as e:
            if not is_not_found(e):
                raise

    async def _finalize(self, namespace: Namespace) -> None:
        """Take our finalizer from the live object, so that nobody else's is lost."""
        try:
            fresh = await self._client.get(scheme.NAMESPACES, namespace.metadata.name)
            if fresh["metadata"]["uid"] != namespace.metadata.uid:
                return
            left = [name for name in fresh.get("spec", {}).get("finalizers", []) if name != KUBERNETES]
            fresh["spec"] = {**fresh.get("spec", {}), "finalizers": left}
            await self._client.update(scheme.NAMESPACES, fresh, subresource="finalize")
        except ApiError as e:
            if not is_not_found(e):
                raise
