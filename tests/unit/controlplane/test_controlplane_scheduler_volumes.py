"""Pods with claims go where their volumes are, and wait while there is nowhere."""

from typing import Any

import msgspec
import pytest

from controlplane import claims
from controlplane.projection import Node, Pod
from controlplane.scheduler import volumes
from kube import types


def pod(*names: str) -> Pod:
    spec = {"volumes": [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in names]}
    return msgspec.convert({"metadata": {"name": "p", "namespace": "default", "uid": "u"}, "spec": spec}, Pod)


def node(name: str) -> Node:
    return msgspec.convert({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}}, Node)


def storage(claim: dict[str, Any] | None, *there: dict[str, Any], binding: str = "Immediate") -> volumes.Storage:
    kind = {"metadata": {"name": "k"}, "provisioner": claims.NO_PROVISIONER, "volumeBindingMode": binding}
    found = {}
    if claim is not None:
        body = {"metadata": {"name": "c", "namespace": "default", "uid": "u-c"}, **claim}
        found["default/c"] = msgspec.convert(body, types.PersistentVolumeClaim)
    return volumes.Storage(
        claims=found,
        volumes={v["metadata"]["name"]: msgspec.convert(v, types.PersistentVolume) for v in there},
        classes={"k": msgspec.convert(kind, types.StorageClass)},
    )


def on(name: str, **spec: Any) -> dict[str, Any]:
    rule = {"key": "kubernetes.io/hostname", "operator": "In", "values": [name]}
    affinity = {"required": {"nodeSelectorTerms": [{"matchExpressions": [rule]}]}}
    return {"metadata": {"name": f"v-{name}"}, "spec": {"nodeAffinity": affinity, "storageClassName": "k", **spec}}


BOUND = {"spec": {"volumeName": "v-n1"}, "status": {"phase": "Bound"}}
WAITING = {"spec": {"storageClassName": "k"}}


@pytest.mark.parametrize(
    ("there", "problem"),
    [
        (storage(None), 'persistentvolumeclaim "c" not found'),
        (storage(WAITING), volumes.UNBOUND),
        (storage(BOUND), 'pvc(s) bound to non-existent pv(s): "v-n1"'),
    ],
)
def test_a_pod_waits_for_its_claims(there: volumes.Storage, problem: str) -> None:
    wish = volumes.wish(pod("c"), there)
    assert wish is not None and wish.problem == problem


def test_a_pod_goes_where_its_volume_is() -> None:
    wish = volumes.wish(pod("c"), storage(BOUND, on("n1")))
    assert wish is not None
    assert wish.refuses(node("n1")) == "" and wish.refuses(node("n2")) == volumes.CONFLICT


def test_a_claim_that_waits_for_its_pod_needs_a_volume_where_the_pod_goes() -> None:
    taken = on("n2", claimRef={"namespace": "default", "name": "other", "uid": "o"})
    wish = volumes.wish(pod("c"), storage(WAITING, on("n1"), taken, binding=claims.WAIT))
    assert wish is not None
    assert wish.refuses(node("n1")) == "" and wish.refuses(node("n2")) == volumes.NONE_HERE


def test_a_pod_without_claims_wants_nothing() -> None:
    assert volumes.wish(pod(), storage(None)) is None
