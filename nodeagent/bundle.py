"""The one module that composes the packages: commands under one name, and a node's components in one process.

Everything is imported when it is needed: `--help` pays for nothing, and a node without proxy does not load it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import importlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nodeagent import errors

if TYPE_CHECKING:
    from kube.client.rest import Client
    from kube.hop import Hop
    from kube.runtime.component import Component, Deps
    from nodeagent.config import Settings

log = logging.getLogger(__name__)

VERSION: Final = "0.1.0"
PACKAGES: Final = ("nodeagent", "cni", "proxy", "controlplane")
COMPONENTS: Final = {"kubelet": "nodeagent", "cni": "cni", "proxy": "proxy"}
ANYWHERE: Final = "192.0.2.1"  # never used as an address: packets to it take the default route
Documents = Mapping[str, list[dict[str, Any]]]


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the commands of every package, and the one that needs them all."""
    for package in PACKAGES:
        importlib.import_module(package).register(subparsers)
    trace = subparsers.add_parser(
        "trace",
        help="follow one connection from a pod or node to the socket that listens, hop by hop",
        description="nodeagent trace POD|NODE -> POD|SERVICE|NAME[:PORT]; exit code 0 reached, 1 it stops, 2 wrong use",
    )
    trace.add_argument("words", nargs="*", metavar="A -> B:PORT", help="quote the arrow, or leave it out")
    trace.add_argument("-n", "--namespace", default="default", help="of pods and Services (%(default)s)")
    trace.add_argument("--protocol", choices=("tcp", "udp"), default="tcp")
    trace.add_argument("--kubeconfig", default="", help="default: the lab's, $KUBECONFIG, this node's own")
    trace.add_argument("--directory", type=Path, default=Path(".lab"), help="the lab to look into, if one is up (.lab)")
    trace.add_argument("--output", choices=("text", "json"), default="text")
    trace.add_argument("--leg", choices=("depart", "arrive"), help=argparse.SUPPRESS)
    trace.set_defaults(run=_trace)


def _trace(arguments: argparse.Namespace) -> int:
    from nodeagent.trace import command

    return command.run(arguments, TraceParts())


class TraceParts:
    """The hops of every package (`nodeagent.trace.parts.Parts`), each imported when it is asked for."""

    def inside(self, pid: int) -> contextlib.AbstractContextManager[None]:
        """The calling thread in the network namespace of a process."""
        netns = importlib.import_module("cni.netns")
        found: contextlib.AbstractContextManager[None] = netns.entered(netns.open_path(f"/proc/{pid}/ns/net"))
        return found

    def name(self, asked: str, *, server: str, search: Sequence[str], version: int) -> list[Hop]:
        """What a name resolves to."""
        trace = importlib.import_module("proxy.trace")
        found: list[Hop] = asyncio.run(trace.name(asked, server=server, search=search, version=version))
        return found

    def service(self, address: str, port: int, protocol: str) -> Hop:
        """Where the service rules lead."""
        found: Hop = importlib.import_module("proxy.trace").led(address, port, protocol)
        return found

    def tracked(self, source: tuple[str, int], to: tuple[str, int], protocol: str) -> Hop:
        """What connection tracking remembers."""
        found: Hop = importlib.import_module("proxy.trace").remembered(source, to, protocol)
        return found

    def out_of_pod(self, pid: int, destination: str) -> list[Hop]:
        """From a pod into its machine."""
        found: list[Hop] = importlib.import_module("cni.trace").out_of_pod(pid, destination)
        return found

    def onward(self, destination: str) -> list[Hop]:
        """From this machine towards an address."""
        found: list[Hop] = importlib.import_module("cni.trace").onward(destination)
        return found

    def into_pod(self, address: str) -> list[Hop]:
        """On the machine of an address, to the pod's veth."""
        found: list[Hop] = importlib.import_module("cni.trace").into_pod(address)
        return found

    def policy(
        self, objects: Mapping[str, Sequence[Mapping[str, Any]]], *, source: str, to: str, port: int, protocol: str
    ) -> Hop:
        """What the network policies say."""
        trace = importlib.import_module("cni.trace")
        found: Hop = trace.policy(objects, source=source, to=to, port=port, protocol=protocol)
        return found


