"""The proxy's commands: remove the rules, print what would be written, show one Service as the kernel has it.

They read the API with the agent's own identity, and the kernel of the network namespace they run in.
"""

import argparse
import asyncio
import sys
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from kube import kubeconfig, scheme, status, types
from kube.client.errors import Unreachable
from kube.client.http import HttpTransport
from kube.client.rest import Client
from kube.runtime import config as documents
from kube.types import EndpointSlice, Node, Service, ServiceCIDR
from proxy import config as configuration
from proxy import host, inspection
from proxy.backends import detect
from proxy.backends.held import Held
from proxy.backends.nftables import NftablesBackend
from proxy.backends.protocol import BackendError
from proxy.rules.plan import RuleSet
from proxy.services.model import ServiceKey

Documents = Mapping[str, Sequence[Mapping[str, Any]]]


class CommandError(Exception):
    """A command cannot do its work; the text says why and what to do."""


def proxy(arguments: argparse.Namespace) -> int:
    """`proxy cleanup` and `proxy --dry-run`."""
    if arguments.dry_run:
        return _guarded(_dry_run(arguments))
    if arguments.action == "cleanup" or arguments.cleanup:
        return _guarded(_cleanup())
    sys.stderr.write("proxy: say cleanup or --dry-run; `nodeagent agent --only proxy` runs it\n")
    return 2


def service(arguments: argparse.Namespace) -> int:
    """`service NAME`."""
    return _guarded(_service(arguments))


def _guarded(work: Coroutine[Any, Any, int]) -> int:
    known = (
        CommandError,
        BackendError,
        documents.ConfigError,
        kubeconfig.KubeconfigError,
        status.ApiError,
        Unreachable,
    )
    try:
        return asyncio.run(work)
    except known as error:
        sys.stderr.write(f"proxy: {error}\n")
        return 1


async def _cleanup() -> int:
    await NftablesBackend().cleanup()
    await detect.remove_iptables()
    print("removed the tables nodeagent-proxy, and kube-proxy's chains from iptables")
    return 0


async def _dry_run(arguments: argparse.Namespace) -> int:
    rules, held = await _both_sides(arguments)
    for line in inspection.lines(rules):
        print(line)
    different = held.difference(rules)
    print(f"\nDifference to the kernel: {len(different)} lines" if different else "\nThe kernel holds exactly this.")
    for line in different:
        print(line)
    return 0


async def _service(arguments: argparse.Namespace) -> int:
    rules, held = await _both_sides(arguments)
    key = ServiceKey(arguments.namespace, arguments.name)
    if key not in rules.services:
        raise CommandError(f"Service {key.namespace}/{key.name} is not there, or is not this proxy's business")
    for line in inspection.counted(key, rules, held.ways):
        print(line)
    return 0


async def _both_sides(arguments: argparse.Namespace) -> tuple[RuleSet, Held]:
    """What the API says our node shall have, and what its kernel holds."""
    found = documents.load(Path(arguments.config))
    config = configuration.read(found)
    agent = documents.merged(found.get("AgentConfiguration", ()))
    path = config.client_connection.kubeconfig or agent.get("kubeconfig")
    name = config.hostname_override or agent.get("nodeName")
    if not path or not name:
        raise CommandError(f"{arguments.config}: AgentConfiguration names no kubeconfig or no nodeName")
    client = Client(HttpTransport(kubeconfig.load(Path(path))), user_agent="nodeagent-proxy")
    try:
        services = await _all(client, scheme.SERVICES, Service)
        slices = await _all(client, scheme.ENDPOINT_SLICES, EndpointSlice)
        ranges = host.ranges(await _ranges(client))
        node = await client.get(scheme.NODES, name, type=Node)
    finally:
        await client.close()
    choice = detect.choose(config.mode, detect.probe(), tcp_liberal=config.conntrack.tcp_be_liberal)
    held = await detect.build(choice, cluster_cidrs=config.cluster_cidrs).held()
    blocks = config.node_port_addresses or host.default_blocks(choice.mode)
    ours = host.this_node(
        name,
        node,
        blocks=blocks,
        addresses=host.machine_addresses(),
        ip=agent.get("nodeIP", ""),
        loopback=choice.mode == detect.IPTABLES and config.iptables.localhost_node_ports,
    )
    rules = inspection.rule_set(services, slices, node=ours, ways=held.ways)
    rules.ranges = ranges
    return rules, held


async def _ranges(client: Client) -> list[ServiceCIDR]:
    """None where a server has none, or keeps them to itself."""
    try:
        return await _all(client, scheme.SERVICE_CIDRS, ServiceCIDR)
    except status.ApiError:
        return []


async def _all(client: Client, resource: scheme.Resource, type: type[Any]) -> list[Any]:
    found = await client.list(resource)
    return [types.decode(msgspec.json.encode(item), type) for item in found.get("items") or ()]
