"""Protobuf bodies: built here by hand from the wire rules, read into what JSON would have given."""

import pytest

from kube import protobuf, scheme
from kube.protobuf import build, messages


def varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def field(number: int, value: int | bytes | str) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def envelope(api_version: str, kind: str, raw: bytes) -> bytes:
    meta = field(1, api_version) + field(2, kind)
    return b"k8s\x00" + field(1, meta) + field(2, raw) + field(3, "") + field(4, "")


def entry(key: str, value: bytes | str) -> bytes:
    return field(1, key) + field(2, value)


def test_a_secret_has_base64_data_and_no_empty_fields() -> None:
    meta = field(1, "s") + field(2, "") + field(3, "default") + field(7, 0) + field(11, entry("a", "b"))
    raw = field(1, meta) + field(2, entry("k", b"\x00\xff")) + field(3, "Opaque")
    assert protobuf.decode(envelope("v1", "Secret", raw)) == {
        "kind": "Secret",
        "apiVersion": "v1",
        "metadata": {"name": "s", "namespace": "default", "labels": {"a": "b"}},
        "data": {"k": "AP8="},
        "type": "Opaque",
    }


def test_pointers_keep_their_zero_and_plain_numbers_do_not() -> None:
    spec = field(1, 0) + field(5, 0)  # replicas is a pointer, minReadySeconds is not
    found = protobuf.decode(envelope("apps/v1", "Deployment", field(2, spec)))
    assert found["spec"] == {"replicas": 0}


def test_a_time_in_the_first_seconds_of_year_one_is_a_time_and_only_the_very_first_is_none() -> None:
    """[sig-node] Lease lease API should be available."""
    spec = {"acquireTime": "0001-01-01T00:00:02.000000Z", "renewTime": "0001-01-01T00:00:00.000000Z"}
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "x"}, "spec": spec}
    assert protobuf.decode(protobuf.encode(lease))["spec"] == {**spec, "renewTime": None}


def test_inlined_messages_quantities_ports_and_times() -> None:
    limits = field(1, entry("cpu", field(1, "100m")))
    http = field(1, "/x") + field(2, field(1, 0) + field(2, 80) + field(3, ""))
    probe = field(1, field(2, http)) + field(3, 2)
    container = field(1, "c") + field(8, limits) + field(10, probe)
    volume = field(1, "v") + field(2, field(2, b""))
    meta = field(1, "p") + field(8, field(1, 1_700_000_000) + field(2, 0))
    raw = field(1, meta) + field(2, field(2, container) + field(1, volume))
    found = protobuf.decode(envelope("v1", "Pod", raw))
    assert found["metadata"]["creationTimestamp"] == "2023-11-14T22:13:20Z"
    assert found["spec"]["containers"] == [
        {
            "name": "c",
            "resources": {"limits": {"cpu": "100m"}},
            "livenessProbe": {"httpGet": {"path": "/x", "port": 80}, "timeoutSeconds": 2},
        }
    ]
    assert found["spec"]["volumes"] == [{"name": "v", "emptyDir": {}}]


def test_negative_numbers_and_unknown_fields() -> None:
    raw = field(1, field(1, "x")) + field(2, -5) + field(99, "of a newer release")
    assert protobuf.decode(envelope("scheduling.k8s.io/v1", "PriorityClass", raw))["value"] == -5


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"k8s\x00\x0a",
        b"k8s\x00\x0a\x05ab",
        b"k8s\x00" + b"\xff" * 20,
        envelope("v1", "Nothing", b""),
        envelope("v1", "Pod", b"\x0a\x7f"),
        envelope("v1", "Pod", field(1, 7)),
        envelope("v1", "Pod", b"\x0b"),
        envelope("v1", "Pod", field(1, field(1, b"\xff\xfe"))),
    ],
)
def test_damaged_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(protobuf.Malformed):
        protobuf.decode(data)


@pytest.mark.parametrize("resource", scheme.RESOURCES, ids=lambda resource: resource.kind)
def test_every_served_kind_can_be_read(resource: scheme.Resource) -> None:
    name = messages.name_of(resource.api_version, resource.kind)
    assert name is not None


def test_every_field_has_a_code_or_a_message_that_is_known() -> None:
    table = messages.table()
    kinds = {field.kind for known in table.values() for field in known.values()}
    assert {kind for kind in kinds if kind not in table} == set("sitbQITUFRL")


PROTO = """
syntax = "proto2";
package k8s.io.api.demo.v1;
// A thing. optional string commented = 9;
message Thing {
  // said
  optional .k8s.io.apimachinery.pkg.apis.meta.v1.Time at = 4;
  optional Inner inner = 1;
  optional Inner pointed = 2;
  repeated int64 numbers = 3 [packed = true];
  map<string, bytes> data = 5;
  optional Common common = 6;
  map<string, ExtraValue> extra = 7;
  optional string always = 8;
}
message Inner {
  optional .k8s.io.apimachinery.pkg.api.resource.Quantity much = 1;
}
message Common {
  optional bool flag = 1;
}
message ExtraValue {
  repeated string items = 1;
}
message Unused {
  optional string name = 1;
}
"""
SOURCE = """
type Thing struct {
	// Text `json:"nonsense"`
	Inner `json:"inner,omitempty" protobuf:"bytes,1,opt,name=inner"`
	Pointed *Inner `json:"pointsTo,omitempty" protobuf:"bytes,2,opt,name=pointed"`
	Numbers []int64 `json:"numbers" protobuf:"varint,3,rep,name=numbers"`
	At metav1.Time `json:"at,omitempty,omitzero" protobuf:"bytes,4,opt,name=at"`
	Data map[string][]byte `json:"data,omitempty" protobuf:"bytes,5,rep,name=data"`
	Common `json:",inline" protobuf:"bytes,6,opt,name=common"`
	Extra map[string]ExtraValue `json:"extra,omitempty" protobuf:"bytes,7,rep,name=extra"`
	Always string `json:"always" protobuf:"bytes,8,opt,name=always"`
}
type Inner struct {
	Much resource.Quantity `json:"much,omitempty" protobuf:"bytes,1,opt,name=much"`
}
type Common struct {
	Flag bool `json:"flag,omitempty" protobuf:"varint,1,opt,name=flag"`
}
"""


def test_the_table_is_built_from_numbers_types_and_what_json_leaves_out() -> None:
    assert build.build([(PROTO, SOURCE)], kinds=["k8s.io.api.demo.v1.Thing"]).splitlines() == [
        "demo.v1.Common 1:flag:t",
        "demo.v1.Inner 1:much:!Q",
        "demo.v1.Thing 1:inner:!demo.v1.Inner 2:pointsTo:*demo.v1.Inner 3:numbers:[i 4:at:T 5:data:{b"
        " 6::demo.v1.Common 7:extra:{L 8:always:!s",
    ]


def test_the_committed_table_is_sorted_and_holds_every_kind() -> None:
    names = list(messages.table())
    assert names == sorted(names)
    assert {".".join(name.split(".")[-3:]) for name in build.roots()} <= set(names)
