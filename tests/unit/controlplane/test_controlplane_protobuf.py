"""Protobuf at the API server's door: what typed clients write, and what they are answered."""

import pytest

from kube import protobuf, scheme
from kube.client.inprocess import InProcessTransport
from kube.protobuf import wire
from tests.fakes.api_harness import ADMIN, Harness

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
