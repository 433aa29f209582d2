"""`nodeagent lab kill|start|restart|partition|heal|logs|kubectl`: what is done to the machines of a lab that is up.

Owns the words; the deeds are `nodeagent.lab.operate`'s, imported only when a command runs.
"""

import argparse
import functools
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nodeagent.cli import Subparsers
    from nodeagent.lab import cluster

    # What a command says to a person, and to a program.
    Outcome = tuple[str, Mapping[str, object]]
    Deed = Callable[[cluster.Running, argparse.Namespace], Outcome]
AddVerb = Callable[..., argparse.ArgumentParser]
LOG_LINES = 40


def register(verbs: "Subparsers", add: AddVerb) -> None:
    """Add the verbs; `add(verbs, name, text, run)` makes one with the options all have."""
    kill = add(verbs, "kill", "end a machine at once, as a power cut does", _deed(_kill))
    start = add(verbs, "start", "boot a machine that was killed; its disk is as it was", _deed(_start))
    for each in (kill, start):
        each.add_argument("machine", help="server, node-1, ...")
    restart = add(verbs, "restart", "restart a service and wait until it has been started anew", _deed(_restart))
    restart.add_argument("service", help="containerd, agent, dns or server")
    restart.add_argument("machine", nargs="*", help="only on these machines (default: wherever it runs)")
    cut = add(verbs, "partition", "cut the wire between a machine and others, both ways, without a word", _deed(_cut))
    cut.add_argument("machine", help="server, node-1, ...")
    cut.add_argument("others", nargs="*", metavar="other", help="from these machines (default: from all)")
    heal = add(verbs, "heal", "mend cut wires", _deed(_heal))
    heal.add_argument("machine", nargs="?", default="", help="only the wires of this machine (default: all)")
    heal.add_argument("others", nargs="*", metavar="other", help="only the wires to these")
    logs = add(verbs, "logs", "what the services say", _logs)
    logs.add_argument("machine", nargs="?", help="only this machine's")
    logs.add_argument("service", nargs="?", help="only this service's: containerd, agent, dns, server or init")
    logs.add_argument("-n", "--lines", type=int, default=LOG_LINES, help="the last so many lines of each (%(default)s)")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until Ctrl-C")
    kubectl = add(verbs, "kubectl", "kubectl on the lab: nodeagent lab kubectl -- get pods -A", _kubectl)
    kubectl.add_argument("words", nargs=argparse.REMAINDER, help="-- what kubectl is told")


def _deed(do: "Deed") -> Callable[[argparse.Namespace], int]:
    @functools.wraps(do)
    def run(args: argparse.Namespace) -> int:
        from nodeagent.cli import terminal
        from nodeagent.lab import cluster, errors

        screen = terminal.standard(as_json=args.output == "json")
        try:
            text, document = do(cluster.running(args.directory.absolute()), args)
        except errors.LabError as error:
            screen.fail(error)
            return 1
        screen.say(text)
        screen.result(document)
        return 0

    return run


def _kill(running: "cluster.Running", args: argparse.Namespace) -> "Outcome":
    from nodeagent.lab import operate

    operate.kill(running, args.machine)
    return f"{args.machine} is dead; nodeagent lab start {args.machine} boots it again", {"killed": args.machine}


def _start(running: "cluster.Running", args: argparse.Namespace) -> "Outcome":
    from nodeagent.lab import operate

    operate.start(running, args.machine)
    return f"{args.machine} has booted", {"started": args.machine}


def _restart(running: "cluster.Running", args: argparse.Namespace) -> "Outcome":
    from nodeagent.lab import operate

    places = operate.restart(running, args.service, machines=args.machine)
    return f"{args.service} was restarted on {', '.join(places)}", {"restarted": args.service, "machines": places}


def _cut(running: "cluster.Running", args: argparse.Namespace) -> "Outcome":
    from nodeagent.lab import operate

    return _cuts(operate.partition(running, args.machine, args.others))


def _heal(running: "cluster.Running", args: argparse.Namespace) -> "Outcome":
    from nodeagent.lab import operate

    return _cuts(operate.heal(running, args.machine, args.others))


def _cuts(pairs: list[tuple[str, str]]) -> "Outcome":
    words = ", ".join(f"{one} | {other}" for one, other in pairs)
    return f"cut: {words}" if words else "all wires are whole", {"cut": [list(each) for each in pairs]}


def _logs(args: argparse.Namespace) -> int:
    from nodeagent.cli import terminal
    from nodeagent.lab import cluster, errors, journal

    screen = terminal.standard(as_json=args.output == "json")
    try:
        # A lab that did not come up has logs, too: those are the interesting ones.
        found = journal.files(args.directory.absolute(), machine=args.machine, service=args.service)
        if not found:
            running = cluster.running(args.directory.absolute())
            running.machine(args.machine or "server")
            raise errors.LabError(f"no log of {args.service or args.machine}", hint="nodeagent lab status names all")
    except errors.LabError as error:
        screen.fail(error)
        return 1
    if args.follow:
        paths = [str(each.path) for each in found]
        os.execvp("tail", ["tail", f"--lines={args.lines}", "--follow=name", "--retry", *paths])
    for each in found:
        screen.say(f"==> {each.machine} {each.service} <==")
        screen.say("\n".join(each.last(args.lines)))
    named = [{"machine": e.machine, "service": e.service, "lines": e.last(args.lines)} for e in found]
    screen.result({"logs": named})
    return 0


def _kubectl(args: argparse.Namespace) -> int:
    from nodeagent.cli import terminal
    from nodeagent.lab import cluster, errors

    screen = terminal.standard(as_json=args.output == "json")
    beside = Path(sys.executable).with_name("kubectl")
    program = str(beside) if beside.exists() else shutil.which("kubectl")
    try:
        config = cluster.running(args.directory.absolute()).plan.kubeconfig
        if program is None:
            raise errors.LabError("there is no kubectl on PATH", hint="in a clone, ./dev up brings one")
    except errors.LabError as error:
        screen.fail(error)
        return 1
    words = args.words[1:] if args.words[:1] == ["--"] else args.words
    return os.execve(program, [program, *words], os.environ | {"KUBECONFIG": str(config)})
