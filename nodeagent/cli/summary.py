"""What is said at the end of `lab up`: the replies, the cluster's objects, where the kubeconfig is, what to try.
Pure.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nodeagent.cli import tables
from nodeagent.lab import phases

TRY = ("get pods -A -o wide", "logs -l app=web", "exec deploy/web -- hostname")
Objects = Mapping[str, Sequence[Mapping[str, Any]]]


def text(
    objects: Objects,
    *,
    replies: Sequence[str],
    report: phases.Phases,
    kubeconfig: Path,
    detached: bool,
    now: datetime | None = None,
) -> str:
    """The whole page for a person."""
    moment = now or datetime.now(UTC)
    parts = ["", *(f"    {reply}" for reply in replies), ""] if replies else [""]
    parts += [_nodes(objects["nodes"], moment), "", _pods(objects["pods"], moment), ""]
    parts += [_services(objects["services"], moment), ""]
    total = sum(phase.seconds for phase in report.done)
    parts += [f"Up in {total:.1f} s. kubeconfig: {kubeconfig}", "Try:"]
    here = kubeconfig == Path.cwd() / ".lab" / "kubeconfig"
    program = "./dev kubectl" if here else f"kubectl --kubeconfig {kubeconfig}"
    parts += [f"  {program} {words}" for words in TRY]
    if detached:
        parts.append("  ./dev down" + ("" if here else f" --directory {kubeconfig.parent}"))
    return "\n".join(parts)


def document(objects: Objects, *, replies: Sequence[str], report: phases.Phases, kubeconfig: Path) -> dict[str, object]:
    """The same for a program."""
    return {
        "kubeconfig": str(kubeconfig),
        "replies": list(replies),
        "phases": [{"name": phase.name, "seconds": round(phase.seconds, 3)} for phase in report.done],
        **{kind: [item["metadata"]["name"] for item in items] for kind, items in objects.items()},
    }


def _nodes(nodes: Sequence[Mapping[str, Any]], now: datetime) -> str:
    rows = []
    for node in nodes:
        status = node.get("status", {})
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", []))
        address = next((a["address"] for a in status.get("addresses", []) if a["type"] == "InternalIP"), "<none>")
        version = status.get("nodeInfo", {}).get("kubeletVersion", "")
        rows.append((node["metadata"]["name"], "Ready" if ready else "NotReady", address, version, _age(node, now)))
    return tables.table(("NODE", "STATUS", "INTERNAL-IP", "VERSION", "AGE"), rows)


def _pods(pods: Sequence[Mapping[str, Any]], now: datetime) -> str:
    rows = []
    for pod in pods:
        status = pod.get("status", {})
        containers = status.get("containerStatuses", [])
        ready = f"{sum(bool(c.get('ready')) for c in containers)}/{len(pod['spec']['containers'])}"
        name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        place = pod["spec"].get("nodeName", "<none>")
        rows.append((name, ready, status.get("phase", "Unknown"), status.get("podIP", "<none>"), place, _age(pod, now)))
    return tables.table(("POD", "READY", "STATUS", "IP", "NODE", "AGE"), rows)


def _services(services: Sequence[Mapping[str, Any]], now: datetime) -> str:
    rows = []
    for service in services:
        spec = service["spec"]
        ports = ",".join(f"{port['port']}/{port.get('protocol', 'TCP')}" for port in spec.get("ports", []))
        name = f"{service['metadata']['namespace']}/{service['metadata']['name']}"
        rows.append((name, spec.get("type", ""), spec.get("clusterIP", ""), ports or "<none>", _age(service, now)))
    return tables.table(("SERVICE", "TYPE", "CLUSTER-IP", "PORTS", "AGE"), rows)


def _age(obj: Mapping[str, Any], now: datetime) -> str:
    return tables.age(obj["metadata"]["creationTimestamp"], now=now)
