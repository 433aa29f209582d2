"""Protobuf at the API server's door: what typed clients write, and what they are answered."""

from typing import Any

import orjson
import pytest

from kube import protobuf, scheme
from kube.client.inprocess import InProcessTransport
from kube.protobuf import wire
from tests.fakes.api_harness import ADMIN, Harness

Object = dict[str, Any]
PROTOBUF = "application/vnd.kubernetes.protobuf"


def varint(number: int) -> bytes:
    return bytes([number]) if number < 0x80 else bytes([number & 0x7F | 0x80, *varint(number >> 7)])


def field(number: int, value: int | bytes | str) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def envelope(api_version: str, kind: str, raw: bytes) -> bytes:
    return b"k8s\x00" + field(1, field(1, api_version) + field(2, kind)) + field(2, raw)


async def test_what_typed_clients_write_is_stored_like_json(api: Harness) -> None:
    raw = field(1, field(1, "a")) + field(2, field(1, "k") + field(2, "v"))
    headers = {"content-type": PROTOBUF, "accept": "application/json"}
    path = scheme.CONFIG_MAPS.path(namespace="default")
    answer = await api.raw("POST", path, envelope("v1", "ConfigMap", raw), headers=headers)
    assert answer.status == 201
    assert (await api.ask("GET", f"{path}/a"))[1]["data"] == {"k": "v"}
    options = envelope("v1", "DeleteOptions", field(1, 0) + field(4, "Background"))
    assert (await api.raw("DELETE", f"{path}/a", options, headers=headers)).status == 200
    assert (await api.ask("GET", f"{path}/a"))[0] == 404


READS_PROTOBUF = {"content-type": "application/json", "accept": PROTOBUF}
MAPS = scheme.CONFIG_MAPS.path(namespace="default")


async def test_who_reads_protobuf_only_is_answered_in_it(api: Harness) -> None:
    made = await api.raw("POST", MAPS, b'{"metadata":{"name":"a"},"data":{"k":"v"}}', headers=READS_PROTOBUF)
    assert dict(made.headers)["content-type"] == PROTOBUF
    assert protobuf.decode(made.body)["data"] == {"k": "v"}
    listed = await api.raw("GET", MAPS, headers=READS_PROTOBUF)
    assert listed.body.startswith(b"k8s\x00") and b"ConfigMapList" in listed.body
    missing = await api.raw("GET", f"{MAPS}/none", headers=READS_PROTOBUF)
    assert (missing.status, protobuf.decode(missing.body)["reason"]) == (404, "NotFound")


@pytest.mark.parametrize("accept", [f"{PROTOBUF}, */*", f"{PROTOBUF},application/json", "application/json"])
async def test_who_reads_json_too_is_answered_in_json(api: Harness, accept: str) -> None:
    found = await api.raw("GET", MAPS, headers={"accept": accept})
    assert found.body.startswith(b'{"kind":"ConfigMapList"')


async def test_metadata_alone_has_a_protobuf_form_and_a_table_has_none(api: Harness) -> None:
    await api.ask("POST", MAPS, {"metadata": {"name": "a", "labels": {"x": "y"}}, "data": {"k": "v"}})
    form = "v=v1;g=meta.k8s.io"
    found = await api.raw("GET", f"{MAPS}/a", headers={"accept": f"{PROTOBUF};as=PartialObjectMetadata;{form}"})
    assert protobuf.decode(found.body)["metadata"]["labels"] == {"x": "y"}
    listed = await api.raw("GET", MAPS, headers={"accept": f"{PROTOBUF};as=PartialObjectMetadataList;{form}"})
    assert [item["metadata"]["name"] for item in protobuf.decode(listed.body)["items"]] == ["a"]
    assert (await api.raw("GET", MAPS, headers={"accept": f"{PROTOBUF};as=Table;{form}"})).status == 406
    assert (await api.raw("GET", "/apis", headers={"accept": PROTOBUF})).status == 406


async def test_a_watch_in_protobuf_is_framed_by_length(api: Harness) -> None:
    await api.ask("POST", MAPS, {"metadata": {"name": "a"}})
    transport = InProcessTransport(api.server.app, ADMIN)
    params = {"watch": "1", "timeoutSeconds": "1", "allowWatchBookmarks": "true"}
    async with transport.stream("GET", MAPS, params=params, headers={"accept": f"{PROTOBUF};stream=watch"}) as answer:
        assert dict(answer.headers)["content-type"] == f"{PROTOBUF};stream=watch"
        data = b"".join([chunk async for chunk in answer.chunks])
    seen = []
    while data:
        size = int.from_bytes(data[:4], "big")
        event = dict(wire.fields(data[4 : 4 + size]))
        obj = protobuf.decode(wire.opaque(dict(wire.fields(wire.opaque(event[2])))[1]))
        seen.append((wire.text(event[1]), obj["kind"], obj["metadata"].get("name")))
        data = data[4 + size :]
    assert seen == [("ADDED", "ConfigMap", "a"), ("BOOKMARK", "ConfigMap", None)]


def pod(name: str) -> Object:
    probe = {"httpGet": {"path": "/", "port": "http", "scheme": "HTTP"}, "periodSeconds": 5}
    container = {
        "name": "c", "image": "demo:1", "ports": [{"name": "http", "containerPort": 80}], "readinessProbe": probe,
        "resources": {"limits": {"memory": "1Gi"}}, "env": [{"name": "E", "value": "1"}],
    }  # fmt: skip
    return {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name}, "spec": {"containers": [container]}}


