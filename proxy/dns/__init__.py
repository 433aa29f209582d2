"""Cluster DNS: names of Services and pods, answered from an index; other names forwarded and cached.

A process of its own beside the agent. Must not know rules, CRI or pod interfaces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the `dns` command."""
    parser = subparsers.add_parser("dns", help="run the cluster DNS server of this node")
    parser.add_argument("--config", default="/etc/nodeagent", help="file or folder with a DNSConfiguration")
    parser.add_argument(
        "--print", choices=("hosts", "zone", "etcd"), help="print the records for another server, and end"
    )
    parser.add_argument("--log-level", default="info", help="debug, info, warning or error")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from proxy.dns import process

    return process.main(arguments.config, log_level=arguments.log_level, show=arguments.print)
