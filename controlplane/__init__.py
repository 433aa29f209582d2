"""The control plane: API server, store, scheduler and controllers, enough for the node to stand on its own.

In: configuration. Out: a server process. Must not know any node matter. Imports stay lazy: `--help` costs nothing.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_CONFIG = "/etc/nodeagent"
PARTS = ("apiserver", "scheduler", "controllers")


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands of this package to the `nodeagent` command."""
    server = subparsers.add_parser("server", help="run the control plane of a cluster on this machine")
    arguments(server)
    server.set_defaults(run=run_server)
    token = subparsers.add_parser("token", help="tokens by which machines join the cluster")
    token_arguments(token)
    token.set_defaults(run=run_token)


def arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the server, shared with `python -m controlplane`."""
    parser.add_argument(
        "--config",
        default=DEFAULT_CONFIG,
        metavar="PATH",
        help=f"file or folder with ServerConfiguration (default {DEFAULT_CONFIG})",
    )
    parser.add_argument(
        "--only", action="append", choices=PARTS, help="run only this part, others do the rest; repeatable"
    )
    parser.add_argument(
        "--kubeconfig", default="", metavar="FILE", help="without `apiserver`: of the API server to work at"
    )


def token_arguments(parser: argparse.ArgumentParser) -> None:
    """`token create|list|delete` and their flags."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    create = verbs.add_parser("create", help="make a token and print what a new machine is to be given")
    create.add_argument("--ttl", default="24h", help="how long it is good: 30m, 24h, 168h; 0 for ever (%(default)s)")
    create.add_argument("--token", default="", help="make this one, not a random one; there already: nothing to do")
    create.add_argument("--description", default="", help="what it is for; shown by list")
    create.add_argument("--print-command", action="store_true", help="print the whole command of the new machine")
    listing = verbs.add_parser("list", help="the tokens there are, without their secret halves")
    delete = verbs.add_parser("delete", help="make tokens worthless at once")
    delete.add_argument("tokens", nargs="+", metavar="TOKEN", help="whole, or its first six characters")
    for each in (create, listing, delete):
        each.add_argument(
            "--kubeconfig", default="", help="an administrator's (default: $KUBECONFIG, else the server's own)"
        )
        each.add_argument("--output", choices=("text", "json"), default="text")


def run_token(options: argparse.Namespace) -> int:
    """Run `token`; the exit code."""
    from controlplane import tokencommand

    return tokencommand.run(options)


def run_server(options: argparse.Namespace) -> int:
    """Run the server until it is stopped; the exit code."""
    start: Callable[[argparse.Namespace], int]
    from controlplane.__main__ import serve as start

    return start(options)
