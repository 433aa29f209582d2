"""`nodeagent agent --dry-run`: the plan for the pods of a manifest and what is observed of them, and nothing done.

Owns reading both and showing the plan. Must not know how plans are made.

What is observed is a document with `sandboxes` and `containers`, in the fields of `nodeagent.cri.records` (`exitCode`
or `exit_code`), and `probes` by container and kind (`main/liveness: false`); times are Unix nanoseconds.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from kube import types
from kube.runtime import config as documents
from nodeagent import errors
from nodeagent.cri import labels, records
from nodeagent.pods import observed, plan, spec

Json = dict[str, Any]
Record = TypeVar("Record", records.Sandbox, records.Container)
PARTS = ("sandboxes", "containers", "probes")


def show(manifest: Path, seen: Path | None, *, now: float) -> str:
    """The plans of a manifest's pods as JSON, by namespace/name. Raises ConfigError. `now` in Unix seconds."""
    found = {}
    for pod in pods(manifest):
        document = read(seen) if seen is not None else {}
        found[spec.key(pod)] = plan.plan(pod, situation(pod, document, source=str(seen), now=now))
    return msgspec.json.format(msgspec.json.encode(found), indent=2).decode()


def pods(manifest: Path) -> list[types.Pod]:
    """The pods of a file or folder. Raises ConfigError."""
    try:
        kinds = documents.load(manifest)
    except documents.ConfigError as e:
        raise errors.ConfigError(str(e)) from e
    if others := set(kinds) - {"Pod"}:
        raise errors.ConfigError(f"{manifest}: kind: {', '.join(sorted(others))}: only Pod can be planned")
    if not kinds.get("Pod"):
        raise errors.ConfigError(f"{manifest}: there is no Pod in it")
    try:
        found = [msgspec.convert(dict(document), types.Pod) for document in kinds["Pod"]]
    except msgspec.ValidationError as e:
        raise errors.ConfigError(f"{manifest}: {e}") from e
    return [pod if pod.metadata.namespace else in_default(pod) for pod in found]


def in_default(pod: types.Pod) -> types.Pod:
    """The pod in the namespace that it gets when it names none."""
    return msgspec.structs.replace(pod, metadata=msgspec.structs.replace(pod.metadata, namespace="default"))


def read(path: Path) -> Json:
    """What is observed, as it is written. Raises ConfigError."""
    try:
        found = msgspec.yaml.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError) as e:
        raise errors.ConfigError(f"{path}: {e}") from e
    if not isinstance(found, dict) or (unknown := set(found) - set(PARTS)):
        what = ", ".join(sorted(unknown)) if isinstance(found, dict) else "not a mapping"
        raise errors.ConfigError(f"{path}: {what}: want {', '.join(PARTS)}")
    return found


def situation(pod: types.Pod, document: Mapping[str, Any], *, source: str, now: float) -> plan.Situation:
    """The planner's other input. Raises ConfigError."""
    meta = pod.metadata
    box = {"uid": meta.uid, "namespace": meta.namespace, "name": meta.name, "labels": {labels.POD_UID: meta.uid}}
    boxes = [
        record({**box, **each}, records.Sandbox, where=f"{source}: sandboxes[{number}]")
        for number, each in enumerate(document.get("sandboxes") or ())
    ]
    newest = max(boxes, key=lambda each: (each.created_at, each.attempt), default=None)
    inside = {"id": "", "sandbox_id": newest.id if newest else ""}
    containers = [
        record({**inside, **each}, records.Container, where=f"{source}: containers[{number}]")
        for number, each in enumerate(document.get("containers") or ())
    ]
    results: dict[tuple[str, str], bool | None] = {}
    for name, passed in (document.get("probes") or {}).items():
        container, _, kind = str(name).partition("/")
        results[container, kind] = passed
    return plan.Situation(seen=observed.of(meta.uid, boxes, containers), results=results, now=now)


def record(fields: Json, kind: type[Record], *, where: str) -> Record:
    """One sandbox or container. Raises ConfigError naming the field."""
    known = {field.name for field in dataclasses.fields(kind)}
    named = {re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower(): value for name, value in fields.items()}
    if unknown := set(named) - known:
        raise errors.ConfigError(f"{where}: unknown field {', '.join(sorted(unknown))}")
    try:
        return msgspec.convert(named, kind)
    except msgspec.ValidationError as e:
        raise errors.ConfigError(f"{where}: {e}") from e
