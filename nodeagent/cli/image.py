"""`nodeagent image`: container images on the nodes, put there from a file or listed.

Works on the nodes of a lab when one is up here, else on this machine's own containerd. Must not know registries.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nodeagent.cli import Subparsers

DIRECTORY = Path(".lab")
LOCAL = ("ctr", "--namespace", "k8s.io", "images")
SECONDS = 300.0


def register(subparsers: "Subparsers") -> None:
    """Add the `image` command and its verbs."""
    parser = subparsers.add_parser("image", help="container images on the nodes")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    load = verbs.add_parser("load", help="put a docker or OCI archive on the nodes")
    load.add_argument("file", type=Path, help="what `docker save` or `skopeo copy ... oci-archive:` wrote")
    listing = verbs.add_parser("ls", help="the images there are")
    for each, run in ((load, _load), (listing, _list)):
        each.add_argument("--node", help="only this node of the lab (default: all)")
        each.add_argument("--directory", type=Path, default=DIRECTORY, help="the lab's state (.lab)")
        each.add_argument("--output", choices=("text", "json"), default="text")
        each.set_defaults(run=run)


def _load(args: argparse.Namespace) -> int:
    return load(args, local=True)


def load(args: argparse.Namespace, *, local: bool) -> int:
    """Put `args.file` on the nodes of the lab; on this machine when there is no lab and `local` allows it."""
    from nodeagent.cli import terminal
    from nodeagent.lab import archives, errors

    screen = terminal.standard(as_json=args.output == "json")
    try:
        names = archives.names(args.file)
        places = _places(args, local=local)
        for argv in places.values():
            archives.put(args.file, argv=argv, seconds=SECONDS)
    except errors.LabError as error:
        screen.fail(error)
        return 1
    screen.say(f"{', '.join(names) or args.file.name} is on {', '.join(places)}")
    screen.result({"images": names, "nodes": list(places)})
    return 0


def _list(args: argparse.Namespace) -> int:
    from nodeagent.cli import tables, terminal
    from nodeagent.lab import errors, processes

    screen = terminal.standard(as_json=args.output == "json")
    try:
        found = {
            node: processes.run([*argv, "ls", "-q"]).decode().split()
            for node, argv in _places(args, local=True).items()
        }
    except errors.LabError as error:
        screen.fail(error)
        return 1
    rows = [(node, name) for node, names in found.items() for name in names if not name.startswith("sha256:")]
    screen.say(tables.table(("NODE", "IMAGE"), rows))
    screen.result({"images": [{"node": node, "image": name} for node, name in rows]})
    return 0


def _places(args: argparse.Namespace, *, local: bool) -> dict[str, list[str]]:
    """Node -> the command that speaks to its containerd."""
    from nodeagent.lab import cluster, errors, processes

    try:
        running = cluster.running(args.directory.absolute())
    except errors.NotRunning:
        if args.node or not local:
            raise
        return {"this machine": list(LOCAL)}
    nodes = [args.node] if args.node else [name for name in running.record.nodes if name not in running.record.killed]
    return {node: processes.inside(running.first(node).pid, LOCAL) for node in nodes}
