"""The strategies of ConfigMaps, Secrets and ServiceAccounts.

Owns keys, sizes, types and immutability. Must not know who reads them.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

from controlplane.apiserver.registry import columns, field, names
from controlplane.apiserver.registry.columns import Column, count
from controlplane.apiserver.registry.strategy import JSON, Plain

MAX_SIZE = 1024 * 1024
_WHOLE_OBJECT = "[]"
_FROZEN = "field is immutable when `immutable` is set"
_ACCOUNT = "kubernetes.io/service-account.name"
_REDACTED = "<secret contents redacted>"
_NEEDED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "kubernetes.io/dockercfg": (".dockercfg",),
        "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
        "kubernetes.io/ssh-auth": ("ssh-privatekey",),
        "kubernetes.io/tls": ("tls.crt", "tls.key"),
    }
)
_JSON_TYPES = ("kubernetes.io/dockercfg", "kubernetes.io/dockerconfigjson")


def _keys(path: str, keys: Iterable[str]) -> field.Errors:
    errors: field.Errors = []
    for key in keys:
        if faults := names.config_key(key):
            errors += field.invalids(f"{path}[{key}]", key, faults)
    return errors


def _frozen(obj: JSON, old: JSON, parts: tuple[str, ...]) -> field.Errors:
    if not old.get("immutable"):
        return []
    errors = [] if obj.get("immutable") else [field.forbidden("immutable", _FROZEN)]
    return errors + [field.forbidden(key, _FROZEN) for key in parts if (obj.get(key) or {}) != (old.get(key) or {})]


def _check_base64(values: Mapping[str, Any] | None) -> None:
    """Raises ValueError naming the first byte that is no base64."""
    for value in (values or {}).values():
        try:
            base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError, TypeError):
            raise ValueError(f"illegal base64 data at input byte {_first_bad(value)}") from None


def _first_bad(value: Any) -> int:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    text = value if isinstance(value, str) else ""
    bare = text.rstrip("=")
    bad = (index for index, char in enumerate(bare) if char not in alphabet)
    return next(bad, len(bare) // 4 * 4 if len(text) % 4 else len(bare))


def _decoded_size(text: str) -> int:
    return len(text) // 4 * 3 - (text[-2:].count("=") if text else 0)


class ConfigMaps(Plain):
    """ConfigMaps."""

    columns: tuple[Column, ...] = (columns.NAME, count("Data", "Number of keys."), columns.AGE)

    def fill(self, obj: JSON) -> None:
        _check_base64(obj.get("binaryData"))

    def validate(self, obj: JSON) -> field.Errors:
        data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
        errors = _keys("data", data)
        for key in data.keys() & binary.keys():
            errors.append(field.invalid(f"data[{key}]", key, "duplicate of key present in binaryData"))
        errors += _keys("binaryData", binary)
        size = sum(len(value.encode()) for value in data.values()) + sum(map(_decoded_size, binary.values()))
        return [*errors, field.too_long(_WHOLE_OBJECT, MAX_SIZE)] if size > MAX_SIZE else errors

    def validate_change(self, obj: JSON, old: JSON) -> field.Errors:
        return _frozen(obj, old, ("data", "binaryData"))

    def cells(self, obj: JSON, now: datetime) -> list[Any]:
        size = len(obj.get("data") or ()) + len(obj.get("binaryData") or ())
        return [columns.name(obj), size, columns.age(obj, now)]


class Secrets(Plain):
    """Secrets: `stringData` is written into `data` and never stored."""

    columns: tuple[Column, ...] = (
        columns.NAME,
        Column("Type", "What the data is for."),
        count("Data", "Number of keys."),
        columns.AGE,
    )

    def fill(self, obj: JSON) -> None:
        obj["type"] = obj.get("type") or "Opaque"
        _check_base64(obj.get("data"))
        if texts := obj.pop("stringData", None):
            data = obj.setdefault("data", {})
            for key, text in texts.items():
                data[key] = base64.b64encode(str(text).encode()).decode()

    def validate(self, obj: JSON) -> field.Errors:
        data, kind = obj.get("data") or {}, obj.get("type") or ""
        errors = _keys("data", data)
        if sum(map(_decoded_size, data.values())) > MAX_SIZE:
            errors.append(field.too_long("data", MAX_SIZE))
        notes = (obj.get("metadata") or {}).get("annotations") or {}
        if kind == "kubernetes.io/service-account-token" and not notes.get(_ACCOUNT):
            errors.append(field.required(f"metadata.annotations[{_ACCOUNT}]"))
        if kind == "kubernetes.io/basic-auth" and not data.keys() & {"username", "password"}:
            errors += [field.required("data[username]"), field.required("data[password]")]
        for key in _NEEDED.get(kind, ()):
            missing = not data.get(key) if kind.endswith("ssh-auth") else key not in data
            if missing:
                errors.append(field.required(f"data[{key}]"))
            elif kind in _JSON_TYPES:
                errors += _json_object(f"data[{key}]", data[key])
        return errors

    def validate_change(self, obj: JSON, old: JSON) -> field.Errors:
        return field.immutable("type", obj.get("type"), old.get("type")) + _frozen(obj, old, ("data",))

    def field_values(self, obj: JSON) -> dict[str, str]:
        return {"type": obj.get("type") or ""}

    def cells(self, obj: JSON, now: datetime) -> list[Any]:
        return [columns.name(obj), obj.get("type") or "", len(obj.get("data") or ()), columns.age(obj, now)]


def _json_object(path: str, text: str) -> field.Errors:
    content = base64.b64decode(text)
    try:
        good = isinstance(json.loads(content), dict)
        why = "json: cannot unmarshal into Go value of type map[string]interface {}"
    except ValueError:
        good, why = False, _json_fault(content)
    return [] if good else [field.invalid(path, _REDACTED, why)]


def _json_fault(content: bytes) -> str:
    text = content.decode("utf-8", "replace").strip()
    if not text:
        return "unexpected end of JSON input"
    if text[0] not in '{["-0123456789tfn':
        return f"invalid character '{text[0]}' looking for beginning of value"
    return "unexpected end of JSON input"


class ServiceAccounts(Plain):
    """ServiceAccounts."""

    columns: tuple[Column, ...] = (columns.NAME, count("Secrets", "Number of referenced secrets."), columns.AGE)

    def cells(self, obj: JSON, now: datetime) -> list[Any]:
        return [columns.name(obj), len(obj.get("secrets") or ()), columns.age(obj, now)]
