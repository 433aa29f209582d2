"""Server-side apply over the API: creating, conflicts, options, subresources, and which writes are tracked."""

from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from kube.client.identity import User
from tests.fakes.api_harness import ADMIN, Harness

Object = dict[str, Any]
MAPS = "/api/v1/namespaces/default/configmaps"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
APPLY = {"content-type": "application/apply-patch+yaml"}


def config_map(data: Mapping[str, str] | None = None, **metadata: Any) -> Object:
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", **metadata}}
    return obj if data is None else {**obj, "data": dict(data)}


def deployment(**spec: Any) -> Object:
    labels = {"app": "web"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": "demo:1"}]}}
    whole = {"selector": {"matchLabels": labels}, "template": template, **spec}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": whole}


async def apply(
    api: Harness, obj: Object, path: str = f"{MAPS}/c", *, manager: str = "ci", user: User = ADMIN, **params: str
) -> tuple[int, Object]:
    return await api.ask("PATCH", path, obj, headers=APPLY, user=user, fieldManager=manager, **params)


def managers(obj: Object) -> list[tuple[str, str, str]]:
    entries = obj["metadata"].get("managedFields") or []
    return [(entry["manager"], entry["operation"], entry.get("subresource", "")) for entry in entries]


async def test_applying_makes_what_is_not_there_and_changes_what_is(api: Harness) -> None:
    code, made = await apply(api, config_map({"a": "1", "b": "2"}))
    assert (code, managers(made)) == (201, [("ci", "Apply", "")])
    code, made = await apply(api, config_map({"a": "3"}))
    assert (code, made["data"]) == (200, {"a": "3"})


async def test_a_configuration_may_be_yaml(api: Harness) -> None:
    text = b"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c\ndata:\n  a: hello\n"
    answer = await api.raw("PATCH", f"{MAPS}/c", text, headers=APPLY, fieldManager="ci")
    assert (answer.status, orjson.loads(answer.body)["data"]) == (201, {"a": "hello"})


async def test_applying_the_same_again_keeps_the_revision(api: Harness) -> None:
    _, made = await apply(api, deployment(), f"{DEPLOYMENTS}/web")
    _, again = await apply(api, deployment(), f"{DEPLOYMENTS}/web")
    assert again == made


async def test_a_conflict_names_manager_and_field_and_force_takes_over(api: Harness) -> None:
    await api.ask("POST", MAPS, config_map({"a": "1"}), fieldManager="kubectl-create")
    code, told = await apply(api, config_map({"a": "2"}))
    assert (code, told["reason"]) == (409, "Conflict")
    text = 'Apply failed with 1 conflict: conflict with "kubectl-create" using v1: .data.a'
    assert told["message"] == text
    cause = {"reason": "FieldManagerConflict", "message": 'conflict with "kubectl-create" using v1', "field": ".data.a"}
    assert told["details"]["causes"] == [cause]
    code, made = await apply(api, config_map({"a": "2"}), force="true")
    assert (code, made["data"]) == (200, {"a": "2"})


async def test_a_dry_run_shows_the_outcome_and_keeps_nothing(api: Harness) -> None:
    code, made = await apply(api, config_map({"a": "1"}), dryRun="All")
    assert (code, made["data"]) == (201, {"a": "1"})
    assert (await api.ask("GET", f"{MAPS}/c"))[0] == 404
    await apply(api, config_map({"a": "1"}))
    _, made = await apply(api, config_map({"a": "2"}), dryRun="All")
    assert made["data"] == {"a": "2"}
    assert (await api.ask("GET", f"{MAPS}/c"))[1]["data"] == {"a": "1"}


@pytest.mark.parametrize(
    ("obj", "params", "code", "message"),
    [
        (config_map({"a": "1"}), {"manager": ""}, 422,
         'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch'),
        (config_map(), {"manager": "a\nb"}, 422, "should only contain printable characters"),
        (config_map(), {"manager": "a" * 129}, 422, "fieldManager: Too long: may not be more than 128 bytes"),
        ({**config_map(), "apiVersion": "v2"}, {}, 400,
         "Incorrect version specified in apply patch. Specified patch version: v2, expected: v1"),
        ({"metadata": {"name": "c"}}, {}, 400, "Object 'Kind' is missing in"),
        (config_map(managedFields=[]), {}, 400, "metadata.managedFields must be nil"),
        ({**config_map(), "dtaa": {}}, {}, 400,
         "failed to create typed patch object (default/c; /v1, Kind=ConfigMap): .dtaa: field not declared in schema"),
        ({**config_map(), "data": 5}, {}, 400, "failed to create typed patch object (default/c; /v1, Kind=ConfigMap)"),
        (config_map(uid="u-1"), {}, 409, "uid mismatch: the provided object specified uid u-1"),
        ({**config_map(), "metadata": {"name": "other"}}, {}, 400, "does not match the name on the URL"),
        ([1], {}, 400, "want one object"),
    ],
)  # fmt: skip
async def test_a_configuration_that_cannot_be_applied_is_refused(
    api: Harness, obj: Any, params: dict[str, str], code: int, message: str
) -> None:
    answered, told = await apply(api, obj, **params)
    assert answered == code
    assert message in told["message"]


async def test_an_item_named_twice_is_refused(api: Harness) -> None:
    containers = [{"name": "a", "image": "x"}, {"name": "a", "image": "y"}]
    wish = deployment(template={"spec": {"containers": containers}})
    code, told = await apply(api, wish, f"{DEPLOYMENTS}/web")
    part = '.spec.template.spec.containers: duplicate entries for key [name="a"]'
    assert (code, part in told["message"]) == (400, True)


async def test_force_is_for_applying_only(api: Harness) -> None:
    await api.ask("POST", MAPS, config_map())
    merge = {"content-type": "application/merge-patch+json"}
    code, told = await api.ask("PATCH", f"{MAPS}/c", {}, headers=merge, force="true")
    assert (code, "may not be specified for non-apply patch" in told["message"]) == (422, True)


async def test_applying_what_is_not_there_needs_the_right_to_create(api: Harness) -> None:
    node = User("system:node:n1", ("system:nodes", "system:authenticated"))
    status = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}
    code, _ = await apply(api, status, "/api/v1/nodes/n1", user=node)
    assert code == 201
    account = User("system:serviceaccount:default:web", ("system:authenticated",))
    assert (await apply(api, config_map(), user=account))[0] == 403


