# ruff: noqa: E501 (the names of the specs are as long as they are)
"""The outcomes that the conformance suite's volume specs check, each under the spec's own name, on pods made together."""

import json
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conformance_volumes import COMES, FLAVOURS, KINDS, MODES, SOURCES, pods
from harness import Kubectl

from kube import quantity
from nodeagent.lab.testing.handle import Keeper

Check = Callable[["Told"], None]


class Told:
    """What the pods printed, by pod and tag."""

    def __init__(self, kubectl: Kubectl) -> None:
        self.kubectl = kubectl
        self._found: dict[str, dict[str, str]] = {}
        self.changed = False

    def of(self, name: str) -> dict[str, str]:
        """Tag -> value; lines without a tag belong to the one before."""
        if name not in self._found:
            form = "jsonpath={.status.phase}"
            self.until(lambda: self.kubectl.ok("get", "pod", name, "-o", form) in ("Succeeded", "Failed"))
            found: dict[str, str] = {}
            tag = ""
            for line in self.kubectl.ok("logs", name, "-c", "main").splitlines():
                head, _, rest = line.partition(" ")
                if head.startswith("@"):
                    tag = head[1:]
                    found[tag] = rest
                else:
                    found[tag] += "\n" + line
            self._found[name] = found
        return self._found[name]

    @staticmethod
    def until(true: Callable[[], Any], *, seconds: float = 90.0) -> None:
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline, "it did not come true in time"
            time.sleep(0.3)

    def watched(self, path: str) -> str:
        """A file of the pod whose files change."""
        return self.kubectl.ok("exec", "watching", "--", "sh", "-c", f"cat /v/{path} 2>/dev/null || echo none")

    def change(self) -> None:
        """Everything changes at once, the first time this is called."""
        if self.changed:
            return
        self.changed = True
        self.kubectl.ok("wait", "--for=condition=Ready", "pod/watching", "--timeout=60s")
        for flavour in FLAVOURS:
            assert 'key1="value1"' in self.watched(f"{flavour}-about/labels")
            for kind in KINDS:
                assert self.watched(f"{flavour}-{kind}-leaves/data-1") == "value-1"
                assert self.watched(f"{flavour}-{kind}-comes/data-1") == "none\n"
        self.kubectl.ok("delete", "configmap/leaves", "secret/leaves")
        self.kubectl.ok("create", "-f", "-", stdin=COMES)
        self.kubectl.ok("patch", "configmap", "changes", "-p", '{"data":{"data-1":"value-2"}}')
        self.kubectl.ok("patch", "secret", "changes", "-p", '{"stringData":{"data-1":"value-2"}}')
        self.kubectl.ok("label", "pod", "watching", "key3=value3")
        self.kubectl.ok("annotate", "pod", "watching", "builder=foo", "--overwrite")


@pytest.fixture(scope="module")
def told(labs: Keeper, kubectl_program: Path) -> Iterator[Told]:
    kubectl = Kubectl(kubectl_program, labs.of(1).running.plan.kubeconfig, f"test-{secrets.token_hex(3)}")
    other = f"{kubectl.namespace}-other"
    for name in (kubectl.namespace, other):
        kubectl.ok("create", "namespace", name)
    try:
        kubectl.ok("create", "secret", "generic", "given", "-n", other, "--from-literal=data-1=another")
        kubectl.ok("create", "-f", "-", stdin=SOURCES)
        kubectl.ok("create", "-f", "-", stdin="\n---\n".join(json.dumps(each) for each in pods()))
        yield Told(kubectl)
    finally:
        kubectl(["delete", "pods", "--all", "--force", "--grace-period=0"])
        kubectl(["delete", "namespace", kubectl.namespace, other, "--wait=false"])


def tells(tag: str, value: str, *, pod: str = "files") -> Check:
    """A check that a pod printed this under a tag."""

    def check(told: Told) -> None:
        assert told.of(pod)[tag] == value

    return check


def becomes(path: str, value: str) -> Check:
    """A check that a file of a running pod comes to say this."""

    def check(told: Told) -> None:
        told.change()
        told.until(lambda: value in told.watched(path))

    return check


def optional(tag: str) -> Check:
    """A check that one source leaves, one changes and one comes."""

    def check(told: Told) -> None:
        told.change()
        told.until(lambda: told.watched(f"{tag}-leaves/data-1") == "none\n")
        told.until(lambda: told.watched(f"{tag}-changes/data-1") == "value-2")
        told.until(lambda: told.watched(f"{tag}-comes/data-1") == "value-1")

    return check


def node_has(tag: str, resource: str) -> Check:
    """A check that a limit that is not set is told as what the node has for pods."""

    def check(told: Told) -> None:
        node = json.loads(told.kubectl.ok("get", "node", "node-1", "-o", "json"))["status"]["allocatable"]
        assert int(told.of("files")[tag]) == quantity.parse(node[resource]).value()

    return check


