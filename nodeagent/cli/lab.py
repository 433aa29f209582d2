"""`nodeagent lab`: a cluster on this machine, up, down, looked at and entered. `machines` is what is done to its parts.

Owns the words and the order of what is shown. The lab itself is `nodeagent.lab`, imported only when a command runs.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from nodeagent.cli import machines

if TYPE_CHECKING:
    from types import FrameType

    from nodeagent.cli import Subparsers, terminal
    from nodeagent.lab import cluster, phases

DIRECTORY = Path(".lab")
MORE = """each lab lives in a directory of its own (--directory), and labs stand side by side:
  nodeagent lab up --nodes 3 --detach
  nodeagent lab kubectl get nodes
  nodeagent lab partition node-1 node-2
  nodeagent lab down"""


def register(subparsers: "Subparsers") -> None:
    """Add the `lab` command and its verbs."""
    parser = subparsers.add_parser(
        "lab",
        help="a cluster on this machine, in namespaces",
        description="A cluster on this machine: each node in namespaces of its own, with its own containerd.",
        epilog=MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    up = _verb(verbs, "up", "start a cluster, prove it, and keep it until Ctrl-C", _up)
    up.add_argument("--nodes", type=int, default=1, help="how many nodes (1 to 20; default 1)")
    up.add_argument("--port", type=int, help="the API's port on 127.0.0.1 (default 6443, or any free one; 0: any)")
    up.add_argument("--detach", action="store_true", help="return and leave the cluster running")
    up.add_argument("--no-proof", action="store_true", help="do not run the demonstration")
    up.add_argument("--no-outside", action="store_true", help="no way out of the lab, even if there is one")
    up.add_argument("--underlay", default="one-link", help="one-link (default), two-links or routed")
    _verb(verbs, "down", "remove the cluster and everything it made", _down)
    _verb(verbs, "status", "the machines and their processes", _status)
    enter = _verb(verbs, "exec", "run a command in a machine", _exec)
    enter.add_argument("machine", help="server, node-1, ...")
    enter.add_argument("command", nargs=argparse.REMAINDER, help="-- COMMAND...")
    load = _verb(verbs, "load-image", "put a docker or OCI archive on the nodes", _load_image)
    load.add_argument("file", type=Path, help="what `docker save` or `skopeo copy ... oci-archive:` wrote")
    load.add_argument("--node", help="only this node (default: all)")
    machines.register(verbs, _verb)


def _verb(verbs: "Subparsers", name: str, text: str, run: object) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=text, description=text)
    parser.add_argument("--directory", type=Path, default=DIRECTORY, help="where the lab keeps its state (.lab)")
    parser.add_argument("--output", choices=("text", "json"), default="text")
    parser.set_defaults(run=run)
    return parser


def _up(args: argparse.Namespace) -> int:
    import signal

    from nodeagent.cli import terminal
    from nodeagent.lab import cluster, errors

    screen = terminal.standard(as_json=args.output == "json")
    # Whoever ends this process from outside means the same as Ctrl-C.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt_once)
    try:
        return _bring_up(args, screen)
    except errors.LabError as error:
        screen.fail(error)
        return 1
    except KeyboardInterrupt:
        screen.say("Interrupted: removing the lab.")
        cluster.down(args.directory.absolute())
        return 130


def _interrupt_once(number: int, frame: "FrameType | None") -> None:
    """Raise KeyboardInterrupt; a second signal does not disturb the clearing up."""
    import signal

    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _bring_up(args: argparse.Namespace, screen: "terminal.Terminal") -> int:
    from nodeagent.lab import cluster, diagnose, errors

    directory = args.directory.absolute()
    options = cluster.Options(
        directory=directory,
        nodes=args.nodes,
        port=args.port,
        outside=not args.no_outside,
        underlay=args.underlay,
    )
    report = screen.recorder()
    running = cluster.up(options, report=report)
    try:
        return _show(running, screen, report=report, args=args)
    except errors.LabError:
        for trouble in diagnose.troubles(running.plan):
            screen.say(f"  {trouble}")
        screen.say(f"The machines are left for a look (logs: {directory}/machines/*/data/var-log-nodeagent).")
        raise


def _show(
    running: "cluster.Running", screen: "terminal.Terminal", *, report: "phases.Phases", args: argparse.Namespace
) -> int:
    import asyncio

    from nodeagent.cli import summary
    from nodeagent.lab import prove

    config = running.plan.kubeconfig
    asyncio.run(prove.wait_for_cluster(config, nodes=args.nodes, report=report))
    replies = [] if args.no_proof else asyncio.run(prove.prove(config, report=report))
    overview = asyncio.run(prove.overview(config))
    screen.say(summary.text(overview, replies=replies, report=report, kubeconfig=config, detached=args.detach))
    screen.result(summary.document(overview, replies=replies, report=report, kubeconfig=config))
    return 0 if args.detach else _stay(running, screen)


def _stay(running: "cluster.Running", screen: "terminal.Terminal") -> int:
    """Wait for Ctrl-C or SIGTERM, then remove the lab; return at once when somebody else has."""
    import signal

    from nodeagent.lab import cluster, errors

    wanted = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
    screen.say("Running until Ctrl-C, which removes it all.")
    while signal.sigtimedwait(wanted, 1.0) is None:
        try:
            cluster.running(running.plan.directory)
        except errors.NotRunning:
            screen.say("The lab is gone.")
            break
    screen.say("Removing the lab.")
    cluster.down(running.plan.directory)
    return 0


def _down(args: argparse.Namespace) -> int:
    import time

    from nodeagent.cli import terminal
    from nodeagent.lab import cluster, errors

    screen = terminal.standard(as_json=args.output == "json")
    start = time.monotonic()
    try:
        removed = cluster.down(args.directory.absolute())
    except errors.LabError as error:
        screen.fail(error)
        return 1
    seconds = time.monotonic() - start
    screen.say(f"Removed the lab in {seconds:.1f} s." if removed else "There is no lab here.")
    screen.result({"removed": removed, "seconds": round(seconds, 3)})
    return 0


def _status(args: argparse.Namespace) -> int:
    from nodeagent.cli import tables, terminal
    from nodeagent.lab import cluster, errors

    screen = terminal.standard(as_json=args.output == "json")
    try:
        running = cluster.running(args.directory.absolute())
    except errors.LabError as error:
        screen.fail(error)
        return 1
    rows = [
        (each.name, each.ip, service.name, _state(running, each.name, service.name))
        for each in running.plan.machines
        for service in each.services
    ]
    headers = ("MACHINE", "ADDRESS", "SERVICE", "PID")
    api, config = f"https://127.0.0.1:{running.record.port}", running.plan.kubeconfig
    screen.say(tables.table(headers, rows))
    screen.say(f"\nAPI: {api}   kubeconfig: {config}")
    for one, other in running.record.cuts:
        screen.say(f"cut: {one} | {other} (nodeagent lab heal mends it)")
    services = [dict(zip((h.lower() for h in headers), row, strict=True)) for row in rows]
    cuts, killed = running.record.cuts, running.record.killed
    screen.result({"api": api, "kubeconfig": str(config), "services": services, "killed": killed, "cut": cuts})
    return 0


def _state(running: "cluster.Running", name: str, service: str) -> str:
    """A service's process id on the host, or why it has none."""
    from nodeagent.lab import machine

    if name in running.record.killed:
        return "killed"
    return str(machine.service_pid(running.first(name), service) or "down")


def _load_image(args: argparse.Namespace) -> int:
    from nodeagent.cli import image

    return image.load(args, local=False)


def _exec(args: argparse.Namespace) -> int:
    import subprocess

    from nodeagent.cli import terminal
    from nodeagent.lab import cluster, errors, processes

    try:
        first = cluster.running(args.directory.absolute()).first(args.machine)
    except errors.LabError as error:
        terminal.standard(as_json=args.output == "json").fail(error)
        return 1
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    return subprocess.run(processes.inside(first.pid, command or ["bash"]), check=False).returncode
