"""Request bodies: read within a limit, decoded to plain values. Owns encodings and size; knows no kind."""

import json
from typing import Any

import orjson
import yaml

from controlplane.apiserver import negotiate
from controlplane.apiserver.reply import Receive
from controlplane.apiserver.request import Request
from kube import protobuf, status

LIMIT = 3 * 1024 * 1024
ALIAS_LIMIT = 100
READABLE = (negotiate.JSON, negotiate.YAML, negotiate.PROTOBUF)


class ClientGone(Exception):
    """The client went away before its body was complete."""


async def read(request: Request, receive: Receive, *, limit: int = LIMIT) -> bytes:
    """The whole body; 413 above `limit` bytes."""
    if int(request.headers.get("content-length") or 0) > limit:
        raise status.too_large(f"limit is {limit}")
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        if chunk := message.get("body", b""):
            size += len(chunk)
            if size > limit:
                raise status.too_large(f"limit is {limit}")
            chunks.append(chunk)
        if not message.get("more_body"):
            return b"".join(chunks)


def media_type(request: Request) -> str:
    """The media type of the body, without parameters; JSON when the client names none."""
    return request.headers.get("content-type", negotiate.JSON).partition(";")[0].strip().lower() or negotiate.JSON


def decode(data: bytes, *, media: str) -> dict[str, Any]:
    """The object in a JSON, YAML or protobuf body; 400 says where it is malformed, 415 that the type is not read."""
    if media in (negotiate.JSON, "*/*"):
        value = load_json(data)
    elif media == negotiate.YAML:
        value = load_yaml(data)
    elif media == negotiate.PROTOBUF:
        value = load_protobuf(data)
    else:
        raise status.unsupported_media_type(READABLE)
    if not isinstance(value, dict):
        raise status.bad_request(f"the body must be one object, found {_kind_of(value)}")
    return value


def load_json(data: bytes) -> Any:
    """JSON as plain values; 400 with position and reason."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as e:
        what = "unexpected end of JSON input" if not data.strip() else f"{e.msg} at line {e.lineno} column {e.colno}"
        raise status.bad_request(f"error decoding the body: {what}") from e


def load_yaml(data: bytes) -> Any:
    """YAML as plain values (JSON types only), with few aliases; 400 with the reason."""
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        aliases = sum(isinstance(event, yaml.AliasEvent) for event in yaml.parse(data, Loader=loader))
        if aliases > ALIAS_LIMIT:
            raise status.bad_request(f"error decoding the body: more than {ALIAS_LIMIT} YAML aliases")
        value = yaml.load(data, Loader=loader)
        return orjson.loads(orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS))
    except (yaml.YAMLError, orjson.JSONEncodeError, UnicodeDecodeError) as e:
        raise status.bad_request(f"error converting YAML to JSON: yaml: {' '.join(str(e).split())}") from e


def load_protobuf(data: bytes) -> Any:
    """Kubernetes' protobuf as plain values; 400 with the reason."""
    try:
        return protobuf.decode(data)
    except protobuf.Malformed as e:
        raise status.bad_request(f"error decoding the body: protobuf: {e}") from e


class _Pairs(list[tuple[str, Any]]):
    """One JSON object with every key it was given."""


def duplicates(data: bytes) -> list[str]:
    """The dotted paths of keys given twice in one JSON object, each once."""
    found: dict[str, None] = {}
    _walk(json.loads(data, object_pairs_hook=_Pairs), "", found)
    return list(found)


def _walk(value: Any, path: str, found: dict[str, None]) -> None:
    if isinstance(value, _Pairs):
        seen: set[str] = set()
        for key, below in value:
            here = f"{path}.{key}" if path else key
            if key in seen:
                found[here] = None
            seen.add(key)
            _walk(below, here, found)
    elif isinstance(value, list):
        for index, below in enumerate(value):
            _walk(below, f"{path}[{index}]", found)


def _kind_of(value: Any) -> str:
    return {list: "a list", str: "a string", type(None): "null", bool: "a boolean"}.get(type(value), "a number")
