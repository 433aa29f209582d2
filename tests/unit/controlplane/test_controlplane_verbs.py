"""get, list, create, update, patch and delete, as clients see them."""

from typing import Any

import orjson
import pytest

from tests.fakes.api_harness import ADMIN, JSON, Harness

Object = dict[str, Any]
MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
MERGE = {"content-type": "application/merge-patch+json"}


def config_map(name: str, **data: str) -> Object:
    return {"metadata": {"name": name, "labels": {"app": name}}, "data": data}


def pod(name: str, **spec: Any) -> Object:
    return {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "demo:1"}], **spec}}


async def test_a_created_object_is_complete_and_is_read_back_as_stored(api: Harness) -> None:
    code, made = await api.ask("POST", MAPS, config_map("a", k="v"))
    assert code == 201
    assert (made["kind"], made["apiVersion"]) == ("ConfigMap", "v1")
    assert made["metadata"]["namespace"] == "default"
    assert made["metadata"]["uid"] and made["metadata"]["creationTimestamp"].endswith("Z")
    assert made["metadata"]["resourceVersion"] == str(api.storage.revision)
    assert await api.ask("GET", f"{MAPS}/a") == (200, made)


@pytest.mark.parametrize(
    ("method", "path", "body", "code", "reason", "message"),
    [
        ("GET", f"{MAPS}/a", None, 404, "NotFound", 'configmaps "a" not found'),
        ("GET", "/apis/apps/v1/namespaces/default/deployments/a", None, 404, "NotFound",
         'deployments.apps "a" not found'),
        ("GET", "/api/v1/namespaces/default/nothings", None, 404, "NotFound",
         "the server could not find the requested resource"),
        ("GET", "/apis/none/v1/things", None, 404, "NotFound", "the server could not find the requested resource"),
        ("POST", "/api/v1/namespaces/nowhere/configmaps", config_map("a"), 404, "NotFound",
         'namespaces "nowhere" not found'),
        ("POST", MAPS, {"metadata": {}}, 422, "Invalid",
         'ConfigMap "" is invalid: metadata.name: Required value: name or generateName is required'),
        ("POST", MAPS, {"metadata": {"name": "a", "namespace": "other"}}, 400, "BadRequest",
         "the namespace of the provided object does not match the namespace sent on the request (other != default)"),
        ("POST", MAPS, {"kind": "Pod", "metadata": {"name": "a"}}, 400, "BadRequest",
         "the kind in the data (Pod) does not match the expected kind (ConfigMap)"),
        ("POST", MAPS, [1], 400, "BadRequest", "the body must be one object, found a list"),
        ("POST", f"{MAPS}/a", config_map("a"), 405, "MethodNotAllowed",
         'create is not supported on resources of kind "configmaps"'),
        ("PUT", f"{MAPS}/a", config_map("b"), 400, "BadRequest",
         "the name of the object (b) does not match the name on the URL (a)"),
        ("DELETE", "/api/v1/namespaces/default", None, 403, "Forbidden",
         'namespaces "default" is forbidden: this namespace may not be deleted'),
        ("DELETE", f"{MAPS}/a", {"propagationPolicy": "Sometimes"}, 422, "Invalid", None),
    ],
)  # fmt: skip
async def test_what_cannot_be_done_is_refused_in_upstreams_words(
    api: Harness, method: str, path: str, body: Any, code: int, reason: str, message: str | None
) -> None:
    before = api.storage.revision
    answered, told = await api.ask(method, path, body)
    assert (answered, told["reason"], told["code"], told["status"]) == (code, reason, code, "Failure")
    if message is not None:
        assert told["message"] == message
    assert api.storage.revision == before


@pytest.mark.parametrize(
    ("body", "content_type", "code", "part"),
    [
        (b"{", "application/json", 400, "unexpected end"),
        (b"", "application/json", 400, "unexpected end of JSON input"),
        (b"a: [", "application/yaml", 400, "error converting YAML to JSON: yaml:"),
        (b"x", "text/plain", 415, "unknown format"),
        (b"x" * (3 * 1024 * 1024 + 1), "application/json", 413, "limit is 3145728"),
        (b"nonsense", "application/vnd.kubernetes.protobuf", 400, "protobuf"),
    ],
)
async def test_malformed_bodies_are_refused(api: Harness, body: bytes, content_type: str, code: int, part: str) -> None:
    answer = await api.raw("POST", MAPS, body, headers={"content-type": content_type})
    assert answer.status == code
    assert part in orjson.loads(answer.body)["message"]


