"""The CNI daemon: the component that serves the plugin and keeps the node's part of the pod network.

Owns composition only: socket, routes, leases left over from a crash. Must not know CRI or Services.
"""

import asyncio
import json
import logging
from collections.abc import Mapping
from ipaddress import ip_interface
from pathlib import Path

from cni import attachment, errors, forward, install, masquerade, spec
from cni.aliases import Aliases
from cni.config import CNIConfiguration
from cni.ipam import ranges
from cni.ipam.store import DiskLeases, Leases
from cni.links import KernelLinks, Links
from cni.network import Network
from cni.overlay.kernel import KernelFabric
from cni.overlay.watch import Watch
from cni.plugin import Plugin
from cni.policy import ruleset
from cni.policy.attached import Attachments
from cni.policy.controller import Policies
from cni.policy.gate import PolicyGate
from cni.policy.kernel import KernelRules
from cni.ports import publisher
from cni.ports import ruleset as port_rules
from cni.ports.publisher import NftPorts
from cni.server import Server
from cni.tables import Kept, TableWatch, Visited
from kube import scheme
from kube.runtime import process
from kube.runtime.component import Deps
from kube.types import Node

log = logging.getLogger(__name__)

NFT = "/usr/sbin/nft"
NFT_TIMEOUT_SECONDS = 20.0
NETWORK_NAME = "nodeagent"


