"""Protobuf at the API server's door: what typed clients write, and what they are answered."""

from kube import scheme
from tests.fakes.api_harness import Harness

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