async def test_yaml_is_read_and_written(api: Harness) -> None:
    headers = {"content-type": "application/yaml", "accept": "application/yaml"}
    answer = await api.raw("POST", MAPS, b"metadata:\n  name: a\ndata:\n  k: 'yes'\n", headers=headers)
    assert answer.status == 201
    assert answer.headers["content-type"] == "application/yaml"
    assert b"k: 'yes'" in answer.body


async def test_a_name_is_generated_from_its_base(api: Harness) -> None:
    _, made = await api.ask("POST", MAPS, {"metadata": {"generateName": "x-"}})
    name = made["metadata"]["name"]
    assert name.startswith("x-") and len(name) == 7


async def test_a_taken_name_is_a_conflict(api: Harness) -> None:
    await api.ask("POST", MAPS, config_map("a"))
    code, told = await api.ask("POST", MAPS, config_map("a"))
    assert (code, told["reason"], told["message"]) == (409, "AlreadyExists", 'configmaps "a" already exists')


async def test_a_dry_run_shows_the_result_and_keeps_nothing(api: Harness) -> None:
    before = api.storage.revision
    code, made = await api.ask("POST", MAPS, config_map("a"), dryRun="All")
    assert code == 201 and made["metadata"]["uid"]
    service = {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}
    assert (await api.ask("POST", "/api/v1/namespaces/default/services", service, dryRun="All"))[0] == 201
    assert api.storage.revision == before
    await api.ask("POST", MAPS, config_map("a", k="v"))
    before = api.storage.revision
    assert (await api.ask("PATCH", f"{MAPS}/a", {"data": {"k": "w"}}, headers=MERGE, dryRun="All"))[1]["data"] == {
        "k": "w"
    }
    assert (await api.ask("DELETE", f"{MAPS}/a", dryRun="All"))[0] == 200
    assert api.storage.revision == before
    assert (await api.ask("POST", MAPS, config_map("b"), dryRun="Some"))[0] == 422


async def test_strict_fields_are_refused_warned_about_or_dropped(api: Harness) -> None:
    body = {**config_map("a"), "foo": 1}
    code, told = await api.ask("POST", MAPS, body, fieldValidation="Strict")
    assert code == 400
    assert told["message"] == (
        'ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "foo"'
    )
    answer = await api.raw("POST", MAPS, orjson.dumps(body))
    assert answer.status == 201 and answer.headers["warning"] == '299 - "unknown field \\"foo\\""'
    assert "foo" not in orjson.loads(answer.body)
    answer = await api.raw("POST", MAPS, orjson.dumps({**config_map("b"), "foo": 1}), fieldValidation="Ignore")
    assert answer.status == 201 and "warning" not in answer.headers
    twice = b'{"metadata":{"name":"c"},"data":{"k":"1","k":"2"}}'
    answer = await api.raw("POST", MAPS, twice, fieldValidation="Strict")
    assert 'duplicate field "data.k"' in orjson.loads(answer.body)["message"]
    assert (await api.ask("POST", MAPS, config_map("d"), fieldValidation="Maybe"))[0] == 422