async def test_a_status_is_applied_through_its_subresource_only(api: Harness) -> None:
    await apply(api, deployment(), f"{DEPLOYMENTS}/web")
    wish = {**deployment(replicas=7), "status": {"observedGeneration": 1}}
    code, made = await apply(api, wish, f"{DEPLOYMENTS}/web/status", manager="operator")
    assert (code, made["status"], made["spec"]["replicas"]) == (200, {"observedGeneration": 1}, 1)
    assert managers(made) == [("ci", "Apply", ""), ("operator", "Apply", "status")]
    assert made["metadata"]["managedFields"][1]["fieldsV1"] == {"f:status": {"f:observedGeneration": {}}}


async def test_writes_are_tracked_from_the_first_that_names_its_manager(api: Harness) -> None:
    _, made = await api.ask("POST", MAPS, config_map({"a": "1"}))
    assert managers(made) == []
    _, made = await api.ask("PUT", f"{MAPS}/c", config_map({"a": "2"}), fieldManager="kubectl-replace")
    assert managers(made) == []
    _, made = await apply(api, config_map({"b": "1"}))
    assert managers(made) == [("ci", "Apply", ""), ("before-first-apply", "Update", "")]
    headers = {"content-type": "application/merge-patch+json", "user-agent": "operator/v1 (linux)"}
    _, made = await api.ask("PATCH", f"{MAPS}/c", {"data": {"a": "9"}}, headers=headers)
    assert ("operator", "Update", "") in managers(made)


async def test_scaling_is_tracked_as_its_subresource(api: Harness) -> None:
    await apply(api, deployment(replicas=1), f"{DEPLOYMENTS}/web")
    scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web"}, "spec": {"replicas": 4}}
    await api.ask("PUT", f"{DEPLOYMENTS}/web/scale", scale, fieldManager="kubectl-scale")
    code, told = await apply(api, deployment(replicas=2), f"{DEPLOYMENTS}/web")
    assert code == 409
    assert 'conflict with "kubectl-scale" with subresource "scale" using apps/v1: .spec.replicas' in told["message"]


async def test_a_stale_resource_version_in_the_configuration_is_a_conflict(api: Harness) -> None:
    _, made = await apply(api, config_map({"a": "1"}))
    await apply(api, config_map({"a": "2"}))
    stale = config_map({"a": "3"}, resourceVersion=made["metadata"]["resourceVersion"])
    code, told = await apply(api, stale)
    assert (code, "the object has been modified" in told["message"]) == (409, True)


async def test_the_owners_can_be_reset(api: Harness) -> None:
    await apply(api, config_map({"a": "1"}))
    merge = {"content-type": "application/merge-patch+json"}
    _, made = await api.ask("PATCH", f"{MAPS}/c", {"metadata": {"managedFields": [{}]}}, headers=merge)
    assert managers(made) == []


async def test_events_of_the_newer_group_can_be_applied(api: Harness) -> None:
    event = {
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"}, "action": "Testing",
        "eventTime": "2026-01-01T00:00:00.000000Z", "reason": "Test", "type": "Normal", "reportingInstance": "i",
        "reportingController": "tests/apply", "regarding": {"kind": "Pod", "namespace": "default", "name": "p"},
    }  # fmt: skip
    code, made = await apply(api, event, "/apis/events.k8s.io/v1/namespaces/default/events/e")
    assert (code, made["regarding"]["name"]) == (201, "p")
