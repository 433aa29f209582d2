"""The kubelet: pods on this node through CRI, and the `nodeagent` command.

It must not know netlink, nftables or the store; `bundle` alone composes it with the sibling packages.
"""

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kube.runtime.component import Component, Deps


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds this package's commands; nothing heavy is imported before one of them runs."""
    from nodeagent import cli

    parser = subparsers.add_parser("agent", help="run this node: kubelet, CNI daemon and service proxy")
    parser.add_argument("--config", default="/etc/nodeagent", help="file or folder of YAML documents (%(default)s)")
    parser.add_argument(
        "--manifests", metavar="DIR", help="run the pods of this folder, without any API server (only the kubelet)"
    )
    parser.add_argument("--log-level", default="info", help="debug, info, warning or error")
    parser.add_argument("--log-json", action="store_true", help="log one JSON object a line")
    parser.add_argument(
        "--only", action="append", choices=("kubelet", "cni", "proxy"), help="run only this component; repeatable"
    )
    parser.add_argument(
        "--dry-run", metavar="MANIFEST", help="print what would be done for the pods of this file, and do nothing"
    )
    parser.add_argument("--observed", metavar="FILE", help="with --dry-run: what the runtime has of them (nothing)")
    parser.set_defaults(run=_agent)
    cli.register(subparsers)


def build(config: Mapping[str, list[dict[str, Any]]], deps: "Deps") -> "Component":
    """The kubelet. `config`: documents by kind."""
    from nodeagent import agent

    return agent.build(config, deps)


def _agent(arguments: argparse.Namespace) -> int:
    if arguments.dry_run:
        return _dry_run(arguments)
    from nodeagent import bundle

    return bundle.run_agent(arguments)


def _dry_run(arguments: argparse.Namespace) -> int:
    import time
    from pathlib import Path

    from nodeagent.cli import podplan

    seen = Path(arguments.observed) if arguments.observed else None
    print(podplan.show(Path(arguments.dry_run), seen, now=time.time()))
    return 0