def of_files(title: str, tag: str, *, kind: str) -> dict[str, Check]:
    """The specs that ConfigMaps and Secrets share."""
    many = "the same pod" if kind == "configmap" else "a pod"
    own_mode = "Item mode" if kind == "configmap" else "Item Mode"
    mapped = "value-2path"
    found = {
        "should be consumable from pods in volume": tells(f"{tag}-simple", "value-1"),
        "should be consumable from pods in volume with defaultMode set": tells(f"{tag}-mode", "400"),
        "should be consumable from pods in volume with mappings": tells(f"{tag}-mapped", mapped),
        f"should be consumable from pods in volume with mappings and {own_mode} set": tells(f"{tag}-own", "400"),
        f"should be consumable in multiple volumes in {many}": tells(f"{tag}-both", "value-1value-1"),
        "optional updates should be reflected in volume": optional(tag),
    }
    if kind == "configmap":
        others = "files-of-others"
        found |= {
            "should be consumable from pods in volume as non-root": tells(f"{tag}-simple", "value-1", pod=others),
            "should be consumable from pods in volume with mappings as non-root": tells(
                f"{tag}-mapped", mapped, pod=others
            ),
            "updates should be reflected in volume": becomes(f"{tag}-changes/data-1", "value-2"),
        }
    else:
        flavour = tag.split("-")[0]
        found["should be consumable from pods in volume as non-root with defaultMode and fsGroup set"] = tells(
            f"{flavour}-grouped", "440 1001\nvalue-1", pod="files-of-groups"
        )
    return {f"[sig-storage] {title} {name}": check for name, check in found.items()}


def of_downward(title: str, flavour: str) -> dict[str, Check]:
    """The specs of downward API volumes."""
    unset = "as default {0} limit if the limit is not set"
    found = {
        "should provide podname only": tells(f"{flavour}-podname", "files"),
        "should set DefaultMode on files": tells(f"{flavour}-about-mode", "400"),
        "should set mode on item file": tells(f"{flavour}-about-own", "400"),
        "should provide container's cpu limit": tells(f"{flavour}-cpu_limit", "2"),
        "should provide container's memory limit": tells(f"{flavour}-memory_limit", str(64 << 20)),
        "should provide container's cpu request": tells(f"{flavour}-cpu_request", "1"),
        "should provide container's memory request": tells(f"{flavour}-memory_request", str(32 << 20)),
        f"should provide node allocatable (cpu) {unset.format('cpu')}": node_has(f"{flavour}-node_cpu", "cpu"),
        f"should provide node allocatable (memory) {unset.format('memory')}": node_has(
            f"{flavour}-node_memory", "memory"
        ),
        "should update labels on modification": becomes(f"{flavour}-about/labels", 'key3="value3"'),
        "should update annotations on modification": becomes(f"{flavour}-about/annotations", 'builder="foo"'),
    }
    return {f"[sig-storage] {title} {name}": check for name, check in found.items()}


CHECKS = (
    of_files("ConfigMap", "plain-configmap", kind="configmap")
    | of_files("Projected configMap", "projected-configmap", kind="configmap")
    | of_files("Secrets", "plain-secret", kind="secret")
    | of_files("Projected secret", "projected-secret", kind="secret")
    | of_downward("Downward API volume", "plain")
    | of_downward("Projected downwardAPI", "projected")
    | {
        f"[sig-storage] EmptyDir volumes should support ({shown},{mode},{medium})": tells(
            f"{user}-{medium}-{mode}", f"{mode.lstrip('0')}\nx", pod=pod
        )
        for shown, user, pod in (("root", "root", "files"), ("non-root", "other", "files-of-others"))
        for mode in MODES
        for medium in ("default", "tmpfs")
    }
    | {
        "[sig-storage] EmptyDir volumes volume on default medium should have the correct mode": tells(
            "root-default-folder", "777"
        ),
        "[sig-storage] EmptyDir volumes volume on tmpfs should have the correct mode": tells(
            "root-tmpfs-folder", "1777\n1"
        ),
        "[sig-storage] ConfigMap binary data should be reflected in volume": tells("binary", " de ad be ef"),
        "[sig-storage] Projected combined should project all components that make up the projection API": tells(
            "combined", "filesvalue-1value-2"
        ),
        "[sig-storage] Secrets should be able to mount in a volume regardless of a different secret existing with same "
        "name in different namespace": tells("plain-secret-simple", "value-1"),
    }
)


@pytest.mark.parametrize("name", CHECKS, ids=list(CHECKS))
def test_what_the_conformance_suite_checks_of_volumes(name: str, told: Told) -> None:
    CHECKS[name](told)