async def test_an_update_needs_the_present_revision_or_none(api: Harness) -> None:
    _, made = await api.ask("POST", MAPS, config_map("a", k="1"))
    _, second = await api.ask("PUT", f"{MAPS}/a", {**made, "data": {"k": "2"}})
    assert int(second["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])
    code, told = await api.ask("PUT", f"{MAPS}/a", {**made, "data": {"k": "3"}})
    assert (code, told["message"]) == (
        409,
        'Operation cannot be fulfilled on configmaps "a": the object has been modified; '
        "please apply your changes to the latest version and try again",
    )
    code, third = await api.ask("PUT", f"{MAPS}/a", config_map("a", k="4"))
    assert (code, third["data"]) == (200, {"k": "4"})
    assert third["metadata"]["uid"] == made["metadata"]["uid"]


async def test_an_update_that_changes_nothing_keeps_the_revision(api: Harness) -> None:
    _, made = await api.ask("POST", MAPS, config_map("a", k="1"))
    assert await api.ask("PUT", f"{MAPS}/a", made) == (200, made)
    assert await api.ask("PATCH", f"{MAPS}/a", {"data": {"k": "1"}}, headers=MERGE) == (200, made)


async def test_the_three_kinds_of_patch(api: Harness) -> None:
    deployments = "/apis/apps/v1/namespaces/default/deployments"
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "one:1"}]}}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    assert (await api.ask("POST", deployments, {"metadata": {"name": "d"}, "spec": spec}))[0] == 201
    strategic = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "two:2"}]}}}}
    code, found = await api.ask(
        "PATCH", f"{deployments}/d", strategic, headers={"content-type": "application/strategic-merge-patch+json"}
    )
    container = found["spec"]["template"]["spec"]["containers"][0]
    assert (code, container["image"], container["imagePullPolicy"]) == (200, "two:2", "IfNotPresent")
    assert found["metadata"]["generation"] == 2
    operations = [{"op": "replace", "path": "/spec/replicas", "value": 3}]
    jsonpatch = {"content-type": "application/json-patch+json"}
    _, found = await api.ask("PATCH", f"{deployments}/d", operations, headers=jsonpatch)
    assert found["spec"]["replicas"] == 3
    _, found = await api.ask("PATCH", f"{deployments}/d", {"metadata": {"labels": {"x": "y"}}}, headers=MERGE)
    assert found["metadata"]["labels"] == {"x": "y"}
    code, told = await api.ask("PATCH", f"{deployments}/d", {}, headers={"content-type": "application/json"})
    assert (code, told["reason"]) == (415, "UnsupportedMediaType")
    code, told = await api.ask(
        "PATCH", f"{deployments}/d", [{"op": "test", "path": "/x", "value": 1}], headers=jsonpatch
    )
    assert code == 422


async def test_scale_reads_and_writes_replicas_only(api: Harness) -> None:
    deployments = "/apis/apps/v1/namespaces/default/deployments"
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "one:1"}]}}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template, "replicas": 2}
    await api.ask("POST", deployments, {"metadata": {"name": "d"}, "spec": spec})
    code, scale = await api.ask("GET", f"{deployments}/d/scale")
    assert (code, scale["kind"], scale["spec"], scale["status"]["selector"]) == (200, "Scale", {"replicas": 2}, "a=b")
    code, scale = await api.ask("PUT", f"{deployments}/d/scale", {**scale, "spec": {"replicas": 5}})
    assert (code, scale["spec"]) == (200, {"replicas": 5})
    code, scale = await api.ask("PATCH", f"{deployments}/d/scale", {"spec": {"replicas": 1}}, headers=MERGE)
    assert (code, scale["spec"]) == (200, {"replicas": 1})
    code, _ = await api.ask("PATCH", f"{deployments}/d/scale", {"spec": {"replicas": -1}}, headers=MERGE)
    assert code == 422
    assert (await api.ask("GET", f"{deployments}/d"))[1]["spec"]["replicas"] == 1


async def test_status_changes_only_through_its_own_door(api: Harness) -> None:
    _, made = await api.ask("POST", PODS, pod("p"))
    assert made["status"]["phase"] == "Pending"
    headers = {"content-type": "application/merge-patch+json"}
    _, found = await api.ask("PATCH", f"{PODS}/p", {"status": {"phase": "Running"}}, headers=headers)
    assert found["status"]["phase"] == "Pending"
    patch = {"status": {"phase": "Running"}, "spec": {"nodeName": "n"}}
    _, found = await api.ask("PATCH", f"{PODS}/p/status", patch, headers=headers)
    assert found["status"]["phase"] == "Running"
    assert "nodeName" not in found["spec"]


async def test_a_deleted_object_answers_a_status_and_is_gone(api: Harness) -> None:
    _, made = await api.ask("POST", MAPS, config_map("a"))
    uid = made["metadata"]["uid"]
    code, told = await api.ask("DELETE", f"{MAPS}/a", {"preconditions": {"uid": "other"}})
    assert (code, told["reason"]) == (409, "Conflict")
    code, told = await api.ask("DELETE", f"{MAPS}/a", {"preconditions": {"uid": uid}})
    assert (code, told["status"], told["details"]) == (200, "Success", {"name": "a", "kind": "configmaps", "uid": uid})
    assert (await api.ask("GET", f"{MAPS}/a"))[0] == 404


async def test_finalizers_hold_a_deletion_until_the_last_is_taken_away(api: Harness) -> None:
    body = config_map("a")
    body["metadata"]["finalizers"] = ["example.com/wait"]
    await api.ask("POST", MAPS, body)
    _, found = await api.ask("DELETE", f"{MAPS}/a")
    assert found["metadata"]["deletionTimestamp"]
    code, told = await api.ask(
        "PATCH", f"{MAPS}/a", {"metadata": {"finalizers": ["example.com/wait", "a.b/c"]}}, headers=MERGE
    )
    assert code == 422 and "no new finalizers can be added" in told["message"]
    code, _ = await api.ask("PATCH", f"{MAPS}/a", {"metadata": {"finalizers": None}}, headers=MERGE)
    assert code == 200
    assert (await api.ask("GET", f"{MAPS}/a"))[0] == 404


