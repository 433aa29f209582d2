"""Builds `definitions.json` from the 1.36 schemas of the dev-only package kubernetes-validate.

Run `python -m kube.schema.build`. Owns the selection and the reduction: definitions the scheme's kinds reach, without
upstream's sentences, one definition a line, in a fixed order. Must not be imported by anything that runs.
"""

from __future__ import annotations

import importlib.resources
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kube import scheme

VERSION = "v1.36.0"
TARGET = Path(__file__).with_name("definitions.json")
_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_GVK = "x-kubernetes-group-version-kind"
_KEPT = (
    "format",
    "required",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
    "x-kubernetes-patch-merge-key",
    "x-kubernetes-patch-strategy",
)


def source() -> dict[str, Any]:
    """Every definition of the source package, by its full name."""
    folder = importlib.resources.files("kubernetes_validate") / "kubernetes-json-schema" / f"{VERSION}-local"
    definitions: dict[str, Any] = json.loads((folder / "_definitions.json").read_bytes())["$defs"]
    return definitions


def build(definitions: Mapping[str, Any]) -> bytes:
    """The text of `definitions.json`: the same input always gives the same bytes."""
    names: set[str] = set()
    for root in _roots(definitions):
        _reach(root, definitions, names)
    lines = [f"{json.dumps(name)}:{_line(definitions[name])}" for name in sorted(names)]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def _line(definition: Mapping[str, Any]) -> str:
    return json.dumps(_reduced(definition), separators=(",", ":"), sort_keys=True)


def _roots(definitions: Mapping[str, Any]) -> Iterator[str]:
    """The definitions of the scheme's kinds, their lists, and the kinds their subresources speak."""
    by_kind = {
        (gvk["group"], gvk["version"], gvk["kind"]): name
        for name, definition in definitions.items()
        for gvk in definition.get(_GVK, ())
        if not name.startswith(_META)
    }
    for resource in scheme.RESOURCES:
        wanted = [(resource.group, resource.version, kind) for kind in (resource.kind, resource.list_kind)]
        spoken = [scheme.subresource(resource, name=name) for name in resource.subresources]
        wanted += [(sub.group, sub.version, sub.kind) for sub in spoken if sub is not None]
        yield from (by_kind[gvk] for gvk in wanted if gvk in by_kind)
    yield from (_META + "DeleteOptions", _META + "Status")


def _reach(name: str, definitions: Mapping[str, Any], found: set[str]) -> None:
    if name in found:
        return
    found.add(name)
    for target in _references(definitions[name]):
        _reach(target, definitions, found)


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, Mapping):
        if "$ref" in schema:
            yield _short(schema["$ref"])
        for value in schema.values():
            yield from _references(value)


def _short(reference: str) -> str:
    return reference.rpartition("/")[2]


def _reduced(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema without descriptions, enumerations of versions, and the source's widening with null."""
    result = {key: schema[key] for key in _KEPT if key in schema}
    if "type" in schema:
        result["type"] = _plain_type(schema["type"])
    if "$ref" in schema:
        result["$ref"] = _short(schema["$ref"])
    if "properties" in schema:
        result["properties"] = {name: _reduced(value) for name, value in schema["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), Mapping):
            result[key] = _reduced(schema[key])
    if "oneOf" in schema:
        result["oneOf"] = [{"type": _plain_type(option["type"])} for option in schema["oneOf"]]
    if _GVK in schema:
        result[_GVK] = [gvk for gvk in schema[_GVK] if len(schema[_GVK]) == 1 or gvk["group"] == ""]
    return result


def _plain_type(type_: str | list[str]) -> str:
    return type_ if isinstance(type_, str) else next(name for name in type_ if name != "null")


def main() -> None:
    """Writes the file, or with `--check` fails when it is stale."""
    fresh = build(source())
    if "--check" in sys.argv[1:]:
        sys.exit(0 if TARGET.read_bytes() == fresh else "definitions.json is stale: run python -m kube.schema.build")
    TARGET.write_bytes(fresh)


if __name__ == "__main__":
    main()
