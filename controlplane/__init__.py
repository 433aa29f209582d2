"""The control plane: API server, store, scheduler and controllers, enough for the node to stand on its own.

In: configuration. Out: a server process. Must not know any node matter. Imports stay lazy: `--help` costs nothing.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_CONFIG = "/etc/nodeagent"


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands of this package to the `nodeagent` command."""
    server = subparsers.add_parser("server", help="run the control plane of a cluster on this machine")
    arguments(server)
    server.set_defaults(run=run_server)


def arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the server, shared with `python -m controlplane`."""
    parser.add_argument(
        "--config",
        default=DEFAULT_CONFIG,
        metavar="PATH",
        help=f"file or folder with ServerConfiguration (default {DEFAULT_CONFIG})",
    )


def run_server(options: argparse.Namespace) -> int:
    """Run the server until it is stopped; the exit code."""
    start: Callable[[str], int]
    from controlplane.__main__ import serve as start

    return start(options.config)