@pytest.mark.parametrize(("policy", "finalizers"), [("Foreground", ["foregroundDeletion"]), ("Orphan", ["orphan"])])
async def test_a_propagation_policy_becomes_a_finalizer(api: Harness, policy: str, finalizers: list[str]) -> None:
    await api.ask("POST", MAPS, config_map("a"))
    _, found = await api.ask("DELETE", f"{MAPS}/a", propagationPolicy=policy)
    assert found["metadata"]["finalizers"] == finalizers
    code, _ = await api.ask("DELETE", f"{MAPS}/a", propagationPolicy="Background")
    assert code == 200
    assert (await api.ask("GET", f"{MAPS}/a"))[0] == 404


async def test_a_bound_pod_ends_gracefully_and_a_second_deletion_may_only_shorten(api: Harness) -> None:
    await api.ask("POST", PODS, pod("p", nodeName="n"))
    _, found = await api.ask("DELETE", f"{PODS}/p")
    assert found["metadata"]["deletionGracePeriodSeconds"] == 30
    _, again = await api.ask("DELETE", f"{PODS}/p", gracePeriodSeconds="60")
    assert again["metadata"]["deletionGracePeriodSeconds"] == 30
    _, shorter = await api.ask("DELETE", f"{PODS}/p", gracePeriodSeconds="5")
    assert shorter["metadata"]["deletionGracePeriodSeconds"] == 5
    assert shorter["metadata"]["deletionTimestamp"] < found["metadata"]["deletionTimestamp"]
    code, _ = await api.ask("DELETE", f"{PODS}/p", gracePeriodSeconds="0")
    assert code == 200
    assert (await api.ask("GET", f"{PODS}/p"))[0] == 404


async def test_a_pod_without_a_node_goes_at_once(api: Harness) -> None:
    await api.ask("POST", PODS, pod("p"))
    assert (await api.ask("DELETE", f"{PODS}/p"))[0] == 200
    assert (await api.ask("GET", f"{PODS}/p"))[0] == 404


async def test_a_collection_is_deleted_by_selector(api: Harness) -> None:
    for name in "abc":
        await api.ask("POST", MAPS, config_map(name))
    code, found = await api.ask("DELETE", MAPS, labelSelector="app in (a,b)")
    assert (code, [item["metadata"]["name"] for item in found["items"]]) == (200, ["a", "b"])
    _, left = await api.ask("GET", MAPS)
    assert [item["metadata"]["name"] for item in left["items"]] == ["c"]


async def test_a_namespace_ends_when_its_finalizer_is_taken(api: Harness) -> None:
    await api.ask("POST", "/api/v1/namespaces", {"metadata": {"name": "t"}})
    _, found = await api.ask("DELETE", "/api/v1/namespaces/t")
    assert (found["status"]["phase"], found["spec"]["finalizers"]) == ("Terminating", ["kubernetes"])
    code, told = await api.ask("POST", "/api/v1/namespaces/t/configmaps", config_map("a"))
    assert (code, told["details"]["causes"][0]["reason"]) == (403, "NamespaceTerminating")
    assert told["message"] == (
        'configmaps "a" is forbidden: unable to create new content in namespace t because it is being terminated'
    )
    code, _ = await api.ask("PUT", "/api/v1/namespaces/t/finalize", {"metadata": {"name": "t"}, "spec": {}})
    assert code == 200
    assert (await api.ask("GET", "/api/v1/namespaces/t"))[0] == 404


async def test_a_pod_is_bound_once(api: Harness) -> None:
    await api.ask("POST", PODS, pod("p"))
    binding = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}}
    code, told = await api.ask("POST", f"{PODS}/p/binding", binding)
    assert (code, told["status"]) == (201, "Success")
    _, found = await api.ask("GET", f"{PODS}/p")
    assert found["spec"]["nodeName"] == "n1"
    assert [c["type"] for c in found["status"]["conditions"] if c["status"] == "True"] == ["PodScheduled"]
    code, told = await api.ask("POST", f"{PODS}/p/binding", binding)
    assert (code, told["message"]) == (
        409,
        'Operation cannot be fulfilled on pods/binding "p": pod p is already assigned to node "n1"',
    )


