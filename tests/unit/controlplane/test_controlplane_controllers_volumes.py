"""Claims find volumes, or have them made; volumes outlive their claims as their policy says."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from controlplane import claims
from controlplane.controllers import reconcile, writes
from controlplane.controllers.volumes import loop, match, plan
from kube import scheme, types
from kube.client.events import EventRecorder
from kube.client.informer import Informers
from kube.runtime import metrics
from kube.runtime.component import Deps
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.clock import LoopClock

RWO = ["ReadWriteOnce"]
ANNOTATIONS = {plan.DEFAULT_CLASS: "true"}


def claim(name: str = "c", size: str = "1Gi", **more: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default", "uid": f"u-{name}", **more.pop("metadata", {})}
    status = more.pop("status", {"phase": "Pending"})
    spec = {"accessModes": RWO, "resources": {"requests": {"storage": size}}, "storageClassName": "", **more}
    return {"metadata": metadata, "spec": spec, "status": status}


def volume(name: str = "v", size: str = "1Gi", **more: Any) -> dict[str, Any]:
    spec = {"accessModes": RWO, "capacity": {"storage": size}, "hostPath": {"path": "/x"}, **more}
    return {"metadata": {"name": name, "uid": f"u-{name}"}, "spec": spec, "status": {"phase": "Available"}}


def storage_class(name: str = "fast", **more: Any) -> dict[str, Any]:
    metadata = {"name": name, "uid": name, **more.pop("metadata", {})}
    return {"metadata": metadata, "provisioner": plan.PROVISIONERS[0], "volumeBindingMode": "Immediate", **more}


def a_claim(**given: Any) -> types.PersistentVolumeClaim:
    return msgspec.convert(claim(**given), types.PersistentVolumeClaim)


def volumes(*made: dict[str, Any]) -> list[types.PersistentVolume]:
    return [msgspec.convert(each, types.PersistentVolume) for each in made]


def ref(name: str = "c", uid: str = "u-c") -> dict[str, str]:
    return {"namespace": "default", "name": name, "uid": uid}


@pytest.mark.parametrize(
    ("wanted", "there", "found"),
    [
        ({}, [volume("big", "9Gi"), volume("near", "2Gi"), volume("small", "1Mi")], "near"),
        ({}, [volume("near"), volume("mine", "9Gi", claimRef=ref(uid=""))], "mine"),
        ({}, [volume(claimRef=ref("other", "u-other"))], None),
        ({}, [volume(claimRef=ref(uid="u-earlier"))], None),
        ({"accessModes": ["ReadWriteMany"]}, [volume()], None),
        ({"accessModes": ["ReadWriteMany"]}, [volume(accessModes=[*RWO, "ReadWriteMany"])], "v"),
        ({"storageClassName": "fast"}, [volume()], None),
        ({"storageClassName": "fast"}, [volume(storageClassName="fast")], "v"),
        ({"volumeMode": "Block"}, [volume()], None),
        ({"selector": {"matchLabels": {"a": "b"}}}, [volume()], None),
    ],
)
def test_a_claim_gets_the_smallest_volume_that_will_do(
    wanted: dict[str, Any], there: list[dict[str, Any]], found: str | None
) -> None:
    chosen = match.find(a_claim(**wanted), volumes(*there))
    assert (chosen.metadata.name if chosen else None) == found


def test_a_volume_whose_claim_is_gone_is_free_for_nobody() -> None:
    released = volume(claimRef=ref("earlier", "u"))
    released["status"]["phase"] = "Released"
    assert match.find(a_claim(), volumes(released)) is None


def world(*made: dict[str, Any], classes: tuple[dict[str, Any], ...] = (), **consumers: list[str]) -> plan.World:
    return plan.World(
        volumes={v.metadata.name: v for v in volumes(*made)},
        classes={c["metadata"]["name"]: msgspec.convert(c, types.StorageClass) for c in classes},
        consumers={f"default/{name}": nodes for name, nodes in consumers.items()},
    )


def test_a_claim_that_waits_gets_its_volume_made_where_its_pod_runs() -> None:
    waiting = storage_class(volumeBindingMode=claims.WAIT)
    wanted = a_claim(storageClassName="fast")
    assert plan.claim_step(wanted, world(classes=(waiting,))).reason == "WaitForFirstConsumer"
    assert plan.claim_step(wanted, world(classes=(waiting,), c=[""])).write is None
    made = plan.claim_step(wanted, world(classes=(waiting,), c=["n1"])).write
    assert isinstance(made, writes.Create)
    terms = made.body["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert terms[0]["matchExpressions"][0]["values"] == ["n1"]
    assert made.body["spec"]["hostPath"]["path"] == f"{plan.FOLDER}/pvc-u-c"


def test_a_claim_that_waits_takes_no_volume_of_another_node() -> None:
    waiting = storage_class(volumeBindingMode=claims.WAIT, provisioner=claims.NO_PROVISIONER)
    rule = {"key": plan.HOSTNAME, "operator": "In", "values": ["n2"]}
    far = {"required": {"nodeSelectorTerms": [{"matchExpressions": [rule]}]}}
    there = volume(storageClassName="fast", nodeAffinity=far)
    wanted = a_claim(storageClassName="fast")
    assert plan.claim_step(wanted, world(there, classes=(waiting,), c=["n1"])).reason == "FailedBinding"
    found = plan.claim_step(wanted, world(there, classes=(waiting,), c=["n2"])).write
    assert isinstance(found, writes.Patch) and found.resource is scheme.PERSISTENT_VOLUMES


def test_what_keeps_a_claim_waiting_is_told() -> None:
    assert plan.claim_step(a_claim(storageClassName="none"), world()).message.endswith('"none" not found')
    foreign = storage_class(provisioner="example.com/x")
    assert plan.claim_step(a_claim(storageClassName="fast"), world(classes=(foreign,))).reason == "ExternalProvisioning"
    prebound = a_claim(volumeName="v")
    assert plan.claim_step(prebound, world(volume(claimRef=ref("other", "o")))).reason == "FailedBinding"


def test_a_claim_is_kept_while_pods_use_it() -> None:
    leaving = a_claim(metadata={"deletionTimestamp": "2026-11-23T00:00:00Z", "finalizers": [plan.PROTECTED, "own/x"]})
    assert plan.claim_step(leaving, world(c=["n1"])).write is None
    released = plan.claim_step(leaving, world()).write
    assert isinstance(released, writes.Patch) and released.body["metadata"]["finalizers"] == ["own/x"]


@contextlib.asynccontextmanager
async def binding(server: FakeApiServer) -> AsyncIterator[reconcile.Loop]:
    clock, client = LoopClock(), server.client()
    informers = Informers(client, clock=clock)
    events = EventRecorder(client, component="test", host="", clock=clock)
    deps = Deps(
        client=client,
        informers=informers,
        events=events,
        clock=clock,
        registry=metrics.registry(),
        node_name="",
        node_ip="",
    )
    binder, ephemeral = loop.Binder(deps), loop.Ephemeral(deps)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each.run()) for each in (informers, binder.loop, ephemeral.loop)]
        await asyncio.sleep(1)
        yield binder.loop
        for task in tasks:
            task.cancel()


def phase(server: FakeApiServer, resource: scheme.Resource, name: str) -> str:
    namespace = "default" if resource.namespaced else ""
    found = server.find(resource, name, namespace=namespace)
    return str(found["status"]["phase"]) if found else "gone"


@pytest.mark.looptime
async def test_claim_and_volume_are_bound_to_each_other_and_released_again() -> None:
    server = FakeApiServer()
    server.put(scheme.PERSISTENT_VOLUMES, volume(persistentVolumeReclaimPolicy="Retain"))
    server.put(scheme.PERSISTENT_VOLUME_CLAIMS, claim())
    async with binding(server):
        await asyncio.sleep(5)
        assert phase(server, scheme.PERSISTENT_VOLUME_CLAIMS, "c") == "Bound"
        assert phase(server, scheme.PERSISTENT_VOLUMES, "v") == "Bound"
        bound = server.find(scheme.PERSISTENT_VOLUME_CLAIMS, "c", namespace="default")
        assert bound is not None
        assert bound["spec"]["volumeName"] == "v" and bound["status"]["capacity"] == {"storage": "1Gi"}
        assert bound["metadata"]["annotations"] == {plan.COMPLETED: "yes", plan.BOUND_BY_US: "yes"}
        server.remove(scheme.PERSISTENT_VOLUME_CLAIMS, "c", namespace="default")
        await asyncio.sleep(5)
        assert phase(server, scheme.PERSISTENT_VOLUMES, "v") == "Released"


@pytest.mark.looptime
async def test_a_volume_made_on_request_goes_with_its_claim() -> None:
    server = FakeApiServer()
    server.put(scheme.STORAGE_CLASSES, storage_class(metadata={"annotations": ANNOTATIONS}))
    unnamed = claim()
    del unnamed["spec"]["storageClassName"]
    server.put(scheme.PERSISTENT_VOLUME_CLAIMS, unnamed)
    async with binding(server):
        await asyncio.sleep(5)
        assert phase(server, scheme.PERSISTENT_VOLUME_CLAIMS, "c") == "Bound"
        assert phase(server, scheme.PERSISTENT_VOLUMES, "pvc-u-c") == "Bound"
        server.remove(scheme.PERSISTENT_VOLUME_CLAIMS, "c", namespace="default")
        await asyncio.sleep(5)
        assert phase(server, scheme.PERSISTENT_VOLUMES, "pvc-u-c") == "gone"


@pytest.mark.looptime
async def test_a_claim_whose_volume_vanished_is_lost() -> None:
    server = FakeApiServer()
    server.put(scheme.PERSISTENT_VOLUMES, volume())
    server.put(scheme.PERSISTENT_VOLUME_CLAIMS, claim())
    async with binding(server):
        await asyncio.sleep(5)
        server.remove(scheme.PERSISTENT_VOLUMES, "v")
        await asyncio.sleep(5)
        assert phase(server, scheme.PERSISTENT_VOLUME_CLAIMS, "c") == "Lost"


@pytest.mark.looptime
async def test_an_ephemeral_volume_makes_a_claim_that_belongs_to_its_pod() -> None:
    server = FakeApiServer()
    async with binding(server):
        template = {"metadata": {"labels": {"a": "b"}}, "spec": claim()["spec"]}
        spec = {"volumes": [{"name": "scratch", "ephemeral": {"volumeClaimTemplate": template}}]}
        server.put(scheme.PODS, {"metadata": {"name": "p", "namespace": "default", "uid": "u-p"}, "spec": spec})
        await asyncio.sleep(5)
    made = server.find(scheme.PERSISTENT_VOLUME_CLAIMS, "p-scratch", namespace="default")
    assert made is not None
    assert made["metadata"]["ownerReferences"][0]["uid"] == "u-p" and made["metadata"]["labels"] == {"a": "b"}