class Daemon:
    """`kube.runtime.component.Component` of this package."""

    name = "cni"

    def __init__(self, config: CNIConfiguration, deps: Deps) -> None:
        self._config = config
        self._deps = deps
        self._policies: Policies | None = None
        if config.network_policy:
            self._policies = Policies(
                KernelRules(), informers=deps.informers, node_name=deps.node_name, clock=deps.clock
            )
        folder = Path(config.socket).parent / "attached"
        self._gate = PolicyGate(self._policies, Attachments(folder)) if self._policies else None
        self._server = Server(Path(config.socket), Plugin(gate=self._gate))
        self._network = Network(
            config,
            node_name=deps.node_name,
            node_ip=deps.node_ip,
            nodes=deps.informers.get(scheme.NODES, Node),
            fabric=KernelFabric(),
            apply_rules=apply_rules,
            annotate=self._annotate,
            accept_forwarding=forward.accept,
            mend_bridge=self._mend_bridge,
            report=self._report,
        )
        self._tables = self._table_watch()
        self._watch = Watch(interest=self._network.interest, changed=self._network.recheck)

    def _table_watch(self) -> TableWatch:
        kept = {
            masquerade.TABLE: Kept(families=self._network.table_families, restore=self._network.rules_gone),
            port_rules.TABLE: Kept(families=self._published_families, restore=self._publish_again),
        }
        if self._policies:
            kept[ruleset.TABLE] = Kept(families=self._policies.table_families, restore=self._policies.rules_gone)
        return TableWatch(
            kept, [Visited(table=t, chains=forward.CHAINS, look=self._look_at_forwarding) for t in forward.TABLES]
        )

    async def run(self) -> None:
        """Installs the plugin, frees what a crash left, then serves and follows the nodes."""
        await asyncio.to_thread(install.plugin, self._config)
        await asyncio.to_thread(self._free_leaked)
        async with asyncio.TaskGroup() as group:
            if self._policies and self._gate:
                self._gate.open(sandboxes=self._sandboxes())
                group.create_task(self._policies.run())
            else:
                await apply_rules(ruleset.removal())
            group.create_task(self._server.run())
            group.create_task(self._watch.run())
            group.create_task(self._tables.run())
            group.create_task(self._network.run())

    def ready(self) -> str | None:
        """None once pods can be attached and other nodes reached."""
        return self._network.ready() or (self._policies.ready() if self._policies else None)

    async def reload(self) -> None:
        """Nothing to take over: ranges and peers come from the API."""

    async def close(self) -> None:
        """Pods, routes and rules stay: a restart interrupts nothing."""
        self._server.close()

    def _free_leaked(self) -> None:
        leases = DiskLeases(Path(self._config.data_dir) / NETWORK_NAME)
        for container_id in free_leaked(leases, KernelLinks(), bridge=self._config.bridge):
            log.info("freed the addresses of sandbox %s: its interface is gone", container_id)
        held = {(lease.container_id, lease.ifname) for lease in leases.held()}
        self._ports().keep_only(held)
        Aliases(self._config.data_dir, NETWORK_NAME).keep_only(held)

    def _sandboxes(self) -> frozenset[str]:
        leases = DiskLeases(Path(self._config.data_dir) / NETWORK_NAME)
        return frozenset(lease.container_id for lease in leases.held())

    async def _mend_bridge(self) -> None:
        try:
            count = await asyncio.to_thread(mend_bridge, self._config, KernelLinks())
        except (errors.CniError, OSError, ValueError, LookupError) as error:
            log.warning("bridge %s cannot be looked after: %s", self._config.bridge, error)
            return
        if count:
            log.warning("somebody took %d pods from bridge %s: they are its ports again", count, self._config.bridge)

    def _ports(self) -> NftPorts:
        return NftPorts(publisher.folder(self._config.data_dir, NETWORK_NAME))

    def _published_families(self) -> frozenset[str]:
        return port_rules.families(self._ports().published())

    async def _publish_again(self) -> None:
        await asyncio.to_thread(self._ports().restore)

    async def _look_at_forwarding(self) -> None:
        self._network.recheck_own()

    async def _annotate(self, notes: Mapping[str, str | None]) -> None:
        await self._deps.client.patch(scheme.NODES, self._deps.node_name, {"metadata": {"annotations": notes}})

    async def _report(self) -> None:
        now = self._deps.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
        condition = {
            "type": "NetworkUnavailable",
            "status": "False",
            "reason": "RouteCreated",
            "message": "nodeagent programmed the routes to the other nodes",
            "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        }
        await self._deps.client.patch(
            scheme.NODES,
            self._deps.node_name,
            {"status": {"conditions": [condition]}},
            kind="strategic",
            subresource="status",
        )


def free_leaked(leases: Leases, links: Links, *, bridge: str) -> list[str]:
    """Releases leases whose host interface is gone (a crash between ADD and its answer, a reboot); their sandboxes."""
    present = set(links.host_names(bridge))
    gone = [lease for lease in leases.held() if attachment.host_name(lease.container_id, lease.ifname) not in present]
    for lease in gone:
        leases.release(container_id=lease.container_id, ifname=lease.ifname)
    return sorted({lease.container_id for lease in gone})


def mend_bridge(config: CNIConfiguration, links: KernelLinks) -> int:
    """Brings back what somebody took: the bridge, its addresses, its ports of pods that hold leases; how many ports."""
    leases = DiskLeases(Path(config.data_dir) / NETWORK_NAME).held()
    if not leases or not config.conflist.exists():
        return 0
    document = json.loads(config.conflist.read_text())
    conf = spec.parse_config({"name": document["name"], **document["plugins"][0]}, version=spec.LATEST)
    first = [entries[0] for entries in ranges.parse_sets(conf.ranges)]
    gateways = [ip_interface(f"{entry.gateway}/{entry.subnet.prefixlen}") for entry in first]
    names = {attachment.host_name(lease.container_id, lease.ifname) for lease in leases}
    return links.rejoin(attachment.bridge(conf, gateways), names)


async def apply_rules(text: str) -> None:
    """One nft transaction. Raises kube.runtime.process.ProcessError with nft's words."""
    await process.run([NFT, "-f", "-"], stdin=text.encode(), timeout=NFT_TIMEOUT_SECONDS)


async def remove_rules() -> None:
    """Removes our tables, for uninstall."""
    await forward.remove()
    await apply_rules(masquerade.removal() + ruleset.removal() + port_rules.removal())