def run_agent(arguments: argparse.Namespace) -> int:
    """The `agent` command: runs until SIGTERM or SIGINT."""
    from kube.runtime import log as logs
    from nodeagent import config

    try:
        logs.setup(arguments.log_level, json=arguments.log_json)
    except ValueError as e:
        raise errors.ConfigError(f"--log-level: {e}") from e
    found = documents_of(arguments)
    settings = config.build(found, source=arguments.config)
    preflight(settings)
    only = ("kubelet",) if settings.standalone else arguments.only or tuple(COMPONENTS)
    asyncio.run(agent(settings, found, only=only))
    return 0


def documents_of(arguments: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """The configuration; `--manifests` adds to it, and can do without any."""
    from nodeagent import config

    folder = Path(arguments.config)
    if not arguments.manifests:
        return config.load(folder)
    found = config.load(folder) if folder.exists() else {}
    found.setdefault(config.AGENT_KIND, []).append({"kind": config.AGENT_KIND, "standalone": True})
    path = str(Path(arguments.manifests).absolute())
    found.setdefault(config.KUBELET_KIND, []).append({"kind": config.KUBELET_KIND, "staticPodPath": path})
    return found


def preflight(settings: Settings) -> None:
    """What can be known to fail before anything is started."""
    if os.geteuid() != 0:
        raise errors.PreflightError("the agent must run as root: it makes cgroups, mounts and network interfaces")
    kubeconfig = Path(settings.agent.kubeconfig)
    if not settings.standalone and not kubeconfig.is_file():
        raise errors.PreflightError(f"AgentConfiguration.kubeconfig: {kubeconfig} does not exist")
    path = Path(settings.runtime_endpoint.removeprefix("unix://"))
    if not path.exists():
        log.warning("%s does not exist: waiting for containerd (containerRuntimeEndpoint names its socket)", path)


async def agent(settings: Settings, documents: Documents, *, only: Sequence[str]) -> None:
    """The components of a node, sharing client, informers and events."""
    from kube.client.informer import Informers
    from kube.runtime import clock, supervise
    from nodeagent.node import servers

    system = clock.SystemClock()
    client = connect(settings)
    informers = Informers(client, clock=system)
    deps = dependencies(settings, client, informers, system)
    factories: dict[str, Callable[[], Component]] = {
        name: functools.partial(importlib.import_module(COMPONENTS[name]).build, documents, deps) for name in only
    }
    try:
        async with asyncio.TaskGroup() as group:
            shared = []
            if not settings.standalone:
                servers.follow(informers, client.transport, kubeconfig=Path(settings.agent.kubeconfig), group=group)
                shared += [
                    group.create_task(informers.run(), name="informers"),
                    group.create_task(deps.events.run(), name="events"),
                ]
            await supervise.supervise(factories, clock=system)
            for task in shared:
                task.cancel()
    finally:
        await client.close()


def connect(settings: Settings) -> Client:
    """The client of the kubeconfig's identity."""
    from kube import kubeconfig
    from kube.client.failover import FailoverTransport
    from kube.client.rest import Client
    from nodeagent.node import object as node

    agent_name = f"kubelet/{node.VERSION} (linux)"

    if settings.standalone:
        from nodeagent.sources import nowhere

        return Client(nowhere.NoApiServer(), user_agent=agent_name)
    try:
        rest = kubeconfig.load(Path(settings.agent.kubeconfig))
    except kubeconfig.KubeconfigError as e:
        raise errors.ConfigError(str(e)) from e
    return Client(FailoverTransport(rest), user_agent=agent_name)


def dependencies(settings: Settings, client: Client, informers: Any, system: Any) -> Deps:
    """What every component is handed."""
    from kube.client.events import EventRecorder
    from kube.runtime import metrics
    from kube.runtime.component import Deps

    return Deps(
        client=client,
        informers=informers,
        events=EventRecorder(client, component="kubelet", host=settings.node_name, clock=system),
        clock=system,
        registry=metrics.registry(process=True),
        node_name=settings.node_name,
        node_ip=settings.agent.node_ip or own_address(settings, getattr(client.transport, "server", "")),
    )


def own_address(settings: Settings, server: str) -> str:
    """This machine's address as the API server sees it; without one, that of the default route, or loopback."""
    from kube.runtime import route

    try:
        return route.source_address(ANYWHERE, 443) if settings.standalone else route.towards(server)
    except OSError as e:
        if settings.standalone:
            return "127.0.0.1"
        raise errors.ConfigError(
            f"AgentConfiguration.nodeIP: not set, and no route to the API server {server}: {e}"
        ) from e
