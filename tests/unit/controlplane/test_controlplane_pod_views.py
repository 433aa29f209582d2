"""Ephemeral containers, resizing in place and a kubelet's own API, as the API server serves them."""

from typing import Any

import pytest

from controlplane.apiserver import dispatch
from kube import scheme
from tests.fakes.api_harness import Harness

Object = dict[str, Any]
PODS = "/api/v1/namespaces/default/pods"
STRATEGIC = {"content-type": "application/strategic-merge-patch+json"}
GUARANTEED = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "100m", "memory": "64Mi"}}


async def create(api: Harness, **spec: Any) -> Object:
    containers = [{"name": "c", "image": "demo:1", "resources": GUARANTEED}]
    body = {"metadata": {"name": "p"}, "spec": {"nodeName": "n1", "containers": containers, **spec}}
    code, made = await api.ask("POST", PODS, body)
    assert code == 201, made
    return made


async def patch(api: Harness, subresource: str, spec: Any) -> tuple[int, Object]:
    return await api.ask("PATCH", f"{PODS}/p/{subresource}", {"spec": spec}, headers=STRATEGIC)


async def test_an_ephemeral_container_is_added_and_nothing_else_changes(api: Harness) -> None:
    before = await create(api)
    added = [{"name": "debug", "image": "demo:2", "targetContainerName": "c"}]
    code, after = await patch(api, "ephemeralcontainers", {"ephemeralContainers": added, "nodeName": "other"})
    assert code == 200, after
    found = after["spec"]["ephemeralContainers"][0]
    assert (found["name"], found["terminationMessagePolicy"]) == ("debug", "File")
    assert after["spec"]["nodeName"] == "n1"
    assert after["metadata"]["generation"] == before["metadata"]["generation"] + 1
    code, read = await api.ask("GET", f"{PODS}/p/ephemeralcontainers")
    assert (code, read["spec"]["ephemeralContainers"][0]["name"]) == (200, "debug")


@pytest.mark.parametrize(
    ("containers", "message"),
    [
        ([], 'existing ephemeral containers "debug" may not be removed'),
        ([{"name": "debug", "image": "other"}], 'existing ephemeral containers "debug" may not be changed'),
        ([{"name": "c", "image": "x"}], "Duplicate value"),
        ([{"name": "x", "image": "x", "targetContainerName": "no"}], "targetContainerName: Not found"),
    ],
)
async def test_ephemeral_containers_are_only_ever_added(api: Harness, containers: list[Object], message: str) -> None:
    await create(api)
    await patch(api, "ephemeralcontainers", {"ephemeralContainers": [{"name": "debug", "image": "demo:2"}]})
    merge = {"content-type": "application/merge-patch+json"}
    body = {"spec": {"ephemeralContainers": containers}}
    code, answer = await api.ask("PATCH", f"{PODS}/p/ephemeralcontainers", body, headers=merge)
    assert code == 422
    assert message in answer["message"]


async def test_amounts_of_a_running_pod_are_changed_by_patch_and_by_replacement(api: Harness) -> None:
    before = await create(api)
    wanted = {"requests": {"cpu": "200m", "memory": "64Mi"}, "limits": {"cpu": "200m", "memory": "64Mi"}}
    code, after = await patch(api, "resize", {"containers": [{"name": "c", "resources": wanted, "image": "other"}]})
    assert code == 200, after
    container = after["spec"]["containers"][0]
    assert (container["resources"], container["image"]) == (wanted, "demo:1")
    assert after["metadata"]["generation"] == before["metadata"]["generation"] + 1
    after["spec"]["containers"][0]["resources"] = GUARANTEED
    code, last = await api.ask("PUT", f"{PODS}/p/resize", after)
    assert (code, last["spec"]["containers"][0]["resources"]) == (200, GUARANTEED)
    assert last["metadata"]["generation"] == 3


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ({"requests": {"cpu": "50m"}}, "Pod QOS Class may not change as a result of resizing"),
        ({"limits": {"cpu": None}}, "resource limits cannot be removed"),
        ({"limits": {"ephemeral-storage": "1Gi"}}, "only cpu and memory resources are mutable"),
        ({"limits": {"cpu": "-1"}, "requests": {"cpu": "-1"}}, "must be greater than or equal to 0"),
    ],
)
async def test_a_resize_that_makes_no_sense_is_refused(api: Harness, resources: Object, message: str) -> None:
    await create(api)
    code, answer = await patch(api, "resize", {"containers": [{"name": "c", "resources": resources}]})
    assert code == 422
    assert message in answer["message"]


async def test_an_ordinary_update_still_may_not_resize(api: Harness) -> None:
    await create(api)
    wanted = {"requests": {"cpu": "200m"}, "limits": {"cpu": "200m"}}
    body = {"spec": {"containers": [{"name": "c", "resources": wanted}]}}
    code, answer = await api.ask("PATCH", f"{PODS}/p", body, headers=STRATEGIC)
    assert code == 422
    assert "pod updates may not change fields other than" in answer["message"]


def test_every_subresource_that_is_advertised_is_served() -> None:
    for resource in scheme.RESOURCES:
        for name in resource.subresources:
            found = scheme.subresource(resource, name=name)
            assert found is not None
            _, verbs = dispatch.SUBRESOURCES.get(name, (None, dispatch.VIEWS.get(name, ())))
            assert set(found.verbs) <= set(verbs), f"{resource.plural}/{name}"
