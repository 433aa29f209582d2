"""Protobuf both ways, checked against Google's own implementation: descriptors are made here from the same numbers."""

import base64
import itertools
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kube import protobuf, schema, scheme
from kube.protobuf import messages, wire
from kube.protobuf.messages import Field

Object = dict[str, Any]
FIELD = descriptor_pb2.FieldDescriptorProto
SCALARS = {
    "s": FIELD.TYPE_STRING,
    "i": FIELD.TYPE_INT64,
    "t": FIELD.TYPE_BOOL,
    "d": FIELD.TYPE_DOUBLE,
    "b": FIELD.TYPE_BYTES,
}
SPECIAL = {"Q": "s", "I": "iis", "T": "ii", "U": "ii", "F": "b", "R": "b", "L": "s"}
KINDS = [(r.api_version, r.kind) for r in scheme.RESOURCES] + [
    ("autoscaling/v1", "Scale"), ("policy/v1", "Eviction"), ("authentication.k8s.io/v1", "TokenRequest"),
    ("v1", "DeleteOptions"), ("v1", "Status"),
]  # fmt: skip


def proto_name(name: str) -> str:
    return "M_" + name.replace(".", "_")


def pool() -> descriptor_pool.DescriptorPool:
    file = descriptor_pb2.FileDescriptorProto(name="k.proto", syntax="proto2")

    def add(message: Any, number: int, kind: str, *, repeated: bool = False) -> None:
        field = message.field.add(name=f"f{number}", number=number)
        field.label = FIELD.LABEL_REPEATED if repeated else FIELD.LABEL_OPTIONAL
        if kind in SCALARS:
            field.type = SCALARS[kind]
        else:
            field.type, field.type_name = FIELD.TYPE_MESSAGE, "." + proto_name(kind)

    for kind, parts in SPECIAL.items():
        message = file.message_type.add(name=proto_name(kind))
        for number, part in enumerate(parts, 1):
            add(message, number, part, repeated=kind == "L")
    for kind in {f.kind for fields in messages.table().values() for f in fields.values() if f.shape == "{"}:
        pair = file.message_type.add(name=proto_name(f"pair.{kind}"))
        add(pair, 1, "s")
        add(pair, 2, kind)
    for name, fields in messages.table().items():
        message = file.message_type.add(name=proto_name(name))
        for number, field in fields.items():
            kind = f"pair.{field.kind}" if field.shape == "{" else field.kind
            add(message, number, kind, repeated=field.shape in ("[", "{"))
    made = descriptor_pool.DescriptorPool()
    made.Add(file)
    return made


POOL = pool()


def blank(kind: str) -> Any:
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(proto_name(kind)))()


def google(kind: str, value: Any) -> Any:
    """The value as Google's implementation holds it."""
    if kind in SCALARS:
        return base64.b64decode(value) if kind == "b" else value
    made = blank(kind)
    if kind == "Q":
        made.f1 = value
    elif kind == "I":
        made.f1, made.f2, made.f3 = (1, 0, value) if isinstance(value, str) else (0, value, "")
    elif kind in "TU":
        made.f1, made.f2 = moment(value)
    elif kind in "FR":
        made.f1 = b'{"a":1}'
    elif kind == "L":
        made.f1.extend(value)
    else:
        fill(made, kind, value)
    return made


def fill(made: Any, name: str, obj: Object) -> None:
    for number, field in messages.table()[name].items():
        if not field.name:
            inner = google(field.kind, obj)
            if inner.SerializeToString():
                getattr(made, f"f{number}").CopyFrom(inner)
        elif field.name in obj:
            put(made, f"f{number}", field, obj[field.name])


def put(made: Any, at: str, field: Field, value: Any) -> None:
    if field.shape == "[":
        getattr(made, at).extend(google(field.kind, item) for item in value)
    elif field.shape == "{":
        for key in sorted(value):
            pair = getattr(made, at).add()
            pair.f1 = key
            put(pair, "f2", Field("", "", field.kind), value[key])
    elif field.kind in SCALARS:
        setattr(made, at, google(field.kind, value))
    else:
        getattr(made, at).CopyFrom(google(field.kind, value))


TIMES = {"2026-01-02T03:04:05Z": 1767323045, "1970-01-01T00:00:00Z": 0, "1969-12-31T23:59:59Z": -1}