ADDRESS = {"addresses": [{"ip": "10.0.0.1"}], "ports": [{"name": "p", "port": 80}]}
SENT: list[tuple[str, Object]] = [
    ("/api/v1/nodes", {"kind": "Node", "apiVersion": "v1", "status": {"capacity": {"cpu": "2"}, "conditions": [
        {"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}]}}),
    ("/apis/coordination.k8s.io/v1/namespaces/default/leases", {"kind": "Lease", "apiVersion": "coordination.k8s.io/v1",
        "spec": {"holderIdentity": "n", "leaseDurationSeconds": 40, "renewTime": "2026-01-01T00:00:00.000001Z"}}),
    ("/api/v1/namespaces/default/events", {"kind": "Event", "apiVersion": "v1", "reason": "R", "type": "Normal",
        "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"}, "count": 2, "message": "m"}),
    ("/apis/events.k8s.io/v1/namespaces/default/events", {"kind": "Event", "apiVersion": "events.k8s.io/v1",
        "reason": "R", "type": "Normal", "action": "A", "eventTime": "2026-01-01T00:00:00.000001Z",
        "regarding": {"kind": "Pod", "namespace": "default", "name": "p"}, "reportingController": "c/d",
        "reportingInstance": "i"}),
    ("/api/v1/namespaces/default/pods", pod("x")),
    ("/api/v1/namespaces/default/endpoints", {"kind": "Endpoints", "apiVersion": "v1", "subsets": [ADDRESS]}),
    ("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", {"kind": "EndpointSlice", "addressType": "IPv4",
        "apiVersion": "discovery.k8s.io/v1", "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": False}}],
        "ports": [{"name": "p", "port": 80, "protocol": "TCP"}]}),
    ("/api/v1/namespaces/default/secrets", {"kind": "Secret", "apiVersion": "v1", "data": {"k": "AP8="}}),
    ("/apis/apps/v1/namespaces/default/deployments", {"kind": "Deployment", "apiVersion": "apps/v1", "spec": {
        "replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "strategy": {"rollingUpdate": {"maxSurge": 0,
        "maxUnavailable": "10%"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": pod("y")["spec"]}}}),
    ("/apis/apps/v1/namespaces/default/controllerrevisions", {"kind": "ControllerRevision", "apiVersion": "apps/v1",
        "data": {"spec": {"x": [1, None]}}, "revision": 3}),
]  # fmt: skip


def lasting(obj: Object) -> Object:
    fleeting = ("uid", "creationTimestamp", "resourceVersion", "name")
    found = {**obj, "metadata": {key: value for key, value in obj["metadata"].items() if key not in fleeting}}
    if obj["kind"] == "Pod":  # the volume of its token has a random name
        found["spec"] = {key: value for key, value in obj["spec"].items() if key != "volumes"}
        found["spec"]["containers"] = [{**item, "volumeMounts": []} for item in obj["spec"]["containers"]]
    return found


@pytest.mark.parametrize(("path", "obj"), SENT, ids=lambda value: value["kind"] if isinstance(value, dict) else "")
async def test_an_object_is_the_same_whether_it_came_in_json_or_protobuf(api: Harness, path: str, obj: Object) -> None:
    headers = {"content-type": PROTOBUF, "accept": "application/json"}
    first = {**obj, "metadata": {"name": "first", "labels": {"l": "1"}}}
    second = {**obj, "metadata": {"name": "second", "labels": {"l": "1"}}}
    code, by_json = await api.ask("POST", path, first)
    assert code == 201, by_json
    answer = await api.raw("POST", path, protobuf.encode(second), headers=headers)
    assert answer.status == 201, answer.body
    by_protobuf = orjson.loads(answer.body)
    assert lasting(by_protobuf) == lasting(by_json)
    update = await api.raw("PUT", f"{path}/second", protobuf.encode(by_protobuf), headers=headers)
    assert (update.status, lasting(orjson.loads(update.body))) == (200, lasting(by_protobuf))


async def test_what_is_answered_but_not_stored_is_read_from_protobuf(api: Harness) -> None:
    headers = {"content-type": PROTOBUF, "accept": PROTOBUF}
    await api.ask("POST", "/api/v1/namespaces/default/pods", pod("p"))

    async def post(path: str, obj: Object) -> tuple[int, Object]:
        answer = await api.raw("POST", path, protobuf.encode(obj), headers=headers)
        return answer.status, protobuf.decode(answer.body)

    token = {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": {"expirationSeconds": 3607}}
    code, made = await post("/api/v1/namespaces/default/serviceaccounts/default/token", token)
    assert (code, made["spec"]["expirationSeconds"]) == (201, 3607)
    review = {
        "kind": "TokenReview",
        "apiVersion": "authentication.k8s.io/v1",
        "spec": {"token": made["status"]["token"]},
    }
    code, told = await post("/apis/authentication.k8s.io/v1/tokenreviews", review)
    assert (code, told["status"]["authenticated"]) == (201, True)
    asked = {"user": "u", "groups": ["system:masters"], "resourceAttributes": {"verb": "get", "resource": "pods"}}
    access = {"kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "spec": asked}
    code, told = await post("/apis/authorization.k8s.io/v1/subjectaccessreviews", access)
    assert (code, told["status"]["allowed"]) == (201, True)
    binding = {
        "kind": "Binding",
        "apiVersion": "v1",
        "metadata": {"name": "p"},
        "target": {"kind": "Node", "name": "n"},
    }
    assert (await post("/api/v1/namespaces/default/pods/p/binding", binding))[0] == 201
    eviction = {"kind": "Eviction", "apiVersion": "policy/v1", "metadata": {"name": "p"}}
    assert (await post("/api/v1/namespaces/default/pods/p/eviction", eviction))[0] == 201
