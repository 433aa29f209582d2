"""The node's part in the pod network: own range -> plugin configuration and masquerading; peers -> routes.

Fed by the Node informer, one key per changed node; every write is planned from what is there. Must not know pods.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from cni import config as configuration
from cni import masquerade
from cni.config import CNIConfiguration
from cni.overlay import plan
from cni.overlay.plan import Route
from cni.overlay.routes import Routes
from kube.client.informer import Informer
from kube.runtime import files
from kube.runtime.workqueue import WorkQueue, work
from kube.types import Node

log = logging.getLogger(__name__)

RESYNC_SECONDS = 300.0
OWN_KEY = ""


class Network:
    """Keeps configuration file, masquerading and routes as the Node objects say."""

    def __init__(
        self,
        config: CNIConfiguration,
        *,
        node_name: str,
        nodes: Informer[Node],
        routes: Routes,
        apply_rules: Callable[[str], Awaitable[None]],
        report: Callable[[], Awaitable[None]],
        mtu: Callable[[], int],
    ) -> None:
        self._config = config
        self._own = node_name
        self._nodes = nodes
        self._routes = routes
        self._apply_rules = apply_rules
        self._report = report
        self._mtu = mtu
        self._queue: WorkQueue[str] = WorkQueue()
        self._applied: dict[str, frozenset[Route]] = {}
        self._rules = ""
        self._reported = False

    def ready(self) -> str | None:
        """None once the runtime has its configuration and all routes are in."""
        if not self._nodes.synced:
            return "waiting for the list of nodes"
        if not self._rules:
            return f"node {self._own} has no pod range (spec.podCIDR) yet"
        return None if self._reported else "routes to other nodes are not in place yet"

    async def run(self) -> None:
        """First all routes against the kernel, then one node at a time."""
        await self._nodes.wait_synced()
        await self._reconcile_all()
        with contextlib.ExitStack() as subscribed:
            subscribed.callback(self._nodes.subscribe(self._changed))
            async with asyncio.TaskGroup() as group:
                group.create_task(work(self._queue, self._reconcile, workers=1, name="cni-network"))
                group.create_task(self._resync())

    def _changed(self, old: Node | None, new: Node | None) -> None:
        node = new or old
        if node is None:
            return
        if old is None or new is None or plan.routes_to(old) != plan.routes_to(new):
            self._queue.add(node.metadata.name)
            self._queue.add(OWN_KEY)

    async def _resync(self) -> None:
        while True:
            await asyncio.sleep(RESYNC_SECONDS)
            try:
                await self._reconcile_all()
            except Exception as error:
                log.warning("routes could not be compared with the kernel, next try in %d s: %s", RESYNC_SECONDS, error)

    async def _reconcile_all(self) -> None:
        wanted = plan.desired(self._nodes.cache.values(), own=self._own)
        observed = await asyncio.to_thread(self._routes.observe)
        flat = [route for routes in wanted.values() for route in routes]
        await asyncio.to_thread(self._routes.apply, plan.change(flat, observed))
        self._applied = dict(wanted)
        self._queue.add(OWN_KEY)

    async def _reconcile(self, key: str) -> None:
        if key == OWN_KEY:
            await self._reconcile_own()
        elif key != self._own:
            await self._reconcile_peer(key)

    async def _reconcile_peer(self, name: str) -> None:
        node = self._nodes.cache.get(name)
        wanted = plan.routes_to(node) if node else frozenset()
        present = self._applied.get(name, frozenset())
        if wanted == present:
            return
        held = {r.destination for other, routes in self._applied.items() if other != name for r in routes}
        change = plan.change(wanted, {r for r in present if r.destination not in held or r in wanted})
        await asyncio.to_thread(self._routes.apply, change)
        if wanted:
            self._applied[name] = wanted
        else:
            self._applied.pop(name, None)

    async def _reconcile_own(self) -> None:
        node = self._nodes.cache.get(self._own)
        own = plan.pod_cidrs(node) if node else ()
        if not own:
            return
        everyone = [cidr for other in self._nodes.cache.values() for cidr in plan.pod_cidrs(other)]
        rules = masquerade.ruleset(own=own, pods=everyone) if self._config.masquerade else masquerade.removal()
        if rules != self._rules:
            await self._apply_rules(rules)
            self._rules = rules
        mtu = self._config.mtu or await asyncio.to_thread(self._mtu)
        await asyncio.to_thread(
            write_conflist, self._config.conflist, configuration.conflist(self._config, pod_cidrs=own, mtu=mtu)
        )
        if not self._reported:
            await self._report()
            self._reported = True


def write_conflist(path: Path, document: Mapping[str, Any]) -> None:
    """Writes the runtime's network configuration, 0600, only when it differs."""
    data = (json.dumps(document, indent=2) + "\n").encode()
    if not path.exists() or path.read_bytes() != data:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.replace(path, data, mode=0o600)