async def test_events_are_one_set_under_two_groups(api: Harness) -> None:
    event = {
        "metadata": {"name": "e", "namespace": "default"},
        "regarding": {"kind": "Pod", "name": "p", "namespace": "default"},
        "eventTime": "2026-11-23T15:00:00.000000Z",
        "reportingController": "tests",
        "reportingInstance": "one",
        "action": "Do",
        "reason": "Done",
        "note": "it is done",
        "type": "Normal",
    }
    code, made = await api.ask("POST", "/apis/events.k8s.io/v1/namespaces/default/events", event)
    assert (code, made["apiVersion"], made["note"]) == (201, "events.k8s.io/v1", "it is done")
    code, found = await api.ask("GET", "/api/v1/namespaces/default/events/e")
    assert (found["apiVersion"], found["message"], found["involvedObject"]["name"]) == ("v1", "it is done", "p")
    _, listed = await api.ask("GET", "/apis/events.k8s.io/v1/events")
    assert [item["regarding"]["name"] for item in listed["items"]] == ["p"]


async def test_a_full_store_answers_503_and_says_why(api: Harness) -> None:
    api.backend.full = True
    code, told = await api.ask("POST", MAPS, config_map("a"))
    assert (code, told["reason"], told["message"]) == (503, "ServiceUnavailable", "no space left")
    api.backend.full = False
    assert (await api.ask("POST", MAPS, config_map("a")))[0] == 201


async def test_every_answer_has_an_audit_id(api: Harness) -> None:
    first = await api.raw("GET", MAPS, user=ADMIN)
    second = await api.raw("GET", "/nothing", headers=JSON)
    assert len(first.headers["audit-id"]) == 36
    assert first.headers["audit-id"] != second.headers["audit-id"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("DELETE", f"{MAPS}/a", {"preconditions": 5}),
        ("DELETE", f"{MAPS}/a", {"gracePeriodSeconds": "soon"}),
        ("POST", f"{PODS}/p/binding", {"target": 5}),
        ("POST", f"{PODS}/p/eviction", {"deleteOptions": []}),
        ("PUT", "/apis/apps/v1/namespaces/default/deployments/d/scale",
         {"apiVersion": "autoscaling/v1", "kind": "Scale", "spec": 5}),
        ("PUT", "/api/v1/namespaces/default/finalize", {"metadata": {"name": "default"}, "spec": []}),
        ("POST", MAPS, {"metadata": {"name": 5}}),
        ("POST", MAPS, {"metadata": 5}),
    ],
)  # fmt: skip
async def test_wrong_types_anywhere_are_a_bad_request(api: Harness, method: str, path: str, body: Any) -> None:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "one:1"}]}}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    await api.ask("POST", "/apis/apps/v1/namespaces/default/deployments", {"metadata": {"name": "d"}, "spec": spec})
    code, told = await api.ask(method, path, body)
    assert (code, told["reason"]) == (400, "BadRequest")


async def test_an_object_nested_too_deeply_is_a_bad_request(api: Harness) -> None:
    data = b'{"metadata":{"name":"a"},"data":' + b'{"x":' * 1000 + b"1" + b"}" * 1001
    assert (await api.raw("POST", MAPS, data)).status == 400
    assert (await api.raw("POST", MAPS, b"[" * 100_000)).status == 400


async def test_endpoints_are_answered_with_a_warning(api: Harness) -> None:
    answer = await api.raw("GET", "/api/v1/endpoints")
    assert answer.headers["warning"].endswith(
        'v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"'
    )


async def test_a_json_patch_may_put_something_into_a_status_nobody_has_written_yet(api: Harness) -> None:
    """[sig-node] [DRA] CRUD Tests resource.k8s.io/v1 ResourceClaim."""
    budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
    await api.ask("POST", budgets, {"metadata": {"name": "b"}, "spec": {}})
    patch = {"content-type": "application/json-patch+json"}
    operation = {"op": "add", "path": "/status/expectedPods", "value": 1}
    code, found = await api.ask("PATCH", f"{budgets}/b/status", [operation], headers=patch)
    assert (code, found["status"]) == (200, {"expectedPods": 1})
    label = {"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}
    await api.ask("POST", budgets, {"metadata": {"name": "c"}, "spec": {}})
    code, found = await api.ask("PATCH", f"{budgets}/c", [label], headers=patch)
    assert (code, "status" in found) == (200, False), "and nothing is left of it"
