"""Namespaces: what each one gets, and how it is emptied."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from controlplane.controllers import namespace, serviceaccount, writes
from controlplane.controllers.namespace import Found
from controlplane.projection import ConfigMap, Lean, LeanMeta, Namespace
from kube import scheme, status
from kube.client.events import EventRecorder
from kube.client.informer import Informers
from kube.runtime import metrics
from kube.runtime.component import Deps
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.clock import LoopClock

ENDING = {"reason": "NamespaceTerminating", "message": "it ends", "field": "metadata.namespace"}
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def team(*, phase: str = "Active", deleting: bool = False) -> Namespace:
    meta: dict[str, Any] = {"name": "team", "uid": "ns"}
    if deleting:
        meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return msgspec.convert({"metadata": meta, "status": {"phase": phase}}, Namespace)


def found(resource: scheme.Resource, name: str, *, leaving: bool = False, finalizers: tuple[str, ...] = ()) -> Found:
    stamp = "2026-01-01T00:00:00Z" if leaving else None
    return Found(
        resource, LeanMeta(name=name, namespace="team", uid=name, finalizers=finalizers, deletion_timestamp=stamp)
    )


def told(plan: namespace.Plan) -> dict[str, tuple[str, str, str]]:
    return {c.type: (c.status, c.reason, c.message) for c in plan.conditions}


def decide(*objects: Found, failures: tuple[str, ...] = ()) -> namespace.Plan:
    return namespace.plan(team(deleting=True), objects, failures=failures, now=NOW)


def test_pods_go_before_anything_else() -> None:
    decided = decide(found(scheme.CONFIG_MAPS, "settings"), found(scheme.PODS, "p"), found(scheme.SECRETS, "s"))
    assert [deletion.name for deletion in decided.delete] == ["p"]


def test_without_pods_everything_goes_at_once() -> None:
    decided = decide(found(scheme.CONFIG_MAPS, "settings"), found(scheme.SECRETS, "s"))
    assert [deletion.name for deletion in decided.delete] == ["settings", "s"]


def test_what_goes_already_is_waited_for() -> None:
    decided = decide(found(scheme.PODS, "p", leaving=True), found(scheme.SECRETS, "s"))
    assert decided.delete == ()
    assert not decided.empty


def test_an_empty_namespace_says_that_all_is_well() -> None:
    decided = decide()
    assert decided.empty
    assert {status for status, _, _ in told(decided).values()} == {"False"}
    assert told(decided)["NamespaceContentRemaining"][1:] == ("ContentRemoved", "All content successfully removed")


def test_what_remains_is_counted_by_kind_and_by_finalizer() -> None:
    decided = decide(
        found(scheme.CONFIG_MAPS, "a", leaving=True, finalizers=("example.com/hold",)),
        found(scheme.CONFIG_MAPS, "b"),
        found(scheme.DEPLOYMENTS, "d"),
        failures=("configmaps: no",),
    )
    shown = told(decided)
    assert shown["NamespaceContentRemaining"] == (
        "True",
        "SomeResourcesRemain",
        "Some resources are remaining: configmaps. has 2 resource instances, deployments.apps has 1 resource instances",
    )
    assert shown["NamespaceFinalizersRemaining"] == (
        "True",
        "SomeFinalizersRemain",
        "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances",
    )
    assert shown["NamespaceDeletionContentFailure"] == (
        "True",
        "ContentDeletionFailed",
        "Failed to delete all resource types, 1 remaining: configmaps: no",
    )


def test_conditions_keep_their_time_while_only_the_count_changes() -> None:
    first = decide(found(scheme.PODS, "a"), found(scheme.PODS, "b"))
    later = team(deleting=True)
    later.status.conditions = first.conditions
    second = namespace.plan(later, [found(scheme.PODS, "a")], failures=(), now=datetime(2026, 1, 2, tzinfo=UTC))
    one = next(c for c in second.conditions if c.type == "NamespaceContentRemaining")
    assert one.message.endswith("has 1 resource instances")
    assert one.last_transition_time == "2026-01-01T00:00:00Z"


def test_every_stored_kind_of_a_namespace_is_looked_at_once() -> None:
    kinds = [resource.group_resource for resource in namespace.contents()]
    assert len(kinds) == len(set(kinds))
    assert {"pods", "events", "endpointslices.discovery.k8s.io", "controllerrevisions.apps"} <= set(kinds)
    assert not {"nodes", "bindings", "events.events.k8s.io"} & set(kinds)


@pytest.mark.parametrize("ends", [team(phase="Terminating"), team(deleting=True)])
def test_a_namespace_on_its_way_out_gets_nothing(ends: Namespace) -> None:
    assert serviceaccount.plan_account(ends, None) is None
    assert serviceaccount.plan_root_ca(ends, None, pem="x") is None


def test_a_missing_account_or_certificate_is_made() -> None:
    account = serviceaccount.plan_account(team(), None)
    assert isinstance(account, writes.Create)
    assert account.body == {"metadata": {"name": "default"}}
    published = serviceaccount.plan_root_ca(team(), None, pem="x")
    assert isinstance(published, writes.Create)
    assert published.body["data"] == {"ca.crt": "x"}


def test_what_is_right_is_left_alone_and_what_is_not_is_put_right() -> None:
    held = ConfigMap(metadata=msgspec.convert({"name": "kube-root-ca.crt", "uid": "u"}, type(team().metadata)))
    held.data = {"ca.crt": "x"}
    assert serviceaccount.plan_root_ca(team(), held, pem="x") is None
    held.data = {"ca.crt": "old", "more": "y"}
    patch = serviceaccount.plan_root_ca(team(), held, pem="x")
    assert isinstance(patch, writes.Patch)
    assert patch.body == {"data": {"ca.crt": "x", "more": None}}
    assert serviceaccount.plan_account(team(), Lean(metadata=LeanMeta(name="default"))) is None


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("refusal", "certificates"),
    [
        (status.forbidden("not allowed yet"), ["team"]),
        (status.ApiError(status.forbidden("it ends").status | {"details": {"causes": [ENDING]}}), []),
    ],
    ids=["permission comes later", "the namespace ends"],
)
async def test_a_refused_root_certificate_is_tried_again_unless_its_namespace_ends(
    refusal: status.ApiError, certificates: list[str]
) -> None:
    server = FakeApiServer()
    server.put(scheme.NAMESPACES, {"metadata": {"name": "team", "uid": "ns"}, "status": {"phase": "Active"}})
    client, clock = server.client(), LoopClock()
    informers = Informers(client, clock=clock)
    events = EventRecorder(client, component="test", host="", clock=clock)
    registry = metrics.registry()
    deps = Deps(
        client=client, informers=informers, events=events, clock=clock, registry=registry, node_name="", node_ip=""
    )
    controller = serviceaccount.root_ca(deps, pem="PEM")
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(informers.run())]
        await controller._namespaces.wait_synced()
        await controller._objects.wait_synced()
        server.refuse(refusal)
        tasks.append(group.create_task(controller.loop.run()))
        await asyncio.sleep(30)
        for task in tasks:
            task.cancel()
    assert [found["metadata"]["namespace"] for found in server.all(scheme.CONFIG_MAPS)] == certificates
