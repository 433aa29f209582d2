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
    parser = subparsers.add_parser("proxy", help="service rules of this host: remove them")
    parser.add_argument("action", choices=("cleanup",), help="remove all rules that nodeagent's proxy made")
    parser.set_defaults(run=_run)
    import proxy.dns

    proxy.dns.register(subparsers)


def build(config: Mapping[str, Sequence[Mapping[str, Any]]], deps: Deps) -> Component:
    """The service proxy. `config`: documents by kind, of which KubeProxyConfiguration is read."""
    from kube.runtime import config as documents
    from proxy import config as configuration
    from proxy.daemon import Daemon

    return Daemon(documents.one(config, configuration.KIND, configuration.KubeProxyConfiguration), deps)


def _run(arguments: argparse.Namespace) -> int:
    import asyncio

    from proxy.backends.nftables import NftablesBackend

    asyncio.run(NftablesBackend().cleanup())
    print("removed the tables nodeagent-proxy")
    return 0