def moment(text: str) -> tuple[int, int]:
    whole, _, micros = text.partition(".")
    return TIMES[whole.removesuffix("Z") + "Z"], int(micros.removesuffix("Z") or 0) * 1000


TEXT = st.sampled_from(["a", "web", "ä", "x" * 200])
NUMBERS = st.integers(-(2**63), 2**63 - 1)
LEAVES: dict[str, Any] = {
    "s": TEXT,
    "i": NUMBERS.filter(bool),
    "t": st.just(True),
    "d": st.just(1.5),
    "b": st.binary(min_size=1, max_size=4).map(lambda b: base64.b64encode(b).decode()),
    "Q": st.sampled_from(["100m", "1Gi", "0"]),
    "I": st.sampled_from([0, 80, -1, "http", "25%"]),
    "T": st.sampled_from(sorted(TIMES)),
    "U": st.sampled_from([text.replace("Z", ".000123Z") for text in sorted(TIMES)]),
    "F": st.just({"a": 1}),
    "R": st.just({"a": 1}),
    "L": st.lists(TEXT, min_size=1, max_size=2),
}
KEPT_ZERO: dict[str, Any] = {"s": st.just(""), "i": st.just(0), "t": st.just(False)}


def plain(draw: Any, kind: str, depth: int, *, zero: bool) -> Any:
    if kind in LEAVES:
        return draw(LEAVES[kind] | KEPT_ZERO[kind] if zero and kind in KEPT_ZERO else LEAVES[kind])
    return message(draw, kind, depth + 1)


def message(draw: Any, name: str, depth: int) -> Object:
    """Some fields of a message; deep down none."""
    found: Object = {}
    fields = list(messages.table()[name].values())
    if depth > 4 or not fields:
        return found
    for field in draw(st.lists(st.sampled_from(fields), max_size=4 if depth else 6, unique=True)):
        if not field.name:
            found |= {key: value for key, value in message(draw, field.kind, depth).items() if key not in found}
        elif field.shape == "[":
            found[field.name] = [plain(draw, field.kind, depth, zero=True) for _ in range(draw(st.integers(1, 2)))]
        elif field.shape == "{":
            found[field.name] = {key: plain(draw, field.kind, depth, zero=True) for key in ("b", "a")}
        else:
            value = plain(draw, field.kind, depth, zero=bool(field.shape))
            if field.shape or value != {}:
                found[field.name] = value
    return found


@st.composite
def objects(draw: Any) -> Object:
    api_version, kind = draw(st.sampled_from(KINDS))
    name = messages.name_of(api_version, kind)
    assert name is not None
    return {**message(draw, name, 0), "kind": kind, "apiVersion": api_version}


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(objects())
def test_what_is_written_is_read_back_and_is_what_google_would_write(obj: Object) -> None:
    name = messages.name_of(obj["apiVersion"], obj["kind"])
    assert name is not None
    data = protobuf.encode(obj)
    assert protobuf.decode(data) == obj
    raw = dict(wire.fields(data[4:]))[2]
    theirs = google(name, {key: value for key, value in obj.items() if key not in ("kind", "apiVersion")})
    meta = wire.opaque(dict(wire.fields(data[4:]))[1])
    envelope = b"k8s\x00" + wire.bytes_field(1, meta) + wire.bytes_field(2, theirs.SerializeToString())
    assert protobuf.decode(envelope) == obj
    ours = blank(name)
    ours.ParseFromString(raw)
    assert ours == theirs
    assert ours.SerializeToString(deterministic=True) == theirs.SerializeToString(deterministic=True)


def test_equal_objects_give_equal_bytes_in_the_form_of_the_envelope() -> None:
    obj = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}, "data": {"k": "v", "b": ""}}
    meta, data = "0a030a0161", "1205" + "0a01621200" + "1206" + "0a016b120176"
    golden = "6b387300" + "0a0f" + "0a027631" + "1209436f6e6669674d6170" + "1214" + meta + data + "1a00" + "2200"
    again = {**obj, "data": {"b": "", "k": "v"}}
    assert protobuf.encode(obj).hex() == protobuf.encode(again).hex() == golden


