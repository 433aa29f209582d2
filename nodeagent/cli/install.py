"""`nodeagent install` and `uninstall`: their flags, and the first stage, which builds what the second runs on.

The first stage runs from a clone with the host's own Python and nothing else; so nothing else is imported here.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nodeagent.cli import Subparsers


def register(subparsers: "Subparsers") -> None:
    """Add both commands."""
    parser = subparsers.add_parser("install", help="make this host a server or a node, under systemd")
    roles = parser.add_subparsers(dest="role", required=True, metavar="ROLE")
    server = roles.add_parser("server", help="control plane and node")
    _server_flags(server)
    agent = roles.add_parser("agent", help="node of a cluster that is there")
    agent.add_argument("--server", action="append", required=True, metavar="URL", help="API server; several: repeat")
    agent.add_argument("--token", default="", help="what `nodeagent token create` printed on the server")
    for each in (server, agent):
        _common_flags(each)
        each.set_defaults(run=_install)
    uninstall = subparsers.add_parser("uninstall", help="remove nodeagent and its pods from this host")
    uninstall.set_defaults(run=_uninstall)
    smoke = subparsers.add_parser("smoke", help="prove a cluster: pods on all nodes, a Service, its name")
    smoke.add_argument("--kubeconfig", default="/etc/nodeagent/admin.kubeconfig")
    smoke.add_argument(
        "--image", default="docker.io/library/busybox:1.36", help="with sh, httpd and wget (%(default)s)"
    )
    smoke.add_argument("--nodes", type=int, default=1, help="wait for at least this many (%(default)s)")
    smoke.add_argument("--timeout", type=float, default=180.0, help="seconds (%(default)s)")
    smoke.set_defaults(run=_smoke)


def _server_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--advertise-address", default="", metavar="IP", help="where other machines reach this one")
    parser.add_argument("--service-cidr", default="10.96.0.0/16", help="addresses of Services (%(default)s)")
    parser.add_argument("--cluster-cidr", default="10.244.0.0/16", help="addresses of pods (%(default)s)")
    parser.add_argument("--cluster-dns", default="10.96.0.10", help="in the Services' range (%(default)s)")
    parser.add_argument("--cluster-domain", default="cluster.local", help="(%(default)s)")
    parser.add_argument("--extra-san", action="append", default=[], help="another name of the API server; repeatable")


def _common_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--node-name", default="", help="default: this host's name, in lower case")
    parser.add_argument("--node-ip", default="", help="default: the address from which the server is reached")
    parser.add_argument("--wheels", type=Path, metavar="DIR", help="install from these files, without the network")
    parser.add_argument("--no-packages", action="store_true", help="only check which Debian packages are missing")
    parser.add_argument("--sandbox-image", default="", help="default: containerd's own")
    parser.add_argument("--cgroup-driver", choices=("systemd", "cgroupfs"), default="", help="default: the host's")
    parser.add_argument("--keep", action="store_true", help="after a failure leave things as they are, to look at them")
    parser.add_argument("--ignore-doctor", action="store_true", help="install although doctor finds failures")
    parser.add_argument("--dry-run", action="store_true", help="print every file and service, change nothing")


def _install(options: argparse.Namespace) -> int:  # noqa: RET503 - execv does not return
    from nodeagent.install import release
    from nodeagent.install.errors import InstallError
    from nodeagent.install.host import RealHost

    root, wheels = release.clone(), options.wheels
    if options.dry_run or (release.running() is not None and wheels is None):
        from nodeagent.install import command

        return command.run(options)
    if os.geteuid() != 0:
        raise InstallError("installing needs root: run the same with sudo")
    host = RealHost()
    release.packages(host, install=not options.no_packages)
    target = release.build(host, root=root, wheels=wheels)
    python = str(target / "bin" / "python")
    arguments = _without_wheels(sys.argv[1:])
    os.chdir("/")
    os.execv(python, [python, "-m", "nodeagent", *arguments])


def _without_wheels(arguments: list[str]) -> list[str]:
    """The same command for the second stage, which runs on the release that was just built."""
    kept, skip = [], False
    for each in arguments:
        if skip or each.startswith("--wheels"):
            skip = not skip and each == "--wheels"
            continue
        kept.append(each)
    return kept


def _uninstall(options: argparse.Namespace) -> int:
    from nodeagent.install import layout, release, uninstall

    python = layout.CURRENT / "bin" / "python"
    if release.running() is None and python.exists():
        # Ending pods takes what the release has and a bare host has not.
        os.chdir("/")
        os.execv(python, [str(python), "-m", "nodeagent", "uninstall"])
    return uninstall.run(options)


def _smoke(options: argparse.Namespace) -> int:
    from nodeagent.install import smoke

    return smoke.run(options)
