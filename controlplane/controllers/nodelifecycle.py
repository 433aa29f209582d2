"""The node lifecycle controller: notices nodes that fell silent, says so on them and their pods, and taints them.

The planning functions are pure; when a node was last heard of is measured on this process's own monotonic clock,
since nobody's wall clock can be trusted about another's.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

import msgspec

from controlplane.controllers import conditions, reconcile, tainting, times, writes
from controlplane.projection import JSON, Condition, Lease, Node, Pod
from kube import scheme
from kube.runtime import clock
from kube.runtime.component import Deps
from kube.status import ApiError, is_not_found

GRACE = 50.0  # seconds without a sign of life
STARTUP_GRACE = 60.0  # for a node that never said anything
WATCHED = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
RECHECK = 5.0  # seconds between looks at a node that is not ready
EVICTION_RATE = 0.1  # nodes a second
SLOW_EVICTION_RATE = 0.01
LARGE_CLUSTER = 50  # nodes; below, a half-broken zone stops evictions altogether
UNHEALTHY_SHARE = 0.55
_ZONE_LABELS = ("topology.kubernetes.io/region", "topology.kubernetes.io/zone")


def silence(node: Node, *, silent_for: float, now: datetime, grace: float = GRACE) -> tuple[Condition, ...] | None:
    """The conditions of a node that has been silent too long, None if it has not or already says so."""
    known = node.status.conditions
    ready = conditions.find(known, "Ready")
    if silent_for <= (grace if ready else STARTUP_GRACE) or (ready and ready.status == "Unknown"):
        return None
    stamp = clock.rfc3339(now)
    return tuple(_unknown(conditions.find(known, type), type, stamp, node) for type in WATCHED)


def _unknown(old: Condition | None, type: str, stamp: str, node: Node) -> Condition:
    if old is None:
        return Condition(
            type=type,
            reason="NodeStatusNeverUpdated",
            message="Kubelet never posted node status.",
            last_heartbeat_time=node.metadata.creation_timestamp,
            last_transition_time=stamp,
        )
    if old.status == "Unknown":
        return old
    message = "Kubelet stopped posting node status."
    return msgspec.structs.replace(
        old, status="Unknown", reason="NodeStatusUnknown", message=message, last_transition_time=stamp
    )


def unready_pods(node: Node, pods: Iterable[Pod], *, now: datetime) -> tuple[writes.Patch, ...]:
    """Patches that make pods of a node that is not ready show it: once, so as not to argue with a living kubelet."""
    ready = conditions.find(node.status.conditions, "Ready")
    if ready is None or ready.status == "True":
        return ()
    since = times.parse(ready.last_transition_time) or now
    found = []
    for pod in pods:
        shown = conditions.find(pod.status.conditions, "Ready")
        if shown and shown.status == "True" and (times.parse(shown.last_transition_time) or since) <= since:
            body = {"status": {"conditions": [_not_ready(now)]}}
            found.append(_pod_patch(pod, body))
    return tuple(found)


def _not_ready(now: datetime) -> JSON:
    return {"type": "Ready", "status": "False", "lastTransitionTime": clock.rfc3339(now)}


def _pod_patch(pod: Pod, body: JSON) -> writes.Patch:
    meta = pod.metadata
    return writes.Patch(
        resource=scheme.PODS,
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        body=body,
        kind="strategic",
        subresource="status",
    )


def zone_of(node: Node) -> str:
    """What tells failure zones apart; "" where nodes are not labelled."""
    return "/".join(filter(None, (node.metadata.labels.get(label, "") for label in _ZONE_LABELS)))


def eviction_rate(zone: str, nodes: Sequence[Node]) -> float | None:
    """Nodes a second that may be emptied in a zone; None when the whole cluster is down: then it is probably us."""
    ordered = sorted(nodes, key=zone_of)
    health = {name: [_is_ready(node) for node in members] for name, members in groupby(ordered, key=zone_of)}
    if not any(any(members) for members in health.values()):
        return None
    members = health.get(zone, [])
    broken = members.count(False)
    if any(members) and broken > 2 and broken / len(members) >= UNHEALTHY_SHARE:
        return SLOW_EVICTION_RATE if len(nodes) > LARGE_CLUSTER else 0.0
    return EVICTION_RATE


def _is_ready(node: Node) -> bool:
    ready = conditions.find(node.status.conditions, "Ready")
    return ready is not None and ready.status == "True"


class Pace:
    """How often nodes of a zone may be emptied: one at once, then at the rate."""

    def __init__(self) -> None:
        self._next: dict[str, float] = {}

    def allows(self, zone: str, *, rate: float, now: float) -> bool:
        """Take one permission if there is one. now in monotonic seconds."""
        if rate <= 0 or now < self._next.get(zone, 0.0):
            return False
        self._next[zone] = now + 1 / rate
        return True


@dataclass(slots=True)
class _Sign:
    """The last sign of life: what it said, and when it was seen (monotonic seconds)."""

    said: str | None
    at: float


class Controller:
    """Keys are node names."""

    def __init__(self, deps: Deps, *, grace: float = GRACE) -> None:
        self._client, self._clock, self._grace = deps.client, deps.clock, grace
        self._nodes = deps.informers.get(scheme.NODES, Node)
        self._leases = deps.informers.get(scheme.LEASES, Lease, namespace="kube-node-lease")
        self._pods = deps.informers.get(scheme.PODS, Pod)
        self.loop = reconcile.Loop(
            "node-lifecycle",
            deps=deps,
            reads=(self._nodes, self._leases, self._pods),
            reconcile=self._reconcile,
            workers=4,
            source="node-controller",
        )
        self._signs: dict[str, _Sign] = {}
        self._renewals: dict[str, _Sign] = {}
        self._pace = Pace()
        self._pods_on = self._pods.add_index(lambda pod: [pod.spec.node_name] if pod.spec.node_name else [])
        self._nodes.subscribe(self._on_node)
        self._leases.subscribe(self._on_lease)

    def _on_node(self, old: Node | None, new: Node | None) -> None:
        if new is None:
            if old:
                self._signs.pop(old.metadata.name, None)
            return
        name, ready = new.metadata.name, conditions.find(new.status.conditions, "Ready")
        if ready and ready.status == "Unknown" and name in self._signs:
            # Written by this controller: no sign of life, but whatever comes after it is one.
            self._signs[name].said = None
        else:
            self._note(self._signs, name, ready.last_heartbeat_time if ready else None)
        self.loop.queue.add(new.metadata.name)

    def _on_lease(self, old: Lease | None, new: Lease | None) -> None:
        if new:
            self._note(self._renewals, new.metadata.name, new.spec.renew_time)
        elif old:
            self._renewals.pop(old.metadata.name, None)

    def _note(self, signs: dict[str, _Sign], name: str, said: str | None) -> None:
        if name not in signs or signs[name].said != said:
            signs[name] = _Sign(said, self._clock.monotonic())

    def _silent_for(self, name: str) -> float:
        now = self._clock.monotonic()
        signs = [book[name].at for book in (self._signs, self._renewals) if name in book]
        return now - max(signs, default=now)

    async def _reconcile(self, name: str) -> None:
        node = self._nodes.cache.get(name)
        if node is None:
            return
        now = self._clock.now()
        silent_for = self._silent_for(name)
        said = silence(node, silent_for=silent_for, now=now, grace=self._grace)
        if said:
            self._tell(node, "Node {} status is now: NodeNotReady")
            await self._write(name, _node_patch(node, {"status": {"conditions": conditions.to_json(said)}}, "status"))
            return  # the node's event brings the key back
        await self._taint(name, node, now)
        answers = await self.loop.write_all(
            name, unready_pods(node, self._pods_on.get(name), now=now), informer=self._pods
        )
        for answer in answers:
            if isinstance(answer, Exception) and not is_not_found(answer):
                raise answer
        due = (self._grace if node.status.conditions else STARTUP_GRACE) - silent_for
        self.loop.queue.add_after(name, max(0.1, due + 0.1) if _is_ready(node) or 0 <= due < RECHECK else RECHECK)

    async def _taint(self, name: str, node: Node, now: datetime) -> None:
        taints = tainting.wanted(node, evict=self._may_evict(node), now=now)
        if taints == node.spec.taints:
            return
        body = {"spec": {"taints": [msgspec.to_builtins(taint) for taint in taints] or None}}
        meta = node.metadata
        patch = writes.Patch(resource=scheme.NODES, name=name, uid=meta.uid, version=meta.resource_version, body=body)
        await self._write(name, patch)

    def _may_evict(self, node: Node) -> bool:
        """Whether a node that is not ready may (still, or now) carry the taint that empties it."""
        if tainting.health_key(node) is None:
            return False
        rate = eviction_rate(zone_of(node), list(self._nodes.cache.values()))
        if rate is None:
            return False
        keys = (tainting.NOT_READY, tainting.UNREACHABLE)
        if any(t.key in keys and t.effect == tainting.NO_EXECUTE for t in node.spec.taints):
            return True
        return self._pace.allows(zone_of(node), rate=rate, now=self._clock.monotonic())

    async def _write(self, name: str, patch: writes.Patch) -> None:
        try:
            await self.loop.write(name, patch, informer=self._nodes)
        except ApiError as e:
            if not is_not_found(e):
                raise

    def _tell(self, node: Node, message: str) -> None:
        text = message.format(node.metadata.name)
        self.loop.tell(scheme.NODES, node.metadata, type="Normal", reason="NodeNotReady", message=text)


def _node_patch(node: Node, body: JSON, subresource: str) -> writes.Patch:
    meta = node.metadata
    return writes.Patch(
        resource=scheme.NODES, name=meta.name, uid=meta.uid, body=body, kind="strategic", subresource=subresource
    )
