"""The rules of metadata that hold for every kind: what the server sets, what a client may not change.

Pure: values in, values out; the clock and randomness are handed in or come from the operating system's generator.
"""

import secrets
from datetime import datetime
from typing import Any
from uuid import uuid4

from kube import status
from kube.scheme import Resource

Object = dict[str, Any]
ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
MAX_BASE = 58
SERVER_OWNED = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink")


def stamp(now: datetime) -> str:
    """A time as metadata writes it: whole seconds, UTC."""
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")


def check_type(obj: Object, resource: Resource) -> None:
    """The object must be of the kind the URL serves; absent fields are filled in. 400 says what differs."""
    version, kind = obj.get("apiVersion") or resource.api_version, obj.get("kind") or resource.kind
    if version != resource.api_version:
        raise status.bad_request(
            f"the API version in the data ({version}) does not match the expected API version ({resource.api_version})"
        )
    if kind != resource.kind:
        raise status.bad_request(f"the kind in the data ({kind}) does not match the expected kind ({resource.kind})")
    obj["apiVersion"], obj["kind"] = version, kind
    if obj.get("metadata") is None:
        obj["metadata"] = {}
    if not isinstance(obj["metadata"], dict):
        raise status.bad_request("metadata: want an object")


def place(obj: Object, resource: Resource, *, namespace: str, name: str = "") -> None:
    """Put the object where the URL says; 400 when its own metadata says otherwise."""
    metadata = obj["metadata"]
    if resource.namespaced:
        if metadata.setdefault("namespace", namespace) != namespace:
            raise status.bad_request(
                f"the namespace of the provided object does not match the namespace sent on the request"
                f" ({metadata['namespace']} != {namespace})"
            )
    elif metadata.pop("namespace", ""):
        raise status.bad_request("namespace: cluster-scoped objects have none")
    if name and metadata.setdefault("name", name) != name:
        raise status.bad_request(
            f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})"
        )


def key_of(resource: Resource, *, namespace: str, name: str) -> str:
    """The store key of an object."""
    return f"{namespace}/{name}" if resource.namespaced else name


def generate_name(base: str) -> str:
    """A name from generateName: at most 58 characters of it and 5 random ones."""
    return base[:MAX_BASE] + "".join(secrets.choice(ALPHABET) for _ in range(5))


def begin(obj: Object, *, now: datetime) -> None:
    """What the server sets on a new object."""
    metadata = obj["metadata"]
    for name in (*SERVER_OWNED, "resourceVersion", "generation"):
        metadata.pop(name, None)
    metadata["uid"] = str(uuid4())
    metadata["creationTimestamp"] = stamp(now)


def carry(obj: Object, old: Object, resource: Resource) -> None:
    """Keep what a client may not change on an update; 409 for another uid."""
    metadata, before = obj["metadata"], old["metadata"]
    if (uid := metadata.get("uid")) and uid != before.get("uid"):
        message = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {before.get('uid')}"
        raise status.conflict(resource, before["name"], message)
    for name in (*SERVER_OWNED, "generation"):
        metadata.pop(name, None)
        if name in before:
            metadata[name] = before[name]
    metadata.pop("resourceVersion", None)