def test_a_list_holds_bare_items() -> None:
    items = [{"metadata": {"name": name}} for name in ("a", "b")]
    found = protobuf.encode(
        {"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "7"}, "items": items}
    )
    parts = list(wire.fields(wire.opaque(dict(wire.fields(found[4:]))[2])))
    assert parts == [(1, b"\x12\x017"), (2, b"\x0a\x03\x0a\x01a"), (2, b"\x0a\x03\x0a\x01b")]


def test_a_watch_frame_is_a_length_and_a_bare_event_around_an_envelope() -> None:
    pod = {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a"}}
    frame = protobuf.watch_frame("ADDED", pod)
    assert int.from_bytes(frame[:4], "big") == len(frame) - 4
    event = dict(wire.fields(frame[4:]))
    assert event[1] == b"ADDED"
    assert protobuf.decode(wire.opaque(dict(wire.fields(wire.opaque(event[2])))[1])) == pod


@pytest.mark.parametrize(
    "obj",
    [
        {"kind": "Table", "apiVersion": "meta.k8s.io/v1"},
        {"kind": "Pod", "apiVersion": "v1", "metadata": []},
        {"kind": "Pod", "apiVersion": "v1", "metadata": {"generation": "x"}},
        {"kind": "Secret", "apiVersion": "v1", "data": {"a": "no base64"}},
        {"kind": "Pod", "apiVersion": "v1", "metadata": {"creationTimestamp": "yesterday"}},
    ],
)
def test_an_object_without_protobuf_form_is_refused(obj: Object) -> None:
    with pytest.raises(protobuf.Unencodable):
        protobuf.encode(obj)


def test_packed_numbers_are_read_like_single_ones() -> None:
    name = "core.v1.PodSecurityContext"
    number = next(n for n, field in messages.table()[name].items() if field.name == "supplementalGroups")
    context = next(n for n, field in messages.table()["core.v1.PodSpec"].items() if field.name == "securityContext")
    packed = wire.bytes_field(number, wire.varint(5) + wire.varint(-1) + wire.varint(300))
    raw = wire.bytes_field(2, wire.bytes_field(context, packed))
    meta = wire.bytes_field(1, b"v1") + wire.bytes_field(2, b"Pod")
    found = protobuf.decode(b"k8s\x00" + wire.bytes_field(1, meta) + wire.bytes_field(2, raw))
    assert found["spec"]["securityContext"] == {"supplementalGroups": [5, -1, 300]}


def flat(name: str) -> set[str]:
    """The JSON names of a message, those of inlined ones among them."""
    fields = messages.table()[name].values()
    return set(itertools.chain.from_iterable(flat(f.kind) if not f.name else {f.name} for f in fields))


def shapes(shape: Any, name: str, seen: dict[str, Any]) -> None:
    """Walk a schema and the table side by side."""
    if name in seen:
        return
    seen[name] = shape
    for field in messages.table()[name].values():
        if not field.name:
            continue
        below = shape.fields[field.name].shape
        while below.tag in ("list", "map") and below.item is not None:
            below = below.item
        if field.kind in messages.table() and below.tag == "struct":
            shapes(below, field.kind, seen)


@pytest.mark.parametrize("resource", scheme.RESOURCES, ids=lambda r: f"{r.group}.{r.kind}")
def test_the_table_has_the_fields_of_the_schemas(resource: scheme.Resource) -> None:
    catalog = schema.catalog()
    name = messages.name_of(resource.api_version, resource.kind)
    assert name is not None
    seen: dict[str, Any] = {}
    shape = catalog.shape(catalog.definition(resource.group, resource.version, resource.kind))
    shapes(shape, name, seen)
    for message_name, found in seen.items():
        assert flat(message_name) <= set(found.fields), message_name
        assert set(found.fields) - flat(message_name) in (set(), {"kind", "apiVersion"}), message_name


@st.composite
def damaged(draw: Any) -> bytes:
    """A good envelope with some bytes changed, taken out or put in."""
    data = bytearray(protobuf.encode(draw(objects())))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(4, len(data) - 1))
        data[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(data)


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(damaged())
def test_damaged_bytes_are_an_object_or_malformed_and_nothing_else(data: bytes) -> None:
    try:
        assert isinstance(protobuf.decode(data), dict)
    except protobuf.Malformed as error:
        assert str(error)
