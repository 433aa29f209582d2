"""Resource quotas: what an object uses, whom a quota covers, what admission charges and the controller counts."""

from typing import Any

import msgspec
import pytest

from controlplane import quota
from controlplane.controllers import quotas
from controlplane.projection import ResourceQuota
from kube import scheme
from tests.fakes.api_harness import Harness

Object = dict[str, Any]
NAMESPACE = "/api/v1/namespaces/default"


def container(name: str = "c", **resources: Object) -> Object:
    return {"name": name, "image": "x:1", "resources": resources}


def pod(*containers: Object, **spec: Any) -> Object:
    return {"metadata": {"name": "p"}, "spec": {"containers": list(containers or [container()]), **spec}}


def shown(amounts: quota.Amounts) -> dict[str, str]:
    return {name: str(amount) for name, amount in amounts.items() if amount and not name.startswith("count/")}


def a_quota(hard: Object, used: Object | None = None, **spec: Any) -> Object:
    made: Object = {"metadata": {"name": "q"}, "spec": {"hard": hard, **spec}}
    return made if used is None else made | {"status": {"hard": hard, "used": used}}


def test_a_pod_uses_what_its_containers_ask_for_together() -> None:
    one = container("a", requests={"cpu": "500m", "memory": "1Gi", "example.com/x": "2"}, limits={"cpu": "1"})
    assert shown(quota.usage(scheme.PODS, pod(one, container("b", requests={"cpu": "250m"})))) == {
        "pods": "1",
        "cpu": "750m",
        "requests.cpu": "750m",
        "memory": "1Gi",
        "requests.memory": "1Gi",
        "requests.example.com/x": "2",
        "limits.cpu": "1",
    }


def test_the_hungriest_moment_of_initialisation_counts_beside_the_sidecars() -> None:
    init = [
        {**container("side", requests={"cpu": "1"}), "restartPolicy": "Always"},
        container("init", requests={"cpu": "5"}),
    ]
    spec = pod(container(requests={"cpu": "2"}), initContainers=init)["spec"]
    assert str(quota.total(spec, "requests")["cpu"]) == "6"


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_finished_pod_uses_nothing_but_its_place(phase: str) -> None:
    found = quota.usage(scheme.PODS, pod() | {"status": {"phase": phase}})
    assert found == {"count/pods": quota.ONE}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"type": "ClusterIP", "ports": [{}]}, {"services": "1"}),
        ({"type": "NodePort", "ports": [{}, {}]}, {"services": "1", "services.nodeports": "2"}),
        (
            {"type": "LoadBalancer", "ports": [{}]},
            {"services": "1", "services.nodeports": "1", "services.loadbalancers": "1"},
        ),
    ],
)
def test_a_service_uses_its_open_ports(spec: Object, expected: Object) -> None:
    assert shown(quota.usage(scheme.SERVICES, {"spec": spec})) == expected


def test_other_kinds_are_counted_by_their_names() -> None:
    assert quota.usage(scheme.REPLICA_SETS, {}) == {"count/replicasets.apps": quota.ONE}
    assert set(quota.usage(scheme.SECRETS, {})) == {"secrets", "count/secrets"}


@pytest.mark.parametrize(
    ("scope", "covered", "spared"),
    [
        ("Terminating", pod(activeDeadlineSeconds=5), pod()),
        ("NotTerminating", pod(), pod(activeDeadlineSeconds=0)),
        ("BestEffort", pod(), pod(container(limits={"cpu": "1"}))),
        ("NotBestEffort", pod(container(requests={"memory": "1"})), pod()),
        ("PriorityClass", pod(priorityClassName="high"), pod()),
    ],
)
def test_a_scope_chooses_pods(scope: str, covered: Object, spared: Object) -> None:
    """[sig-api-machinery] ResourceQuota should verify ResourceQuota with terminating scopes."""
    scoped = a_quota({"pods": "1"}, scopes=[scope])
    assert quota.covers(scoped, scheme.PODS, covered)
    assert not quota.covers(scoped, scheme.PODS, spared)
    assert not quota.covers(scoped, scheme.SERVICES, {})


@pytest.mark.parametrize(("operator", "name", "covered"), [("In", "a", True), ("In", "b", False), ("NotIn", "b", True)])
def test_a_scope_selector_chooses_by_class(operator: str, name: str, covered: bool) -> None:
    wanted = {"matchExpressions": [{"scopeName": "PriorityClass", "operator": operator, "values": ["a"]}]}
    assert quota.covers(a_quota({}, scopeSelector=wanted), scheme.PODS, pod(priorityClassName=name)) is covered


