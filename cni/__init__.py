"""The pod network of a node: the CNI plugin, its daemon, pod addresses, and the routes to other nodes.

Owns pod interfaces. Must not know CRI or Services, nor import a sibling package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from kube.runtime.component import Component, Deps


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds this package's commands; nothing heavy is imported before one of them runs."""
    parser = subparsers.add_parser("cni", help="the CNI plugin: one call, or removal of what it made on this host")
    parser.add_argument(
        "action", choices=("plugin", "cleanup"), help="`plugin` answers one CNI call from the environment"
    )
    parser.set_defaults(run=_run)
    policy = subparsers.add_parser("policy", help="network policies").add_subparsers(required=True, metavar="ACTION")
    parser = policy.add_parser("explain", help="which policy allows or denies a connection; exit code 0 or 1")
    parser.add_argument("source", metavar="A", help="who connects: namespace/pod, pod, or address")
    parser.add_argument("to", metavar="B", help="to whom: the same, or svc/namespace/name")
    parser.add_argument("port", metavar="PORT", help="80, 53/udp, or the name of one of B's ports")
    parser.add_argument("--kubeconfig", default="", help="default: $KUBECONFIG, else ~/.kube/config")
    parser.set_defaults(run=_explain)


def build(config: Mapping[str, Sequence[Mapping[str, Any]]], deps: Deps) -> Component:
    """The CNI daemon. `config`: documents by kind, of which CNIConfiguration is read."""
    from cni import config as configuration
    from cni.daemon import Daemon
    from kube.runtime import config as documents

    return Daemon(documents.one(config, configuration.KIND, configuration.CNIConfiguration), deps)


def _run(arguments: argparse.Namespace) -> int:
    from cni import oneshot

    return oneshot.plugin() if arguments.action == "plugin" else oneshot.cleanup()


def _explain(arguments: argparse.Namespace) -> int:
    from cni.policy import command

    return command.run(arguments)
