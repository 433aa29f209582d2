"""Disruption budgets: how many pods may go, and evictions that take one off or are held back."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from controlplane.controllers import disruption
from controlplane.projection import BudgetStatus, Pod, PodDisruptionBudget
from tests.fakes.api_harness import Harness

Object = dict[str, Any]
NOW = datetime(2026, 1, 1, 0, 1, 0, tzinfo=UTC)
NAMESPACE = "/api/v1/namespaces/default"
BUDGETS = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
MERGE = {"content-type": "application/merge-patch+json"}
SELECTOR = {"matchLabels": {"app": "web"}}


def pod(name: str, *, ready: bool = True, owner: str = "rs", leaving: bool = False) -> Pod:
    meta: Object = {"name": name, "namespace": "default", "uid": name, "labels": {"app": "web"}}
    if owner:
        kind = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner}
        meta["ownerReferences"] = [{**kind, "uid": owner, "controller": True}]
    if leaving:
        meta["deletionTimestamp"] = "2026-01-01T00:00:50Z"
    state = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True" if ready else "False"}]}
    return msgspec.convert({"metadata": meta, "status": state}, Pod)


def judged(*pods: Pod, state: Object | None = None, sizes: dict[str, int] | None = None, **spec: Any) -> BudgetStatus:
    meta = {"name": "b", "namespace": "default", "uid": "b", "generation": 2}
    made = {"metadata": meta, "spec": {"selector": SELECTOR, **spec}, "status": state or {}}
    budget = msgspec.convert(made, PodDisruptionBudget)
    return disruption.status(budget, pods, sizes={"rs": 4} if sizes is None else sizes, now=NOW)


@pytest.mark.parametrize(
    ("spec", "allowed", "desired", "expected"),
    [
        ({"minAvailable": 1}, 2, 1, 3),
        ({"minAvailable": 3}, 0, 3, 3),
        ({"minAvailable": "50%"}, 1, 2, 4),
        ({"maxUnavailable": 2}, 1, 2, 4),
        ({"maxUnavailable": "25%"}, 0, 3, 4),
        ({"maxUnavailable": 9}, 3, 0, 4),
    ],
)
def test_as_many_may_go_as_the_budget_leaves(spec: Object, allowed: int, desired: int, expected: int) -> None:
    found = judged(pod("a"), pod("b"), pod("c"), **spec)
    assert (found.disruptions_allowed, found.desired_healthy, found.expected_pods) == (allowed, desired, expected)
    assert found.observed_generation == 2
    assert [(each.type, each.status) for each in found.conditions] == [("DisruptionAllowed", str(allowed > 0))]


def test_only_ready_pods_that_stay_are_healthy() -> None:
    evicted = {"disruptedPods": {"d": "2026-01-01T00:00:50Z", "old": "2026-01-01T00:00:50Z"}}
    pods = (pod("a"), pod("b", ready=False), pod("c", leaving=True), pod("d"))
    found = judged(*pods, state=evicted, minAvailable=1)
    assert (found.current_healthy, found.disruptions_allowed) == (1, 0)
    assert list(found.disrupted_pods) == ["d"], "what is gone is no longer waited for"


def test_an_eviction_that_removed_nothing_is_forgotten() -> None:
    found = judged(pod("a"), state={"disruptedPods": {"a": "2025-12-31T23:58:00Z"}}, minAvailable=0)
    assert (found.disrupted_pods, found.current_healthy) == ({}, 1)


def test_a_share_of_pods_without_a_controller_cannot_be_counted() -> None:
    found = judged(pod("a", owner=""), maxUnavailable=1)
    assert found.disruptions_allowed == 0
    assert [(each.reason, each.message) for each in found.conditions] == [
        ("SyncFailed", 'found no controllers for pod "a"')
    ]


async def running(api: Harness, *, ready: bool = True) -> None:
    """The pod `p` of the app web, running."""
    meta = {"name": "p", "labels": {"app": "web"}}
    spec = {"nodeName": "n", "containers": [{"name": "c", "image": "x:1"}]}
    await api.ask("POST", f"{NAMESPACE}/pods", {"metadata": meta, "spec": spec})
    state = {"phase": "Running", "conditions": [{"type": "Ready", "status": str(ready)}]}
    await api.ask("PATCH", f"{NAMESPACE}/pods/p/status", {"status": state}, headers=MERGE)


async def budget(api: Harness, name: str = "b", *, spec: Object | None = None, **state: Any) -> None:
    made = {"metadata": {"name": name}, "spec": {"selector": SELECTOR, "minAvailable": 1, **(spec or {})}}
    assert (await api.ask("POST", BUDGETS, made))[0] == 201
    counted = {"status": {"observedGeneration": 1, "disruptionsAllowed": 0, **state}}
    assert (await api.ask("PATCH", f"{BUDGETS}/{name}/status", counted, headers=MERGE))[0] == 200


async def evict(api: Harness) -> tuple[int, Object]:
    return await api.ask("POST", f"{NAMESPACE}/pods/p/eviction", {"metadata": {"name": "p"}})


async def test_an_eviction_takes_one_off_and_says_why_the_pod_goes(api: Harness) -> None:
    """[sig-apps] DisruptionController should block an eviction until the PDB is updated to allow it."""
    await running(api)
    await budget(api, disruptionsAllowed=1, desiredHealthy=1, currentHealthy=2)
    assert (await evict(api))[0] == 201
    _, found = await api.ask("GET", f"{BUDGETS}/b")
    assert (found["status"]["disruptionsAllowed"], list(found["status"]["disruptedPods"])) == (0, ["p"])
    _, gone = await api.ask("GET", f"{NAMESPACE}/pods/p")
    assert gone["metadata"]["deletionTimestamp"]
    assert "EvictionByEvictionAPI" in [each.get("reason") for each in gone["status"]["conditions"]]


async def test_a_budget_that_is_used_up_holds_an_eviction_back(api: Harness) -> None:
    await running(api)
    await budget(api, desiredHealthy=1, currentHealthy=1)
    code, told = await evict(api)
    assert (code, told["reason"]) == (429, "TooManyRequests")
    assert told["message"] == "Cannot evict pod as it would violate the pod's disruption budget."
    assert told["details"]["causes"] == [
        {"reason": "DisruptionBudget", "message": "The disruption budget b needs 1 healthy pods and has 1 currently"}
    ]


async def test_a_budget_not_counted_yet_holds_an_eviction_back_for_a_while(api: Harness) -> None:
    await running(api)
    await budget(api, observedGeneration=0, disruptionsAllowed=5)
    code, told = await evict(api)
    assert (code, told["details"]["retryAfterSeconds"]) == (429, 10)


async def test_two_budgets_for_one_pod_are_refused(api: Harness) -> None:
    await running(api)
    await budget(api, "a", disruptionsAllowed=1)
    await budget(api, "b", disruptionsAllowed=1)
    code, told = await evict(api)
    assert code == 500
    assert "more than one PodDisruptionBudget" in told["message"]


@pytest.mark.parametrize(
    ("policy", "healthy", "code"),
    [("IfHealthyBudget", 1, 201), ("IfHealthyBudget", 0, 429), ("AlwaysAllow", 0, 201)],
)
async def test_a_pod_that_is_not_ready_may_go_as_the_policy_says(
    api: Harness, policy: str, healthy: int, code: int
) -> None:
    await running(api, ready=False)
    await budget(api, spec={"unhealthyPodEvictionPolicy": policy}, desiredHealthy=1, currentHealthy=healthy)
    assert (await evict(api))[0] == code