def test_what_a_quota_restrains_must_be_named_by_every_container() -> None:
    spec = pod(container("a", requests={"cpu": "1"}), container("b"))["spec"]
    assert quota.unnamed(a_quota({"cpu": "1", "limits.memory": "1Gi", "pods": "1"}), spec) == [
        "cpu for: b",
        "limits.memory for: a,b",
    ]


def test_a_quota_is_counted_from_the_objects_of_its_namespace() -> None:
    found = a_quota({"pods": "5", "cpu": "2", "secrets": "3"})
    objects = [
        (scheme.PODS, pod(container(requests={"cpu": "500m"}))),
        (scheme.PODS, pod() | {"status": {"phase": "Failed"}}),
        (scheme.SECRETS, {}),
    ]
    assert quotas.count(found, objects) == {
        "hard": {"pods": "5", "cpu": "2", "secrets": "3"},
        "used": {"pods": "1", "cpu": "500m", "secrets": "1"},
    }


def test_only_the_kinds_a_quota_names_are_counted() -> None:
    assert quotas.kinds(["limits.cpu", "services.nodeports", "count/deployments.apps"]) == {
        scheme.PODS,
        scheme.SERVICES,
        scheme.DEPLOYMENTS,
    }


@pytest.mark.parametrize(
    ("before", "after", "stale"),
    [
        (None, a_quota({"pods": "2"}), True),
        (a_quota({"pods": "2"}, {"pods": "1"}), a_quota({"pods": "2"}, {"pods": "2"}), False),
        (a_quota({"pods": "2"}, {"pods": "1"}), a_quota({"pods": "3"}), True),
        (a_quota({"pods": "2"}), a_quota({"pods": "2"}), True),
    ],
    ids=["new", "charged", "changed", "not counted yet"],
)
def test_a_charge_is_no_reason_to_count_again(before: Object | None, after: Object, stale: bool) -> None:
    """[sig-apps] ReplicationController should surface a failure condition on a common issue like exceeded quota."""
    old = None if before is None else msgspec.convert(before, ResourceQuota)
    assert quotas.stale(old, msgspec.convert(after, ResourceQuota)) is stale


async def ready(api: Harness, hard: Object, used: Object) -> None:
    """A quota as the controller has counted it."""
    await api.ask("POST", f"{NAMESPACE}/resourcequotas", a_quota(hard))
    merge = {"content-type": "application/merge-patch+json"}
    status = {"status": {"hard": hard, "used": used}}
    assert (await api.ask("PATCH", f"{NAMESPACE}/resourcequotas/q/status", status, headers=merge))[0] == 200


async def used(api: Harness) -> Object:
    _, found = await api.ask("GET", f"{NAMESPACE}/resourcequotas/q")
    return dict(found["status"]["used"])


async def test_a_write_is_charged_before_it_is_stored_and_refused_when_too_little_is_left(api: Harness) -> None:
    """[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a configMap."""
    await ready(api, {"configmaps": "2"}, {"configmaps": "1"})
    assert (await api.ask("POST", f"{NAMESPACE}/configmaps", {"metadata": {"name": "a"}}))[0] == 201
    assert await used(api) == {"configmaps": "2"}
    code, told = await api.ask("POST", f"{NAMESPACE}/configmaps", {"metadata": {"name": "b"}})
    assert (code, told["message"]) == (
        403,
        'configmaps "b" is forbidden: exceeded quota: q, requested: configmaps=1, used: configmaps=2, '
        "limited: configmaps=2",
    )
    assert (await api.ask("PUT", f"{NAMESPACE}/configmaps/a", {"metadata": {"name": "a"}, "data": {"k": "v"}}))[
        0
    ] == 200
    assert await used(api) == {"configmaps": "2"}, "a change that uses no more costs nothing"


async def test_a_dry_run_is_judged_but_not_charged(api: Harness) -> None:
    await ready(api, {"configmaps": "1"}, {"configmaps": "0"})
    made = {"metadata": {"name": "a"}}
    assert (await api.ask("POST", f"{NAMESPACE}/configmaps", made, dryRun="All"))[0] == 201
    assert await used(api) == {"configmaps": "0"}


async def test_a_quota_not_counted_yet_holds_writes_back(api: Harness) -> None:
    await api.ask("POST", f"{NAMESPACE}/resourcequotas", a_quota({"secrets": "1"}))
    code, told = await api.ask("POST", f"{NAMESPACE}/secrets", {"metadata": {"name": "s"}})
    assert (code, told["message"]) == (
        403,
        'secrets "s" is forbidden: status unknown for quota: q, resources: secrets',
    )


async def test_a_pod_must_name_what_is_restrained(api: Harness) -> None:
    await ready(api, {"cpu": "1"}, {"cpu": "0"})
    code, told = await api.ask("POST", f"{NAMESPACE}/pods", pod())
    assert (code, told["message"]) == (403, 'pods "p" is forbidden: failed quota: q: must specify cpu for: c')
