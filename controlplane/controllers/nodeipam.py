"""Node IPAM: gives every node its own block of pod addresses, once and for good.

`choose` is pure. The nodes themselves are the record; blocks just given are remembered until the cache shows them.
"""

import logging
from collections.abc import Container
from ipaddress import IPv4Network, IPv6Network, ip_network

from controlplane.controllers import reconcile, writes
from controlplane.projection import Node
from kube import scheme
from kube.runtime.component import Deps
from kube.status import ApiError, is_not_found

log = logging.getLogger(__name__)

Network = IPv4Network | IPv6Network


def choose(cluster: Network, mask_size: int, taken: Container[str]) -> str | None:
    """The first free block of a size in the cluster's range, None if there is none left."""
    return next((str(block) for block in cluster.subnets(new_prefix=mask_size) if str(block) not in taken), None)


class Controller:
    """Keys are node names."""

    def __init__(self, deps: Deps, *, cluster_cidr: str, mask_size: int) -> None:
        self._cluster, self._mask_size = ip_network(cluster_cidr), mask_size
        self._nodes = deps.informers.get(scheme.NODES, Node)
        self._taken: dict[str, str] = {}  # block -> node
        # One worker: two nodes must never choose at the same time.
        self.loop = reconcile.Loop(
            "node-ipam", deps=deps, reads=(self._nodes,), reconcile=self._reconcile, source="cidrAllocator"
        )
        self._nodes.subscribe(self._on_node)

    def _on_node(self, old: Node | None, new: Node | None) -> None:
        if new is None:
            name = old.metadata.name if old else ""
            for block in [block for block, owner in self._taken.items() if owner == name]:
                del self._taken[block]
            return
        if new.spec.pod_cidr:
            for block in new.spec.pod_cidrs or (new.spec.pod_cidr,):
                self._taken[block] = new.metadata.name
        else:
            self.loop.queue.add(new.metadata.name)

    async def _reconcile(self, name: str) -> None:
        node = self._nodes.cache.get(name)
        if node is None or node.spec.pod_cidr:
            return
        block = choose(self._cluster, self._mask_size, self._taken)
        if block is None:
            message = f"Node {name} status is now: CIDRNotAvailable"
            self.loop.tell(scheme.NODES, node.metadata, type="Normal", reason="CIDRNotAvailable", message=message)
            log.error("no /%d left in %s for node %s: widen clusterCIDR", self._mask_size, self._cluster, name)
            self.loop.queue.add_after(name, 30.0)
            return
        body = {"spec": {"podCIDR": block, "podCIDRs": [block]}}
        meta = node.metadata
        self._taken[block] = name
        patch = writes.Patch(resource=scheme.NODES, name=name, uid=meta.uid, version=meta.resource_version, body=body)
        try:
            await self.loop.write(name, patch, informer=self._nodes)
        except ApiError as e:
            del self._taken[block]
            if not is_not_found(e):
                raise
