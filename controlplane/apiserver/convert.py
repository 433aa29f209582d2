"""Objects that are served by two API groups but stored once: events of the core group and of events.k8s.io.

Pure: one representation in, the other out. Every other resource is stored as it is served.
"""

from typing import Any

import orjson

from kube.scheme import EVENTS, Resource

Object = dict[str, Any]
# events.k8s.io/v1 name -> core/v1 name
RENAMED = {
    "regarding": "involvedObject",
    "note": "message",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
    "reportingController": "reportingComponent",
}
BACK = {old: new for new, old in RENAMED.items()}


def served(resource: Resource, data: bytes) -> bytes:
    """Stored bytes as this resource shows them."""
    if not resource.storage:
        return data
    return orjson.dumps(_renamed(orjson.loads(data), BACK, resource.api_version))


def stored(resource: Resource, obj: Object) -> Object:
    """A decoded body as it is stored."""
    return _renamed(obj, RENAMED, EVENTS.api_version) if resource.storage else obj


def _renamed(obj: Object, names: dict[str, str], api_version: str) -> Object:
    return {names.get(name, name): value for name, value in obj.items()} | {"apiVersion": api_version}


def home(resource: Resource) -> Resource:
    """The resource whose rules and storage a request for `resource` ends at."""
    return EVENTS if resource.storage else resource
