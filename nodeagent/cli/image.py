"""`nodeagent image`: container images on the nodes: pulled, put there from a file or a folder, listed, removed.

Works on the nodes of a lab when one is up here, else on this machine's own containerd. Must not know registries.
"""

import argparse
from collections.abc import Sequence
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
    pull = verbs.add_parser("pull", help="have the nodes get an image from its registry")
    pull.add_argument("name", help="as in a pod: busybox, quay.io/org/app:1.2")
    remove = verbs.add_parser("rm", help="remove an image from the nodes")
    remove.add_argument("name", help="as `ls` shows it, or as in a pod")
    build = verbs.add_parser("build", help="make an image of a folder and put it on the nodes")
    build.add_argument("folder", type=Path, help="what the image's file system shall hold")
    build.add_argument("--tag", required=True, help="the image's name, as in a pod")
    build.add_argument("--entrypoint", default="", help="the program it runs, with its first arguments")
    build.add_argument("--command", default="", help="further arguments, which a pod may replace")
    verbs_by_parser = ((load, _load), (listing, _list), (pull, _pull), (remove, _remove), (build, _build))
    for each, run in verbs_by_parser:
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


def _pull(args: argparse.Namespace) -> int:
    return _each(args, "pull", "is on", words=("pull",))


def _remove(args: argparse.Namespace) -> int:
    return _each(args, "rm", "is removed from", words=("rm",))


def _each(args: argparse.Namespace, verb: str, done: str, *, words: Sequence[str]) -> int:
    """One `ctr images` command with the image's full name, on every node."""
    from nodeagent.cli import terminal
    from nodeagent.images import names
    from nodeagent.lab import errors, processes

    screen = terminal.standard(as_json=args.output == "json")
    try:
        name = names.full(args.name)
        if name is None:
            raise errors.LabError(f"{args.name!r} is not an image name")
        places = _places(args, local=True)
        for argv in places.values():
            processes.run([*argv, *words, name], seconds=SECONDS)
    except errors.LabError as error:
        screen.fail(error)
        return 1
    screen.say(f"{name} {done} {', '.join(places)}")
    screen.result({"images": [name], "nodes": list(places), "done": verb})
    return 0


def _build(args: argparse.Namespace) -> int:
    import shlex
    import tempfile

    from nodeagent.cli import terminal
    from nodeagent.images import names
    from nodeagent.lab import errors, images

    try:
        name = names.full(args.tag)
        if name is None:
            raise errors.LabError(f"--tag: {args.tag!r} is not an image name")
        made = images.of_folder(
            args.folder, name=name, entrypoint=shlex.split(args.entrypoint), command=shlex.split(args.command)
        )
        data = images.archive(made, architecture=images.own_architecture())
    except (errors.LabError, OSError) as error:
        terminal.standard(as_json=args.output == "json").fail(error)
        return 1
    with tempfile.NamedTemporaryFile(suffix=".tar") as file:
        file.write(data)
        file.flush()
        args.file = Path(file.name)
        return load(args, local=True)


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
