"""The garbage collector: feeds the graph of owners from every deletable kind, and carries out its verdicts."""

import functools
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from controlplane.controllers import graph, reconcile, writes
from controlplane.controllers.graph import Graph, Node, Verdict
from controlplane.projection import Lean, LeanMeta, OwnerReference
from kube import scheme
from kube.client.informer import Informer
from kube.runtime.component import Deps
from kube.scheme import Resource
from kube.status import ApiError, is_not_found

WORKERS = 20
REMEMBERED = 500  # owners known not to exist
_IGNORED = frozenset(("events",))  # many, short-lived, and never owned


def monitored() -> tuple[Resource, ...]:
    """Kinds that can own or be owned: all that can be listed, watched and deleted, each stored kind once."""
    needed = {"list", "watch", "delete"}
    return tuple(
        resource
        for resource in scheme.RESOURCES
        if needed <= set(resource.verbs) and not resource.storage and resource.group_resource not in _IGNORED
    )


class Controller:
    """Keys are UIDs."""

    def __init__(self, deps: Deps, *, types: Mapping[Resource, type]) -> None:
        """types: projections that others in this process already keep of a kind, to be shared."""
        self._client = deps.client
        self._graph = Graph()
        self._absent: OrderedDict[str, None] = OrderedDict()
        self._informers: dict[Resource, Informer[Any]] = {
            resource: deps.informers.get(resource, types.get(resource, Lean)) for resource in monitored()
        }
        reads = tuple(self._informers.values())
        self.loop = reconcile.Loop(
            "garbage-collector",
            deps=deps,
            reads=reads,
            reconcile=self._reconcile,
            workers=WORKERS,
            source="garbage-collector-controller",
            everything=self._graph.nodes.keys,
        )
        for resource, informer in self._informers.items():
            informer.subscribe(functools.partial(self._on_object, resource))

    def _on_object(self, resource: Resource, old: Any, new: Any) -> None:
        if new is None:
            self._on_gone(old.metadata)
            return
        if old is not None and old.metadata.uid != new.metadata.uid:
            self._on_gone(old.metadata)
        meta: LeanMeta = new.metadata
        before = self._graph.nodes.get(meta.uid)
        node = self._graph.put(resource, meta)
        if _is_news(before, node):
            self.loop.queue.add(meta.uid)
        if before and (before.owners, before.deleting) != (node.owners, node.deleting):
            self._visit_owners(before)

    def _on_gone(self, meta: LeanMeta) -> None:
        """Dependents may now be without owner, and owners may have waited for this one."""
        node = self._graph.nodes.get(meta.uid)
        self._graph.remove(meta.uid)
        self._remember_absent(meta.uid)
        for dependent in self._graph.dependents_of(meta.uid):
            self.loop.queue.add(dependent.uid)
        if node:
            self._visit_owners(node)

    def _visit_owners(self, node: Node) -> None:
        for ref in node.owners:
            owner = self._graph.nodes.get(ref.uid)
            if owner and owner.waits_for_dependents:
                self.loop.queue.add(ref.uid)

    async def _reconcile(self, uid: str) -> None:
        node = self._graph.nodes.get(uid)
        if node is None:
            return
        verdict = graph.judge(self._graph, node, is_absent=self._absent.__contains__)
        for ref in verdict.ask:
            await self._look_for(node, ref)
        if verdict.ask:
            self.loop.queue.add(uid)
            return
        for ref in verdict.foreign:
            self._complain(node, ref)
        try:
            await self._carry_out(node, verdict)
        except ApiError as e:
            if not is_not_found(e):
                raise
            self.loop.queue.forget(uid)

    async def _carry_out(self, node: Node, verdict: Verdict) -> None:
        for dependent in verdict.orphan:
            await self._orphan(dependent, node.uid)
        for visited in verdict.visit:
            self.loop.queue.add(visited)
        if verdict.drop_finalizer:
            left = [name for name in node.finalizers if name != verdict.drop_finalizer]
            await self._patch(node, {"finalizers": left})
        if verdict.drop_owners:
            kept = [_reference(ref) for ref in node.owners if ref.uid not in verdict.drop_owners]
            await self._patch(node, {"ownerReferences": kept})
        if verdict.unblock:
            freed = [_reference(ref) | {"blockOwnerDeletion": False} for ref in node.owners]
            await self._patch(node, {"ownerReferences": freed})
        if verdict.delete:
            await writes.apply(
                self._client,
                writes.Delete(
                    resource=node.resource,
                    namespace=node.namespace or None,
                    name=node.name,
                    uid=node.uid,
                    version=node.version,
                    propagation=verdict.delete,
                ),
            )

    async def _orphan(self, dependent: Node, owner: str) -> None:
        kept = [_reference(ref) for ref in dependent.owners if ref.uid != owner]
        try:
            await self._patch(dependent, {"ownerReferences": kept})
        except ApiError as e:
            if not is_not_found(e):
                raise

    async def _patch(self, node: Node, meta: dict[str, Any]) -> None:
        """Change metadata only as long as it is what the decision was made from."""
        await writes.apply(
            self._client,
            writes.Patch(
                resource=node.resource,
                namespace=node.namespace or None,
                name=node.name,
                uid=node.uid,
                version=node.version,
                body={"metadata": meta},
            ),
        )

    async def _look_for(self, node: Node, ref: OwnerReference) -> None:
        """An owner that no cache shows may just not have arrived yet: ask, and remember those that do not exist."""
        resource = scheme.by_kind(ref.api_version, ref.kind)
        found = None
        if resource is not None:
            try:
                namespace = node.namespace if resource.namespaced else None
                found = await self._client.get(resource, ref.name, namespace=namespace, type=Lean)
            except ApiError as e:
                if not is_not_found(e):
                    raise
        if resource is None or found is None or found.metadata.uid != ref.uid:
            self._remember_absent(ref.uid)
        elif ref.uid not in self._graph.nodes and ref.uid not in self._absent:
            self._graph.put(resource, found.metadata)

    def _remember_absent(self, uid: str) -> None:
        """UIDs are never used twice, so what is gone stays gone."""
        self._absent[uid] = None
        if len(self._absent) > REMEMBERED:
            self._absent.popitem(last=False)

    def _complain(self, node: Node, ref: OwnerReference) -> None:
        message = (
            f"ownerRef [{ref.api_version}/{ref.kind}, namespace: {node.namespace}, name: {ref.name}, uid: {ref.uid}] "
            f'does not exist in namespace "{node.namespace}"'
        )
        meta = LeanMeta(name=node.name, namespace=node.namespace, uid=node.uid, resource_version=node.version)
        self.loop.tell(node.resource, meta, type="Warning", reason="OwnerRefInvalidNamespace", message=message)


def _is_news(before: Node | None, node: Node) -> bool:
    return before is None or (before.owners, before.finalizers, before.deleting) != (
        node.owners,
        node.finalizers,
        node.deleting,
    )


def _reference(ref: OwnerReference) -> dict[str, Any]:
    named = {"apiVersion": ref.api_version, "kind": ref.kind, "name": ref.name, "uid": ref.uid}
    flags = {"controller": ref.controller, "blockOwnerDeletion": ref.block_owner_deletion}
    return named | {key: value for key, value in flags.items() if value is not None}
