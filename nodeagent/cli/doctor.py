"""`nodeagent doctor` and `nodeagent support-bundle`: their flags."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nodeagent.cli import Subparsers


def register(subparsers: "Subparsers") -> None:
    """Add both commands."""
    parser = subparsers.add_parser("doctor", help="what is wrong with this host, why it matters, and what mends it")
    parser.add_argument("--server", default="", metavar="URL", help="the API server it is to reach (default: its own)")
    parser.add_argument("--fix", action="store_true", help="run the fixes that are safe")
    parser.add_argument("--lab", action="store_true", help="only what can meet a lab on this host; silent when fine")
    parser.add_argument("--output", choices=("text", "json"), default="text")
    parser.set_defaults(run=_doctor)
    bundle = subparsers.add_parser("support-bundle", help="this host's state in one file, without secrets")
    bundle.add_argument("--file", type=Path, default=None, help="default: nodeagent-HOST-TIME.tar.gz, here")
    bundle.set_defaults(run=_bundle)


def _doctor(options: argparse.Namespace) -> int:
    from nodeagent.doctor import command

    return command.run(options)


def _bundle(options: argparse.Namespace) -> int:
    from nodeagent.doctor import bundle

    return bundle.run(options)
