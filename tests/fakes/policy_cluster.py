"""Three namespaces of three pods, and policies on them: the world in which policy tests ask who reaches whom.

Namespaces x, y, z are labelled `ns` and hold pods a, b, c, labelled `pod`; each serves 80 (named `http`) and 81 by TCP
and UDP. It knows addresses and the tracker, not how packets travel.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from cni.policy import explain, rules
from cni.policy.explain import End
from cni.policy.kernel import Rules
from cni.policy.model import NamedPort, Pod
from cni.policy.rules import Policy
from cni.policy.tracker import Tracker
from kube.types import NetworkPolicy, decode

NAMESPACES, NAMES = "xyz", "abc"
EVERYONE = tuple(f"{namespace}/{name}" for namespace in NAMESPACES for name in NAMES)
PORTS = (NamedPort("http", "tcp", 80), NamedPort("http", "udp", 80))


def address(key: str, *, version: int = 4) -> str:
    """Where a pod is."""
    namespace, name = key.split("/")
    row, column = NAMESPACES.index(namespace), NAMES.index(name) + 2
    return f"10.66.{row}.{column}" if version == 4 else f"fd00:66::{row}:{column}"


def policy(namespace: str, name: str, **spec: Any) -> Policy:
    """A policy as the API server hands it out."""
    body = {"metadata": {"namespace": namespace, "name": name}, "spec": {"podSelector": {}, **spec}}
    return rules.policy(decode(json.dumps(body), NetworkPolicy))


def pods(**labels: str) -> dict[str, Any]:
    """A selector by labels; without any it is the empty one."""
    return {"matchLabels": labels} if labels else {}


class Cluster:
    """The nine pods, all on this node unless `remote`, and rules that follow the policies."""

    def __init__(self, rules: Rules, *, remote: Iterable[str] = ()) -> None:
        self.rules = rules
        self.tracker = Tracker()
        self.labels: dict[str, dict[str, str]] = {}
        for namespace in NAMESPACES:
            self.relabel_namespace(namespace, ns=namespace)
        for key in EVERYONE:
            namespace, name = key.split("/")
            addresses = (address(key), address(key, version=6))
            pod = Pod(namespace=namespace, name=name, labels={"pod": name}, addresses=addresses, ports=PORTS)
            self.tracker.pod(key, replace(pod, local=key not in remote))

    def relabel_namespace(self, name: str, **labels: str) -> None:
        self.labels[name] = labels
        self.tracker.namespace(name, labels)

    def relabel(self, key: str, **labels: str) -> None:
        self.tracker.pod(key, replace(self.tracker.pods[key], labels=labels))

    def remove(self, key: str) -> None:
        self.tracker.pod(key, None)

    async def apply(self, *policies: Policy, without: Iterable[str] = ()) -> None:
        """Adds or replaces policies, takes others away, and brings all that changed into force."""
        for each in policies:
            self.tracker.policy(each.key, each)
        for key in without:
            self.tracker.policy(key, None)
        change = self.tracker.settle()
        if bool(change.before.chains) != bool(change.after.chains):
            await self.rules.replace(self.tracker.wanted())
        elif change and change.after.chains:
            await self.rules.change(change)

    def expected(self, *, protocol: str = "tcp", port: int = 80) -> dict[str, str]:
        """The matrix as the policies themselves say."""
        verdicts = {
            (source, to): self.verdict(source, to, protocol=protocol, port=port).allowed
            for source in EVERYONE
            for to in EVERYONE
        }
        return matrix(verdicts)

    def verdict(self, source: str, to: str, *, protocol: str = "tcp", port: int = 80) -> explain.Verdict:
        ends = (End(address=address(key), pod=self.tracker.pods.get(key)) for key in (source, to))
        start, end = ends
        return explain.decide(
            self.tracker.policies.values(), self.labels, source=start, to=end, protocol=protocol, port=port
        )


def matrix(verdicts: Mapping[tuple[str, str], bool]) -> dict[str, str]:
    """For each pod whom it reaches, a letter or `.` for each of the nine, so that a difference is seen at a glance."""
    return {
        source: "".join(to if verdicts[source, to] else "." for to in EVERYONE).replace("/", "") for source in EVERYONE
    }
