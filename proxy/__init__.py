"""Service networking on a node: Services by address (rules in the kernel) and by name (`proxy.dns`).

Must not know CRI or pod interfaces, nor import a sibling package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from kube.runtime.component import Component, Deps


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds this package's commands; nothing heavy is imported before one of them runs."""
    parser = subparsers.add_parser("proxy", help="service rules of this host: print them, remove them")
    parser.add_argument("action", nargs="?", choices=("cleanup",), help="remove all rules that nodeagent's proxy made")
    parser.add_argument("--cleanup", action="store_true", help="the same, as kube-proxy spells it")
    parser.add_argument("--dry-run", action="store_true", help="print the rules and how the kernel's differ from them")
    parser.add_argument("--config", default="/etc/nodeagent", help="file or folder of YAML documents (%(default)s)")
    parser.set_defaults(run=_proxy)
    shown = subparsers.add_parser("service", help="a Service as this host's kernel has it, with counters")
    shown.add_argument("name")
    shown.add_argument("-n", "--namespace", default="default")
    shown.add_argument("--config", default="/etc/nodeagent", help="file or folder of YAML documents (%(default)s)")
    shown.set_defaults(run=_service)
    import proxy.dns

    proxy.dns.register(subparsers)


def build(config: Mapping[str, Sequence[Mapping[str, Any]]], deps: Deps) -> Component:
    """The service proxy. `config`: documents by kind, of which KubeProxyConfiguration is read."""
    from proxy import config as configuration
    from proxy.backends import detect
    from proxy.balancer import config as balancing
    from proxy.daemon import Daemon

    found = configuration.read(config)
    choice = detect.choose(found.mode, detect.probe(), tcp_liberal=found.conntrack.tcp_be_liberal)
    backend = detect.build(choice, cluster_cidrs=found.cluster_cidrs)
    return Daemon(found, deps, choice=choice, backend=backend, balancing=balancing.read(config))


def _proxy(arguments: argparse.Namespace) -> int:
    from proxy import cli

    return cli.proxy(arguments)


def _service(arguments: argparse.Namespace) -> int:
    from proxy import cli

    return cli.service(arguments)
