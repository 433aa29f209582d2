"""`nodeagent trace A -> B:PORT`: reads the API, has the legs walked, prints the way. 0 reached, 1 stopped, 2 wrong use.

On a node the legs of this machine are walked here. Where a lab is up each is walked in its own machine. Must not know
what a hop says.
"""

import argparse
import asyncio
import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from kube import kubeconfig, scheme, status
from kube.client import errors as client_errors
from kube.client import http, rest
from nodeagent.lab import cluster, errors, machine
from nodeagent.trace import follow, legs, question
from nodeagent.trace.parts import Objects, Parts

REACHED, STOPPED, WRONG = 0, 1, 2
LEG_SECONDS = 60.0
READ = (scheme.PODS, scheme.NODES, scheme.SERVICES, scheme.NAMESPACES, scheme.NETWORK_POLICIES)
LEGS = {follow.DEPART: legs.depart, follow.ARRIVE: legs.arrive}
Answer = Mapping[str, Any]


def run(arguments: argparse.Namespace, parts: Parts) -> int:
    """The command."""
    if arguments.leg:
        print(json.dumps(LEGS[arguments.leg](json.load(sys.stdin), parts)))
        return REACHED
    try:
        way = trace(
            arguments.words,
            parts,
            lab=lab_here(arguments.directory.absolute()),
            config=arguments.kubeconfig,
            namespace=arguments.namespace,
            protocol=arguments.protocol,
        )
    except (question.QuestionError, errors.LabError, kubeconfig.KubeconfigError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return WRONG
    except (status.ApiError, client_errors.ClientError) as error:
        print(f"error: the API cannot be asked: {error}", file=sys.stderr)
        return WRONG
    print(json.dumps(follow.document(way), indent=2) if arguments.output == "json" else follow.text(way))
    return STOPPED if way.stops else REACHED


def trace(
    words: Sequence[str],
    parts: Parts,
    *,
    lab: cluster.Running | None,
    config: str = "",
    namespace: str = "default",
    protocol: str = "tcp",
) -> follow.Way:
    """Follow the connection in these words. Raises QuestionError, LabError, KubeconfigError, ApiError, ClientError."""
    path = config or (str(lab.plan.kubeconfig) if lab else os.environ.get("KUBECONFIG") or own_kubeconfig())
    objects = asyncio.run(_read(Path(path)))
    asked = question.ask(words, objects, namespace=namespace, protocol=protocol)

    def walk(node: str, leg: str, document: Answer) -> Answer | None:
        if lab is not None:
            return _in_lab(lab, node, leg, document)
        return LEGS[leg](document, parts) if node in (socket.gethostname(), own_name()) else None

    return follow.follow(asked, objects, parts, walk=walk)


def _in_lab(lab: cluster.Running, node: str, leg: str, document: Answer) -> Answer | None:
    if node not in lab.record.nodes or node in lab.record.killed:
        return None
    environment = f"PYTHONPATH={':'.join(dict.fromkeys((str(cluster.SOURCE), *filter(os.path.isdir, sys.path))))}"
    argv = ["env", environment, sys.executable, "-m", "nodeagent", "trace", "--leg", leg]
    said = machine.run(lab.first(node), argv, stdin=json.dumps(document).encode(), seconds=LEG_SECONDS)
    answer: Answer = json.loads(said)
    return answer


def lab_here(directory: Path) -> cluster.Running | None:
    """The lab that is up in this directory."""
    try:
        return cluster.running(directory)
    except errors.LabError:
        return None


def own_configuration(folder: Path = Path("/etc/nodeagent")) -> Mapping[str, Any]:
    """This node's AgentConfiguration; empty where there is none."""
    for path in sorted(folder.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            if isinstance(document, Mapping) and document.get("kind") == "AgentConfiguration":
                return document
    return {}


def own_kubeconfig() -> str:
    """The agent's kubeconfig where this is a node, else the user's own."""
    return str(own_configuration().get("kubeconfig") or Path.home() / ".kube/config")


def own_name() -> str:
    """The name of this node."""
    return str(own_configuration().get("nodeName") or socket.gethostname())


async def _read(path: Path) -> Objects:
    client = rest.Client(http.HttpTransport(kubeconfig.load(path)), user_agent="nodeagent-trace")
    try:
        return {each.plural: (await client.list(each)).get("items") or () for each in READ}
    finally:
        await client.close()
