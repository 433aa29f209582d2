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


def build(config: Mapping[str, Sequence[Mapping[str, Any]]], deps: Deps) -> Component:
    """The CNI daemon. `config`: documents by kind, of which CNIConfiguration is read."""
    from cni import config as configuration
    from cni.daemon import Daemon
    from kube.runtime import config as documents

    return Daemon(documents.one(config, configuration.KIND, configuration.CNIConfiguration), deps)


def _run(arguments: argparse.Namespace) -> int:
    from cni import oneshot

    return oneshot.plugin() if arguments.action == "plugin" else oneshot.cleanup()
