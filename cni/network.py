"""The node's part in the pod network: own range -> plugin configuration and masquerading; peers -> the overlay.

Fed by the Node informer and by the kernel's own events, one key per changed node; every write is planned from what is
there. Must not know pods.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cni import config as configuration
from cni import masquerade
from cni.config import CNIConfiguration
from cni.netlink import wire
from cni.netlink.wire import IPAddress
from cni.overlay import peers, plan
from cni.overlay.kernel import Fabric
from cni.overlay.plan import Device, Entry, Parent, Way
from cni.overlay.watch import Concern, Interest
from kube.client.informer import Informer
from kube.runtime import files
from kube.runtime.workqueue import WorkQueue, work
from kube.types import Node

log = logging.getLogger(__name__)

RESYNC_SECONDS = 300.0
# Events of one change come together: the kernel is compared once for all of them.
SETTLE_SECONDS = 0.05
SUFFIXES = (".conf", ".conflist", ".json")
OWN_KEY, ALL_KEY, PODS_KEY = "", "*", "+"


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What the node itself brings to the overlay: its interfaces and VXLAN devices."""

    parents: Mapping[int, Parent]
    devices: tuple[Device, ...] = ()
    indexes: frozenset[int] = frozenset()


class Network:
    """Keeps configuration file, masquerading and the overlay as the Node objects say."""

    def __init__(
        self,
        config: CNIConfiguration,
        *,
        node_name: str,
        node_ip: str,
        nodes: Informer[Node],
        fabric: Fabric,
        apply_rules: Callable[[str], Awaitable[None]],
        annotate: Callable[[Mapping[str, str | None]], Awaitable[None]],
        accept_forwarding: Callable[[Sequence[str]], Awaitable[None]],
        mend_bridge: Callable[[], Awaitable[None]],
        report: Callable[[], Awaitable[None]],
    ) -> None:
        self._config = config
        self._own = node_name
        self._node_ip = ip_address(node_ip)
        self._nodes = nodes
        self._fabric = fabric
        self._apply_rules = apply_rules
        self._annotate = annotate
        self._accept_forwarding = accept_forwarding
        self._mend_bridge = mend_bridge
        self._report = report
        self._queue: WorkQueue[str] = WorkQueue()
        self._base = Base(parents={})
        self._applied: dict[str, frozenset[Entry]] = {}
        self._missing: dict[str, tuple[str, ...]] = {}
        self._rules = ""
        self._rules_gone = False
        self._reported = False
        self._rivals: tuple[Path, ...] = ()

    def ready(self) -> str | None:
        """None once the runtime has its configuration and all peers' entries are in."""
        if not self._nodes.synced:
            return "waiting for the list of nodes"
        if not self._rules:
            return f"node {self._own} has no pod range (spec.podCIDR) yet"
        return None if self._reported else "routes to other nodes are not in place yet"

    def interest(self) -> Interest:
        """What of the kernel's events is ours."""
        node = self._nodes.cache.get(self._own)
        return Interest(
            indexes=self._base.indexes,
            entries=self._entries(),
            bridge=self._config.bridge,
            ranges=peers.own(node).networks if node else (),
        )

    def recheck(self, concern: Concern) -> None:
        """The kernel has changed: compare the pods' ports, or everything, with it."""
        self._queue.add_after(PODS_KEY if concern is Concern.PODS else ALL_KEY, SETTLE_SECONDS)

    def recheck_own(self) -> None:
        """Somebody has changed the host's own rules: what of ours is among them is looked after."""
        self._queue.add(OWN_KEY)

    def table_families(self) -> frozenset[str]:
        """In which families the table of masquerading is to be there, in nft's words."""
        return masquerade.families(self._rules)

    async def rules_gone(self) -> None:
        """Somebody has removed the table of masquerading: it comes again."""
        if self._rules:
            self._rules_gone = True
            log.warning("somebody removed nft table %s: it is put in again", masquerade.TABLE)
            self._queue.add(OWN_KEY)

    async def run(self) -> None:
        """First everything against the kernel, then one node at a time."""
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
        if old is None or new is None or peers.read(old) != peers.read(new):
            self._queue.add(ALL_KEY if node.metadata.name == self._own else node.metadata.name)
            self._queue.add(OWN_KEY)

    async def _resync(self) -> None:
        while True:
            await asyncio.sleep(RESYNC_SECONDS)
            self._queue.add(ALL_KEY)

    async def _reconcile(self, key: str) -> None:
        if key == OWN_KEY:
            await self._reconcile_own()
        elif key == PODS_KEY:
            await self._mend_bridge()
        elif key == ALL_KEY:
            await self._reconcile_all()
        elif key != self._own:
            await self._reconcile_peer(key)

    async def _reconcile_all(self) -> None:
        self._base = await self._prepare()
        await self._mend_bridge()
        ways = {
            node.metadata.name: self._way_to(node)
            for node in self._nodes.cache.values()
            if node.metadata.name != self._own
        }
        observed = await asyncio.to_thread(self._fabric.observe)
        wanted = plan.change([entry for way in ways.values() for entry in way.entries], observed)
        await asyncio.to_thread(self._fabric.apply, wanted)
        self._applied = {name: way.entries for name, way in ways.items() if way.entries}
        for name in (ways.keys() | self._missing.keys()) - {self._own}:
            self._complain(name, ways.get(name, Way()))
        self._queue.add(OWN_KEY)

    async def _prepare(self) -> Base:
        node = self._nodes.cache.get(self._own)
        own = peers.own(node) if node else peers.Peer(name=self._own)
        addresses: Mapping[int, IPAddress] = own.addresses or {self._node_ip.version: self._node_ip}
        parents = await asyncio.to_thread(self._fabric.parents, addresses)
        devices = plan.devices(own, parents, mode=self._config.overlay)
        indexes = {parent.index for parent in parents.values() if parent.index}
        try:
            indexes |= await asyncio.to_thread(self._fabric.ensure, devices)
            self._complain(self._own, Way())
        except wire.NetlinkError as error:
            if self._config.overlay == plan.VXLAN:
                raise
            self._complain(self._own, Way(missing=(f"no VXLAN, nodes on this link only: {error}",)))
            devices = ()
        return Base(parents=parents, devices=devices, indexes=frozenset(indexes))

    def _way_to(self, node: Node) -> Way:
        present = {device.name for device in self._base.devices}
        return plan.way_to(peers.read(node), mode=self._config.overlay, parents=self._base.parents, present=present)

    async def _reconcile_peer(self, name: str) -> None:
        node = self._nodes.cache.get(name)
        way = self._way_to(node) if node else Way()
        self._complain(name, way)
        present = self._applied.get(name, frozenset())
        if way.entries == present:
            return
        held = {entry.key for other, entries in self._applied.items() if other != name for entry in entries}
        change = plan.change(way.entries, {e for e in present if e.key not in held or e in way.entries})
        await asyncio.to_thread(self._fabric.apply, change)
        if way.entries:
            self._applied[name] = way.entries
        else:
            self._applied.pop(name, None)

    def _complain(self, name: str, way: Way) -> None:
        """Says once what cannot be reached, and that it can be again."""
        before = self._missing.pop(name, ())
        if way.missing:
            self._missing[name] = way.missing
        if way.missing and way.missing != before:
            log.warning("pods of node %s cannot all be reached: %s", name, "; ".join(way.missing))
        elif before and not way.missing:
            log.info("all pods of node %s can be reached again", name)

    def _entries(self) -> frozenset[Entry]:
        return frozenset().union(*self._applied.values())

    async def _reconcile_own(self) -> None:
        node = self._nodes.cache.get(self._own)
        own = peers.pod_cidrs(node) if node else ()
        if node is None or not own:
            return
        everyone = [cidr for other in self._nodes.cache.values() for cidr in peers.pod_cidrs(other)]
        rules = masquerade.ruleset(own=own, pods=everyone) if self._config.masquerade else masquerade.removal()
        if rules != self._rules or self._rules_gone:
            await self._apply_rules(rules)
            self._rules, self._rules_gone = rules, False
        await self._accept_forwarding(own)
        mtu = self._config.mtu or plan.pod_mtu(self._base.parents, self._entries(), mode=self._config.overlay)
        await asyncio.to_thread(
            write_conflist, self._config.conflist, configuration.conflist(self._config, pod_cidrs=own, mtu=mtu)
        )
        self._warn_of_rivals()
        await self._announce(node)
        if not self._reported:
            await self._report()
            self._reported = True

    def _warn_of_rivals(self) -> None:
        found = rivals(self._config.conflist)
        if found and found != self._rivals:
            names = ", ".join(path.name for path in found)
            log.error("%s: the runtime takes %s before ours; remove what another CNI left", found[0].parent, names)
        self._rivals = found

    async def _announce(self, node: Node) -> None:
        macs: dict[int, str] = {device.address.version: device.mac for device in self._base.devices}
        wanted = peers.annotations(node, mode=self._config.overlay, devices=macs)
        present = {name: node.metadata.annotations.get(name) for name in wanted}
        if wanted != present:
            await self._annotate(wanted)


def rivals(own: Path) -> tuple[Path, ...]:
    """Network configurations that a runtime takes instead of this one: the first in lexical order wins."""
    found = sorted(own.parent.iterdir()) if own.parent.is_dir() else []
    return tuple(path for path in found if path.suffix in SUFFIXES and path.name < own.name)


def write_conflist(path: Path, document: Mapping[str, Any]) -> None:
    """Writes the runtime's network configuration, 0600, only when it differs."""
    data = (json.dumps(document, indent=2) + "\n").encode()
    if not path.exists() or path.read_bytes() != data:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.replace(path, data, mode=0o600)
